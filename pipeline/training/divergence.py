"""Where a run diverges: the same place on every rank, whichever of them has found it."""

from collections.abc import Iterable
from typing import Any

from pipeline.errors import Diverged

ORDER = ("leg", "epoch", "step", "network", "term")


def raise_earliest(places: Iterable[dict[str, Any] | None]) -> None:
    """Raise Diverged at the earliest of some places; None is no place, and without any nothing is raised.

    places: `Diverged.at` of each rank or leg, the same on all ranks.
    """
    found = [place for place in places if place is not None]
    if found:
        raise Diverged(**min(found, key=lambda place: [place[key] for key in ORDER]))

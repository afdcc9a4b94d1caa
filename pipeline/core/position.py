"""Where a run is: all that a checkpoint holds besides the weights of the networks that learn at this moment."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.history import Row
from pipeline.core.live import State

COUNTERS = ("leg", "epoch", "step", "seconds", "steps", "images", "noted")


@dataclass
class Trained:
    """A network after its last leg, and at its best epoch on the validation split."""

    last: State
    best: State
    validation: dict[str, Any]


@dataclass
class Position:
    """Leg, epoch and step that come next; what was spent; the history; what is trained.

    noted: legs whose notes are in the history.  memo: what `Method.legs` computed from networks.
    passes: of each network (`Live.passes`).
    """

    leg: int = 0
    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    steps: int = 0
    images: int = 0
    noted: int = 0
    rows: list[Row] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)
    trained: dict[str, Trained] = field(default_factory=dict)
    passes: dict[str, list[int]] = field(default_factory=dict)

    def keep_best(self, name: str, weights: Callable[[], State], top1: float, epoch: int) -> None:
        """Take a network's weights if they are the first of its leg or better on validation than any before."""
        trained = self.trained.get(name)
        if trained is None or epoch <= 1 or top1 > trained.validation["best"]:
            best = weights()
            validation = {"last": top1, "best": top1, "best_epoch": epoch}
            self.trained[name] = Trained(last=best, best=best, validation=validation)
        else:
            trained.validation["last"] = top1

    def state(self) -> dict[str, Any]:
        """As plain data."""
        return {
            **{key: getattr(self, key) for key in COUNTERS},
            "rows": self.rows,
            "memo": self.memo,
            "passes": self.passes,
            "trained": {name: vars(trained) for name, trained in self.trained.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """To where `state` was made; memo and passes stay the same objects."""
        for key in COUNTERS:
            setattr(self, key, state[key])
        self.rows = [tuple(row) for row in state["rows"]]
        self.memo.update(state["memo"])
        for name, passes in state["passes"].items():
            self.passes[name][:] = passes
        self.trained = {name: Trained(**trained) for name, trained in state["trained"].items()}

"""Values of params.yaml that are valid, and probably not meant. `stages.check` prints a line for each."""

from collections.abc import Iterator
from typing import Any


def cautions(values: dict[str, Any]) -> Iterator[str]:
    """DKD whose loss weights grow for longer than networks train, so that they never reach their values.

    values: the sections of a valid params.yaml, as objects of their schemas.
    """
    epochs = values["train"].epochs
    for name, entry in values["methods"].items():
        if entry.is_ == "dkd" and (warmup := values[name].warmup_epochs) > epochs:
            yield (
                f"{name}.warmup_epochs: {warmup} is more than train.epochs ({epochs}): "
                f"alpha and beta end at {epochs}/{warmup} of their values"
            )

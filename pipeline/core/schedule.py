"""The learning rate as a pure function of progress: nothing of it is ever saved."""

import math
from typing import Protocol


class Schedule(Protocol):
    """The keys of params.yaml's `train` that decide the learning rate."""

    schedule: str
    milestones: tuple[float, ...]
    gamma: float
    warmup_epochs: int


def factor(train: Schedule, step: int, steps: int, epochs: int) -> float:
    """What train.lr is multiplied by at a step (counted from 0) of a leg of so many steps and epochs.

    cosine: (1 + cos(pi t)) / 2; step: gamma for every milestone passed; constant: 1.  t in [0, 1) is the fraction
    of the leg that is done.  A linear warm-up over warmup_epochs multiplies it.
    """
    t = step / steps
    warmup = train.warmup_epochs * steps / epochs
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if train.schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * t))
    if train.schedule == "step":
        return rise * train.gamma ** sum(t >= milestone for milestone in train.milestones)
    return rise

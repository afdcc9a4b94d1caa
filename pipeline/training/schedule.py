"""The learning rate as a pure function of progress, so that no checkpoint needs to hold it."""

import math
from typing import TYPE_CHECKING, Protocol

from pipeline.core.interface import Network
from pipeline.models.names import ZOO

if TYPE_CHECKING:
    from pipeline.params.schema import Train


def learning_rate(recipe: "Train", network: Network) -> float:
    """The learning rate of a network before the schedule; `auto` is resolved as docs/parameters.md says.

    Networks of timm get a smaller rate than those of the zoo, and weights that were trained before an even smaller one,
    because both diverge at the rate of a small network from scratch.
    """
    if recipe.lr is not None:
        return recipe.lr * network.lr_scale
    lr = 0.001 if recipe.optimizer == "adamw" else 0.1 if network.arch in ZOO else 0.01
    return (lr / 10 if was_trained(network) else lr) * network.lr_scale


def was_trained(network: Network) -> bool:
    """Whether a network begins with weights that were trained elsewhere."""
    return network.pretrained or network.checkpoint is not None


class Length(Protocol):
    """What the schedule reads of a leg."""

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        ...

    @property
    def n_steps(self) -> int:
        """Batches in an epoch."""
        ...


def lr_factor(recipe: "Train", leg: Length, epoch: int, step: int) -> float:
    """The factor of the learning rate at a step of a leg.

    With t in [0, 1) the fraction of the leg's steps that are done:
    cosine: (1 + cos(pi t)) / 2;  step: gamma to the number of milestones <= t;  constant: 1.
    A linear warm-up over the first warmup_epochs multiplies it by (steps done + 1) / (steps of the warm-up), up to 1.

    epoch: from 1.  step: within the epoch, from 0.
    """
    done, total = (epoch - 1) * leg.n_steps + step, leg.epochs * leg.n_steps
    t = done / total
    warmup = recipe.warmup_epochs * total / leg.epochs
    rise = min(1.0, (done + 1) / warmup) if warmup else 1.0
    if recipe.schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * t))
    if recipe.schedule == "step":
        return rise * recipe.gamma ** sum(t >= milestone for milestone in recipe.milestones)
    return rise

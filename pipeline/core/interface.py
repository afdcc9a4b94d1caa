"""The interface between methods and training: Network, Batch, Leg, Losses, Method.

A method sees networks by name as callables. It knows nothing about devices, processes, optimizers or files; what a
paper's equations need beyond the networks comes with the batch (`draw`, `world`, `note`, `memory`). This package
imports nothing else from the project.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

Losses = dict[str, dict[str, Tensor]]  # network -> term -> scalar; the sum of one yield's terms is minimised
Note = Callable[[str, str, Tensor | float], None]  # (network, term, value): logs a value in the training history


@dataclass(frozen=True)
class Network:
    """Specification of one learner in a run: its architecture, its initial weights and how it trains.

    arch: name of an architecture in timm or in `pipeline.models.zoo`, or of an estimator of scikit-learn, as in
        `sklearn/RandomForestClassifier`. An estimator is fitted as a whole, so a leg trains it alone.
    weights: safetensors file with the initial weights. None initialises the network from `pretrained` or
        `checkpoint`, or else at random as a function of (seed, name).
    pretrained: initialise from timm's pretrained weights.
    checkpoint: initialise from this file, safetensors or torch.
    learns: True if some leg trains the network, False if it only teaches.
    lr_scale: multiplier on train.lr for this network alone.
    keeps_statistics: BatchNorm's running statistics, by which the network answers in evaluation mode, stay as they
        begin while it learns.
    sees: ascending indices of the training images that the network may learn from. None means all of them.
    independent: trained independently of the other networks: one rank trains it on whole batches while other ranks
        train theirs.
    options: arguments of an estimator.
    copies: augmented views of each image that an estimator is fitted to, besides the image itself.
    """

    arch: str
    weights: Path | None = None
    pretrained: bool = False
    checkpoint: str | None = None
    learns: bool = True
    lr_scale: float = 1.0
    keeps_statistics: bool = False
    sees: np.ndarray | None = None
    independent: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 0


class Net(Protocol):
    """A learner as a method sees it: maps images [B, C_in, H, W] to logits [B, C], float32 or wider.

    A network is one kind of learner; an estimator of scikit-learn is another, whose logits are the logarithms of its
    probabilities.

    differentiable: whether gradients reach x.
    """

    differentiable: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Forward pass as a learner: in training mode, with gradients to its weights. A guide runs `teach` instead."""
        ...

    def teach(self, x: Tensor, *, mode: str = "eval") -> Tensor:
        """Forward pass as a teacher, without gradients to its weights.

        mode: "eval" is evaluation mode. "train" is training mode, for a network that also learns: BatchNorm uses the
            statistics of x, and leaves the running statistics as they are. Guides are always in evaluation mode.

        In evaluation mode, gradients reach x if x requires them and the learner is differentiable.
        """
        ...


Nets = Mapping[str, Net]


class World(Protocol):
    """All processes of a run. Every rank must make the same calls in the same order."""

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all ranks, detached and equal on every rank."""
        ...

    def gather(self, value: Tensor) -> Tensor:
        """Concatenate the ranks' tensors [B_local, ...] into the global batch [B, ...], detached."""
        ...

    def gather_with_gradient(self, value: Tensor) -> Tensor:
        """Like `gather`, for a loss on the global batch: gradients reach this rank's part of the result.

        They are multiplied by the number of ranks, because training averages the gradients of the ranks, each of which
        has those of its own part only.
        """
        ...

    def local_shard(self, value: Tensor) -> Tensor:
        """This rank's part [B_local, ...] of a tensor [B, ...] over the global batch: the inverse of `gather`."""
        ...

    def rank_indices(self, n_items: int) -> range:
        """Indices in range(n_items) assigned to this rank."""
        ...

    def gather_objects(self, parts: list[Any]) -> list[Any]:
        """Merge lists that hold one object for each of `rank_indices`. Every rank gets all objects, in index order."""
        ...


class Batch(NamedTuple):
    """This rank's part of a training batch, with the randomness, communication and logging that a step may use.

    x: [B, C_in, H, W] augmented, normalised images.  y: [B] labels.  index: [B] indices into the training split.
    epoch: the epoch of the leg, from 1.
    draw: a CPU generator seeded by (seed, leg, epoch, step), so that every rank draws the same numbers.
    world: all processes of the run.
    note: logs (network, term, value). The history has the mean of each term over the steps of an epoch.
    memory: tensors that a step leaves for the next steps, such as moving averages. It is empty when a leg begins, and
        part of every checkpoint, so that a resumed run finds what it had. Only the memory of rank 0 is saved: compute
        its values from what is equal on all ranks, for example from `world.mean`.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    epoch: int
    draw: torch.Generator
    world: World
    note: Note
    memory: dict[str, Tensor]


@dataclass(frozen=True)
class Images:
    """Labelled images outside the training split.  x: [N, H, W, C_in] float32 pixels in 0..255.  y: [N] labels."""

    x: Tensor
    y: Tensor


Pools = Mapping[str, Images | None]  # network -> images added to its training set; None adds none


@dataclass(frozen=True)
class Leg:
    """One phase of training, with its own optimizers and learning-rate schedule.

    learners: networks that are trained.  guides: networks that only teach, frozen and in evaluation mode.
    epochs: None means train.epochs.  extra: images added to the training set.
    fresh: reset the learners to their initial weights before the leg.
    """

    learners: tuple[str, ...]
    guides: tuple[str, ...] = ()
    epochs: int | None = None
    extra: Images | None = None
    fresh: bool = False


class Train(Protocol):
    """The training split as `Method.legs` sees it, without augmentation.  labels: [N]."""

    world: World
    labels: Tensor
    n_classes: int

    def images(self, rows: Tensor) -> Tensor:
        """Normalised images [B, C_in, H, W] at the given indices of the training split."""
        ...

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Normalised values of pixels 0 and 255, [C_in, 1, 1] each: the range of valid images."""
        ...

    def raw(self, x: Tensor) -> Tensor:
        """Convert normalised images [B, C_in, H, W] to float32 pixels [B, H, W, C_in] in 0..255 on the CPU."""
        ...

    def sees(self, network: str) -> Tensor:
        """Indices of the training images that a network may learn from."""
        ...

    def draw(self, purpose: str) -> torch.Generator:
        """A CPU generator seeded by (seed, purpose)."""
        ...

    def once(self, name: str, compute: Callable[[], "Pools"]) -> "Pools":
        """Return compute() on the first call, and the stored result when a resumed run calls `legs` again.

        Anything that `legs` computes from networks must go through `once`, because later legs change the networks.
        """
        ...

    def note(self, network: str, term: str, value: Tensor | float) -> None:
        """Log a value in the history, ahead of the first epoch of the next leg."""
        ...

    def sheet(self, network: str, before: Tensor, after: Tensor) -> None:
        """Keep a few images [n, H, W, C_in] in 0..255, before and after a change, for visual inspection."""
        ...


class Method(Protocol):
    """A distillation method. The fields of its class are its parameters: the keys of its section in params.yaml."""

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The networks of a run.

        student: the student's architecture.  start: the networks of the bundle that the run starts from.
        """
        ...

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """Yield the legs of a run in order. A leg is trained to completion before the next one is requested.

        Legs of independent networks are the exception: with several processes, consecutive ones are trained at the
        same time. They, and the leg after them, may be requested before any of them is trained.
        """
        ...

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """Yield the losses for one batch. Each yield updates the networks that it names.

        Code after a yield sees the updated networks.
        """
        ...

"""The words that methods, engine and stages share: Network, Batch, Leg, Losses, Method.

A method sees networks by name as callables. It knows no device, no process, no optimizer and no file; the few
things of that kind which a paper's equations need come with the batch (`draw`, `world`, `note`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

Losses = dict[str, dict[str, Tensor]]  # network -> term -> scalar; what is yielded is what is minimised
Note = Callable[[str, str, Tensor | float], None]  # (network, term, value): a line of the history


@dataclass(frozen=True)
class Network:
    """One network of a run: what it is, where its weights come from, and how it learns.

    weights: a safetensors file; None draws the initial weights from (seed, name), or from `pretrained`/`checkpoint`.
    learns: whether some leg trains it; False for a network that only teaches.
    lr_scale: factor on train.lr for this network alone.
    sees: rows of the training split that it may learn from (ascending); None means all.
    apart: its legs need nothing of one another: each is trained by one process, on whole batches, beside the others.
    """

    arch: str
    weights: Path | None = None
    pretrained: bool = False
    checkpoint: str | None = None
    learns: bool = True
    lr_scale: float = 1.0
    sees: np.ndarray | None = None
    apart: bool = False


class Net(Protocol):
    """A network as a method sees it: images [B, D, H, W] to logits [B, C], always float32 or wider."""

    def __call__(self, x: Tensor) -> Tensor:
        """As a learner: training mode, gradients to its weights. A guide answers as in `teach`."""
        ...

    def teach(self, x: Tensor) -> Tensor:
        """As a teacher: evaluation mode, no gradient to its weights; gradients to x only if x asks for them."""
        ...


Nets = Mapping[str, Net]


class World(Protocol):
    """All processes of a run, as one: what every rank must agree on goes through here."""

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all ranks, equal on each of them; detached."""
        ...

    def gather(self, value: Tensor) -> Tensor:
        """The ranks' tensors [B_local, ...] joined to the global batch's [B, ...]; detached."""
        ...

    def mine(self, value: Tensor) -> Tensor:
        """This rank's part of a global batch's tensor: the inverse of `gather`."""
        ...

    def share(self, items: int) -> range:
        """The items, of so many, that this rank works on."""
        ...

    def join(self, parts: list[Any]) -> list[Any]:
        """The ranks' lists made for `share`, put back in order."""
        ...


class Batch(NamedTuple):
    """This rank's part of a training batch, and what a step may draw on.

    x: [B, D, H, W] augmented, normalised images; y: [B] labels; index: [B] rows of the training split.
    draw: a CPU generator that is a function of (seed, leg, epoch, step) and equal on every rank.
    note: adds (network, term, value) to the epoch's history; values are averaged over the epoch's steps.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    draw: torch.Generator
    world: World
    note: Note


@dataclass(frozen=True)
class Images:
    """Labelled images outside the training set, x: [N, H, W, D] float32 in 0..255, y: [N]."""

    x: Tensor
    y: Tensor


Pools = Mapping[str, Images | None]  # network -> images that join its training set


@dataclass(frozen=True)
class Leg:
    """One stretch of training.

    learners: get gradients.  guides: only teach; frozen, in evaluation mode.
    epochs: None means train.epochs.  extra: images besides the training set.
    fresh: the learners restart from their initial weights.
    """

    learners: tuple[str, ...]
    guides: tuple[str, ...] = ()
    epochs: int | None = None
    extra: Images | None = None
    fresh: bool = False


class Train(Protocol):
    """The training split as `Method.legs` sees it: clean images, no augmentation."""

    world: World
    labels: Tensor  # [N]
    n_classes: int

    def images(self, rows: Tensor) -> Tensor:
        """Normalised images [B, D, H, W] of those rows."""
        ...

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Normalised black and white, [D, 1, 1] each: what a valid pixel lies between."""
        ...

    def raw(self, x: Tensor) -> Tensor:
        """Normalised [B, D, H, W] back to pixels [B, H, W, D] in 0..255, float32, on the CPU."""
        ...

    def sees(self, network: str) -> Tensor:
        """The rows that a network may learn from."""
        ...

    def draw(self, purpose: str) -> torch.Generator:
        """A CPU generator that is a function of (seed, purpose)."""
        ...

    def once(self, name: str, compute: Callable[[], "Pools"]) -> "Pools":
        """compute() the first time; the stored answer when a resumed run replays its legs.

        Whatever `legs` computes from networks goes through here, since later legs change them.
        """
        ...

    def note(self, network: str, term: str, value: Tensor | float) -> None:
        """A line of the history before the next leg's first epoch."""
        ...

    def sheet(self, network: str, before: Tensor, after: Tensor) -> None:
        """A few images [n, H, W, D] in 0..255, before and after they were changed, for a person to look at."""
        ...


class Method(Protocol):
    """A way of teaching. Its class holds its parameters: the keys of its section in params.yaml."""

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The networks of a run, given the student's architecture and what the run starts from."""
        ...

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """The run, leg by leg: each is trained to completion before the next is asked for, but for those of networks
        that learn apart: these, and the leg after them, may be asked for before any of them is trained.
        """
        ...

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """One batch. Each yield is one update of the networks it names; code after it sees them updated."""
        ...

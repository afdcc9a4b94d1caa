"""The training split as legs use it: the rows of each network, extra images, and what a method computes from them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.core.interface import Images, Leg, Network, Pools, World
from pipeline.core.randomness import hash64


class Views(Protocol):
    """A split on the device (pipeline.data.views): called with rows, a seed and an epoch, it augments images.

    labels: [N].  mean, std: one number for each channel, of pixels in 0..1.
    """

    labels: Tensor
    num_classes: int
    in_chans: int
    image_size: tuple[int, int]
    mean: Tensor
    std: Tensor

    def ahead(self, index: Tensor) -> None:
        """Begin to read the images that will be asked for next."""
        ...

    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented, normalised images [B, C_in, H, W]."""
        ...

    def plain(self, index: Tensor) -> Tensor:
        """Normalised images [B, C_in, H, W] without augmentation."""
        ...

    def joined(self, images: Tensor, labels: Tensor) -> "Views":
        """These images followed by others, [M, H, W, C_in] in 0..255."""
        ...

    def __len__(self) -> int: ...


Sheet = tuple[Tensor, Tensor]  # images before and after a change, each [n, H, W, C_in] in 0..255


class TrainingSet:
    """The training split without augmentation (`interface.Train`), and the images of each leg.

    memo: what `once` has computed; checkpoints keep it, in a file that is written when its keys change.
    """

    def __init__(
        self,
        views: Views,
        networks: Mapping[str, Network],
        *,
        world: World,
        seed: int,
        dtype: torch.dtype,
        memo: dict[str, Any],
    ):
        self.views, self.networks, self.seed, self.dtype = views, networks, seed, dtype
        self.world: World = world
        self.memo = memo
        self.labels = views.labels
        self.n_classes = views.num_classes
        self.notes: list[tuple[str, str, float]] = []

    def images(self, rows: Tensor) -> Tensor:
        """Normalised images [B, C_in, H, W] of these rows."""
        return self.views.plain(rows.to(self.labels.device)).to(self.dtype)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Normalised black and white, [C_in, 1, 1] each."""
        mean, std = (v.reshape(-1, 1, 1).to(self.labels.device, self.dtype) for v in (self.views.mean, self.views.std))
        return -mean / std, (1 - mean) / std

    def raw(self, x: Tensor) -> Tensor:
        """Pixels [B, H, W, C_in] in 0..255, float32 on the CPU, of normalised images [B, C_in, H, W]."""
        mean, std = (v.reshape(-1, 1, 1).to(x.device, x.dtype) for v in (self.views.mean, self.views.std))
        pixels = (255 * (x * std + mean)).clamp(0, 255)
        return pixels.permute(0, 2, 3, 1).float().contiguous().cpu()

    def sees(self, network: str) -> Tensor:
        """The rows that a network may train on: [N], ascending."""
        rows = self.networks[network].sees
        return torch.arange(len(self.labels)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)

    def draw(self, purpose: str) -> torch.Generator:
        """A CPU generator that is a function of (seed, purpose)."""
        return torch.Generator().manual_seed(hash64(self.seed, "legs", purpose))

    def once(self, name: str, compute: Callable[[], Pools]) -> Pools:
        """compute() the first time; afterwards, and in a resumed run, its stored result."""
        if name not in self.memo:
            self.memo[name] = {k: v and (v.x, v.y) for k, v in compute().items()}
        return {k: v and Images(*v) for k, v in self.memo[name].items()}

    def sheet(self, network: str, before: Tensor, after: Tensor) -> None:
        """Keep images [n, H, W, C_in] before and after a change, for a person to look at; no rows of a table."""
        if self.views.image_size == (1, 1):
            return
        self.sheets[network] = (before.clone(), after.clone())

    @property
    def sheets(self) -> dict[str, Sheet]:
        """The images that were kept; part of the memo, so that a resumed run has them too."""
        return self.memo.setdefault("sheets", {})

    def note(self, network: str, term: str, value: Tensor | float) -> None:
        """Record a value in the history before the next leg's first epoch."""
        self.notes.append((network, term, float(value)))

    def take_notes(self) -> list[tuple[str, str, float]]:
        """The values noted since the last call."""
        notes, self.notes = self.notes, []
        return notes

    def data_of(self, leg: Leg) -> tuple[Views, Tensor]:
        """Views and rows of a leg: those that its learners may train on, and the leg's extra images.

        Raises ValueError if the learners may train on different images.
        """
        rows = self.sees(leg.learners[0])
        for name in leg.learners[1:]:
            if not torch.equal(self.sees(name), rows):
                raise ValueError(f"{leg.learners[0]} and {name} learn in one leg but see different images")
        if leg.extra is None:
            return self.views, rows
        extra = torch.arange(len(leg.extra.x)) + len(self.labels)
        return self.views.joined(leg.extra.x, leg.extra.y), torch.cat([rows, extra])

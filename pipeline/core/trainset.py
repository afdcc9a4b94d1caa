"""The training split as legs see it: whose rows, which extra images, and what a method may compute from it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pipeline.core.counters import hash64
from pipeline.core.vocabulary import Images, Leg, Network, Pools, World


class Views(Protocol):
    """A split on the device (pipeline.data.views). Called with rows, a seed and an epoch: augmented images."""

    labels: Tensor
    num_classes: int
    in_chans: int
    image_size: tuple[int, int]
    mean: Tensor
    std: Tensor

    def ahead(self, index: Tensor) -> None: ...
    def __call__(self, index: Tensor, *, seed: int, epoch: int) -> Tensor: ...
    def plain(self, index: Tensor) -> Tensor: ...
    def joined(self, images: Tensor, labels: Tensor) -> "Views": ...
    def __len__(self) -> int: ...


Sheet = tuple[Tensor, Tensor]  # images before and after, each [n, H, W, D] in 0..255


class LegData(NamedTuple):
    """What a leg trains on: rows of views."""

    views: Views
    rows: Tensor


class TrainingSet:
    """The training split without augmentation (`vocabulary.Train`), and what each leg trains on."""

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
        self.pending: list[tuple[str, str, float]] = []

    def images(self, rows: Tensor) -> Tensor:
        return self.views.plain(rows.to(self.labels.device)).to(self.dtype)

    def bounds(self) -> tuple[Tensor, Tensor]:
        mean, std = (v.reshape(-1, 1, 1).to(self.labels.device, self.dtype) for v in (self.views.mean, self.views.std))
        return -mean / std, (1 - mean) / std

    def raw(self, x: Tensor) -> Tensor:
        mean, std = (v.reshape(-1, 1, 1).to(x.device, x.dtype) for v in (self.views.mean, self.views.std))
        pixels = (255 * (x * std + mean)).clamp(0, 255)
        return pixels.permute(0, 2, 3, 1).float().contiguous().cpu()

    def sees(self, network: str) -> Tensor:
        rows = self.networks[network].sees
        return torch.arange(len(self.labels)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)

    def draw(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(hash64(self.seed, "legs", purpose))

    def once(self, name: str, compute: Callable[[], Pools]) -> Pools:
        if name not in self.memo:
            self.memo[name] = {k: v and (v.x, v.y) for k, v in compute().items()}
        return {k: v and Images(*v) for k, v in self.memo[name].items()}

    def sheet(self, network: str, before: Tensor, after: Tensor) -> None:
        self.sheets[network] = (before.clone(), after.clone())

    @property
    def sheets(self) -> dict[str, Sheet]:
        """What was kept to be looked at; part of the memo, so that a resumed run has it too."""
        return self.memo.setdefault("sheets", {})

    def note(self, network: str, term: str, value: Tensor | float) -> None:
        self.pending.append((network, term, float(value)))

    def notes(self) -> list[tuple[str, str, float]]:
        """What was noted since the last leg."""
        pending, self.pending = self.pending, []
        return pending

    def of(self, leg: Leg) -> LegData:
        """The rows that all of a leg's learners may see, and its extra images."""
        rows = self.sees(leg.learners[0])
        for name in leg.learners[1:]:
            if not torch.equal(self.sees(name), rows):
                raise ValueError(f"{leg.learners[0]} and {name} learn in one leg but see different images")
        if leg.extra is None:
            return LegData(self.views, rows)
        extra = torch.arange(len(leg.extra.x)) + len(self.labels)
        return LegData(self.views.joined(leg.extra.x, leg.extra.y), torch.cat([rows, extra]))

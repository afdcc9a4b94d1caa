"""What `prepare` wrote: images as memory-mapped arrays, and the table of which image is where."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError

if TYPE_CHECKING:
    import torch

    from pipeline.data.streaming import Streamed
    from pipeline.data.views import Views

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Meta:
    """What training must know of the images. mean, std: one a channel, of the training pixels in 0..1.

    root: where a streamed set's images are, which are not copied; else None.
    """

    source: str
    root: str | None
    num_classes: int
    in_chans: int
    image_size: tuple[int, int]
    mean: list[float]
    std: list[float]
    pad: int
    flip: bool
    counts: dict[str, int]
    sha256: dict[str, str]


class Prepared:
    """The folder data/prepared."""

    def __init__(self, folder: Path, meta: Meta):
        self.folder, self.meta = folder, meta

    @classmethod
    def read(cls, folder: Path) -> "Prepared":
        try:
            meta = json.loads((folder / "meta.json").read_text())
        except FileNotFoundError:
            raise DataError(
                f"{folder / 'meta.json'} is missing: run `python -m stages.prepare` (or dvc repro)"
            ) from None
        return cls(folder, Meta(**{**meta, "image_size": tuple(meta["image_size"])}))

    @property
    def fingerprint(self) -> str:
        """A digest of all that was prepared: meta.json holds the digests of the arrays."""
        return hashlib.sha256((self.folder / "meta.json").read_bytes()).hexdigest()

    @property
    def classes(self) -> list[str]:
        return (self.folder / "classes.txt").read_text("utf-8").splitlines()

    @cached_property
    def table(self) -> Any:
        """index, source, label, class, split: one row an image."""
        import polars as pl

        return pl.read_parquet(self.folder / "split.parquet")

    def images(self, split: str) -> np.ndarray:
        """[N, H, W, D] uint8, memory-mapped."""
        return np.load(self.folder / f"{split}.npy", mmap_mode="r")

    def labels(self, split: str) -> np.ndarray:
        """[N] int64."""
        return self.table.filter(self.table["split"] == split)["label"].to_numpy().astype(np.int64)

    def views(
        self,
        split: str,
        *,
        device: "torch.device",
        pad: int | None = None,
        flip: bool | None = None,
        workers: int = 0,
    ) -> "Views | Streamed":
        """A split on the device; pad and flip None mean the data's own. Only the training split is flipped.

        workers: threads that decode a streamed set.
        """
        meta = self.meta
        shared: dict[str, Any] = {
            "mean": meta.mean,
            "std": meta.std,
            "flip": split == "train" and (meta.flip if flip is None else flip),
            "num_classes": meta.num_classes,
            "device": device,
        }
        if meta.root is not None:
            from pipeline.data.streaming import Streamed

            files = self.table.filter(self.table["split"] == split)
            return Streamed(
                Path(meta.root), files, self.labels(split), image_size=meta.image_size, workers=workers, **shared
            )
        from pipeline.data.views import Views

        return Views(self.images(split), self.labels(split), pad=meta.pad if pad is None else pad, **shared)

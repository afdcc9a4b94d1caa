"""Read what `prepare` wrote: images as memory-mapped arrays, and a table with one row per image."""

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

    from pipeline.data.streaming import StreamedViews
    from pipeline.data.views import Views

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Meta:
    """The content of meta.json.

    source: `data.source`.  root: folder of a streamed data set's images; else None.  image_size: height and width.
    mean, std: per channel, of the training pixels in [0, 1].  pad: pixels around a training image before a random crop.
    flip: whether training images are mirrored.  counts: images of each split.  sha256: digest of each array and of the
    table.
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
    """The folder of prepared data, data/prepared."""

    def __init__(self, folder: Path, meta: Meta):
        self.folder, self.meta = folder, meta

    @classmethod
    def read(cls, folder: Path) -> "Prepared":
        """Read meta.json. Raises DataError if it is missing."""
        try:
            meta = json.loads((folder / "meta.json").read_text())
        except FileNotFoundError:
            raise DataError(
                f"{folder / 'meta.json'} is missing: run `python -m stages.prepare` (or dvc repro)"
            ) from None
        return cls(folder, Meta(**{**meta, "image_size": tuple(meta["image_size"])}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of meta.json. It changes with the images, too, because meta.json holds their digests."""
        return hashlib.sha256((self.folder / "meta.json").read_bytes()).hexdigest()

    @property
    def classes(self) -> list[str]:
        """The names of the classes, by label."""
        return (self.folder / "classes.txt").read_text("utf-8").splitlines()

    @cached_property
    def table(self) -> Any:
        """One row per image, with columns `index`, `source`, `label`, `class` and `split`.

        A streamed data set adds `size` (bytes) and `mtime` (ns).
        """
        import polars as pl

        return pl.read_parquet(self.folder / "split.parquet")

    def images(self, split: str) -> np.ndarray:
        """The images of a split, memory-mapped: [N, H, W, C_in] uint8. A streamed data set has none."""
        return np.load(self.folder / f"{split}.npy", mmap_mode="r")

    def labels(self, split: str) -> np.ndarray:
        """The labels of a split: [N] int64."""
        return self.table.filter(self.table["split"] == split)["label"].to_numpy().astype(np.int64)

    def views(
        self,
        split: str,
        *,
        device: "torch.device",
        pad: int | None = None,
        flip: bool | None = None,
        workers: int = 0,
    ) -> "Views | StreamedViews":
        """Create the views of a split on a device.

        pad, flip: None means the data's own values. Only the training split is mirrored, and a streamed data set is not
        padded.  workers: threads that decode the images of a streamed data set.
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
            from pipeline.data.streaming import StreamedViews

            files = self.table.filter(self.table["split"] == split)
            return StreamedViews(
                Path(meta.root), files, self.labels(split), image_size=meta.image_size, workers=workers, **shared
            )
        from pipeline.data.views import Views

        return Views(self.images(split), self.labels(split), pad=meta.pad if pad is None else pad, **shared)

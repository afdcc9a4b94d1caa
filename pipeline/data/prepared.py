"""Read what `prepare` wrote: images as memory-mapped arrays, and a table with one row per image."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from pipeline.data.class_names import read_class_names
from pipeline.errors import DataError, first_line
from pipeline.storage.documents import Document, damaged, read_bytes, read_json
from pipeline.storage.folders import file_digest

if TYPE_CHECKING:
    import torch

    from pipeline.data.streaming import StreamedViews
    from pipeline.data.views import Views

SPLITS = ("train", "validation", "test")
OUTSIDE = r"^$|^/|\x00|(^|/)\.\.(/|$)"  # paths that are not below the folder of the images
META = "meta.json"
TABLES = ("table", "breast_cancer", "wine")  # sources whose images are rows of features
RERUN = "dvc repro prepare"
COLUMNS = {"index": "Int64", "source": "String", "label": "Int64", "class": "String", "split": "String"}
TRUE_LABEL = "true_label"  # a column that the table has only with label noise
STREAMED_COLUMNS = {"size": "Int64", "mtime": "Int64"}
Positive = Annotated[int, Field(ge=1)]
Counts = Annotated[dict[str, Positive], Field(min_length=len(SPLITS), max_length=len(SPLITS))]


class MetaDocument(Document):
    """The schema of meta.json, whose keys `Meta` describes."""

    source: str
    root: str | None
    num_classes: Positive
    in_chans: Annotated[int, Field(ge=1, le=65536)]
    image_size: tuple[Positive, Positive]
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]
    pad: Annotated[int, Field(ge=0)]
    flip: bool
    counts: Counts
    sha256: dict[str, str]


@dataclass(frozen=True)
class Meta:
    """The content of meta.json.

    source: `data.source`.  root: folder of a streamed data set's images; else None.  image_size: height and width.
    mean, std: per channel, of the training pixels in [0, 1].  pad: pixels around a training image before a random crop.
    flip: whether training images are mirrored.  counts: images of each split.  sha256: digest of each array, of the
    table and of the class names.
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
        """Read meta.json. Raises DataError if it is missing or damaged."""
        meta = Meta(**read_json(folder / META, MetaDocument, rerun=RERUN))
        if set(meta.counts) != set(SPLITS) or not len(meta.mean) == len(meta.std) == meta.in_chans:
            raise damaged(folder / META, "its splits or channels do not fit each other", rerun=RERUN)
        return cls(folder, replace(meta, image_size=(meta.image_size[0], meta.image_size[1])))

    @property
    def has_images(self) -> bool:
        """Whether the data are images in memory, which a person can look at: not streamed, and no rows of a table."""
        return self.meta.root is None and self.meta.source not in TABLES

    @property
    def fingerprint(self) -> str:
        """SHA-256 of meta.json. It changes with the images, too, because meta.json holds their digests."""
        return hashlib.sha256(read_bytes(self.folder / META, rerun=RERUN)).hexdigest()

    @property
    def classes(self) -> list[str]:
        """The names of the classes, by label. Raises DataError if they are missing or damaged."""
        return read_class_names(self.intact("classes.txt"))

    def intact(self, name: str) -> Path:
        """A file of the folder. Raises DataError if it is missing, or if its digest is not the one in meta.json."""
        file = self.folder / name
        if not file.is_file():
            raise DataError(f"{file} is missing: run `{RERUN}`")
        if file_digest(file) != self.meta.sha256.get(file.stem):
            raise damaged(file, f"its SHA-256 is not the one in {META}", rerun=RERUN)
        return file

    @cached_property
    def table(self) -> Any:
        """One row per image, with columns `index`, `source`, `label`, `class` and `split`.

        With label noise, `label` and `class` are what networks learn, and a column `true_label` has what the source
        says. A streamed data set adds `size` (bytes) and `mtime` (ns). Raises DataError if the table is damaged.
        """
        import polars as pl

        file = self.intact("split.parquet")
        try:
            table = pl.read_parquet(file)
        except Exception as error:  # polars raises many types
            raise damaged(file, first_line(error), rerun=RERUN) from None
        expected = {**COLUMNS, **(STREAMED_COLUMNS if self.meta.root is not None else {})}
        if TRUE_LABEL in table.columns:
            expected[TRUE_LABEL] = "Int64"
        if {name: str(kind) for name, kind in table.schema.items()} != expected or table.null_count().sum_horizontal()[
            0
        ]:
            raise damaged(file, f"its columns are not {', '.join(expected)}", rerun=RERUN)
        if dict(table.group_by("split").len().iter_rows()) != self.meta.counts:
            raise damaged(file, f"its images are not those that {META} counts", rerun=RERUN)
        if self.meta.root is not None and table["source"].str.contains(OUTSIDE).any():
            raise damaged(file, "a path leads out of the folder of the images", rerun=RERUN)
        for column in ("label", TRUE_LABEL):
            if column in expected and not table[column].is_between(0, self.meta.num_classes - 1).all():
                raise damaged(file, f"a label is not below {self.meta.num_classes}", rerun=RERUN)
        return table

    def images(self, split: str) -> np.ndarray:
        """The images of a split, memory-mapped: [N, H, W, C_in] uint8, or the rows of a table, [N, 1, 1, D] float32.

        A streamed data set has none.

        Raises DataError if they are missing or damaged.
        """
        file = self.intact(f"{split}.npy")
        try:
            images = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise damaged(file, str(error), rerun=RERUN) from None
        expected = (self.meta.counts[split], *self.meta.image_size, self.meta.in_chans)
        if images.shape != expected or images.dtype != (np.float32 if self.meta.source in TABLES else np.uint8):
            raise damaged(file, f"its shape is {images.shape}, but {META} says {expected}", rerun=RERUN)
        return images

    def labels(self, split: str) -> np.ndarray:
        """The labels of a split, from which networks learn: [N] int64."""
        return self.column(split, "label")

    def true_labels(self, split: str) -> np.ndarray:
        """The labels of a split before label noise: [N] int64."""
        return self.column(split, TRUE_LABEL if TRUE_LABEL in self.table.columns else "label")

    def column(self, split: str, name: str) -> np.ndarray:
        """A column of integers of the table, for the images of a split: [N] int64."""
        return self.table.filter(self.table["split"] == split)[name].to_numpy().astype(np.int64)

    def views(
        self,
        split: str,
        *,
        device: "torch.device",
        pad: int | None = None,
        flip: bool | None = None,
        policy: str = "none",
        erasing: float = 0.0,
        workers: int = 0,
    ) -> "Views | StreamedViews":
        """Create the views of a split on a device.

        pad, flip: None means the data's own values. A streamed data set is not padded.  policy, erasing: of
        pipeline.data.augment.  Only the training split is mirrored, augmented and erased.  workers: threads that decode
        the images of a streamed data set.
        """
        meta = self.meta
        shared: dict[str, Any] = {
            "mean": meta.mean,
            "std": meta.std,
            "flip": split == "train" and (meta.flip if flip is None else flip),
            "num_classes": meta.num_classes,
            "device": device,
            "policy": policy if split == "train" else "none",
            "erasing": erasing if split == "train" else 0.0,
        }
        if meta.root is not None:
            from pipeline.data.streaming import StreamedViews

            files = self.table.filter(self.table["split"] == split)
            return StreamedViews(
                Path(meta.root), files, self.labels(split), image_size=meta.image_size, workers=workers, **shared
            )
        from pipeline.data.views import Views

        return Views(self.images(split), self.labels(split), pad=meta.pad if pad is None else pad, **shared)

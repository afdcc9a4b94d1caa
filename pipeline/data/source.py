"""The interface of a source of images: labelled images by split, read one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Defaults:
    """What `auto` in params.yaml means for a source.

    image_size: height and width in pixels; None: the images keep their size.  limit: number of training images kept;
    None: all.  validation: number or fraction of the training images that are split off.  pad: pixels; None: an eighth
    of the shorter side.  flip: whether training images are mirrored.
    """

    image_size: int | None = None
    limit: int | None = None
    validation: int | float = 0.1
    pad: int | None = None
    flip: bool = True


@dataclass(frozen=True)
class Split:
    """The images of a split, before any of them is read.

    names: what each of the N images is called in its source.  labels: [N] int64.
    """

    names: list[str]
    labels: np.ndarray


@dataclass(frozen=True)
class Manifest:
    """The location of a streamed data set, and what reveals a changed file.

    root: folder of the images.  times: for each split, a table with columns `size` (bytes) and `mtime` (ns), whose rows
    are those of the split.
    """

    root: Path
    times: dict[str, "pl.DataFrame"]


class Source(Protocol):
    """A data set. `splits` has train, and validation and test if the data include them.

    manifest: of a streamed data set, whose images training itself reads; else None.  classes: names by label.
    skipped: name of each image that could not be read, and why.
    """

    manifest: Manifest | None
    classes: list[str]
    defaults: Defaults
    splits: dict[str, Split]
    skipped: list[tuple[str, str]]

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at `rows` (ascending) of a split, one at a time: [H, W, C_in] uint8."""
        ...

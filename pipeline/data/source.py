"""What a source of images gives, whatever it is: labelled images by split, read one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Defaults:
    """What null in params.yaml means for a source. None: all images; a tenth of the training images for validation;
    an eighth of the image's size for padding; images as large as they are.
    """

    image_size: int | None = None
    limit: int | None = None
    validation: int | float = 0.1
    pad: int | None = None
    flip: bool = True


@dataclass(frozen=True)
class Split:
    """The images of a split, before any is read. names: [N] what each is called in its source; labels: [N]."""

    names: list[str]
    labels: np.ndarray


@dataclass(frozen=True)
class Manifest:
    """Where the files of a streamed set are, and by what a change shows. times: split -> size and mtime of its rows."""

    root: Path
    times: dict[str, "pl.DataFrame"]


class Source(Protocol):
    """A data set. `splits` has train, and validation and test where the data come with them."""

    manifest: Manifest | None  # of a streamed set, which training itself reads, nothing being copied
    classes: list[str]
    defaults: Defaults
    splits: dict[str, Split]
    skipped: list[tuple[str, str]]  # what could not be read, and why

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Those rows (ascending) of a split, one by one: uint8 [H, W, D]."""
        ...

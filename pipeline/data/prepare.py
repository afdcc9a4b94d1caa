"""From a source to data/prepared: who is in which split, pixels as arrays, and what training must know of them."""

import csv
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.decode import fitted
from pipeline.data.source import Defaults, Source
from pipeline.data.split import stratified
from pipeline.errors import DataError

Chosen = dict[str, tuple[str, np.ndarray]]  # split -> the source's split, and its rows
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Report:
    """What was written. shared: test images whose pixels are those of a training or validation image."""

    meta: dict[str, Any]
    skipped: list[tuple[str, str]]
    shared: int


def prepare(source: Source, data: Any, folder: Path) -> Report:
    """Write a folder of prepared data. Nothing is left half-written.

    data: the section of params.yaml.  Raises DataError naming a file, row or split.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        report = write(source, data, partial)
    except BaseException:
        shutil.rmtree(partial)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return report


def choose(source: Source, data: Any) -> Chosen:
    """The images of train, validation and test. What the source lacks is split off its training images: validation
    as data.validation says, and as large a test split.
    """
    labels = source.splits["train"].labels
    wanted = source.defaults.validation if data.validation is None else data.validation
    n = round(wanted * len(labels)) if isinstance(wanted, float) else wanted
    left = np.arange(len(labels))
    chosen: Chosen = {}
    for split in ("test", "validation"):
        if split in source.splits:
            chosen[split] = (split, np.arange(len(source.splits[split].labels)))
            continue
        if not 0 < n < len(left):
            raise DataError(f"data.validation: {n} of {len(left)} training images cannot be split off")
        held = left[stratified(labels[left], n, data.seed, split)]
        chosen[split] = ("train", held)
        left = np.setdiff1d(left, held)
    limit = source.defaults.limit if data.limit is None else data.limit
    if limit is not None and limit < len(left):
        left = left[stratified(labels[left], limit, data.seed, "limit")]
    return {"train": ("train", left), "validation": chosen["validation"], "test": chosen["test"]}


def write(source: Source, data: Any, folder: Path) -> Report:
    """Fill a folder with arrays, table, classes and meta.json."""
    import polars as pl

    chosen = choose(source, data)
    frames, sha256 = [], {}
    pixels: dict[str, Pixels] = {}
    shape = None
    for split in SPLITS:
        origin, rows = chosen[split]
        pixels[split] = write_images(source, origin, rows, folder / f"{split}.npy", data.image_size, shape)
        shape = pixels[split].shape
        sha256[split] = digest(folder / f"{split}.npy")
        labels = source.splits[origin].labels[rows]
        frames.append(
            pl.DataFrame(
                {
                    "index": np.arange(len(rows)),
                    "source": [source.splits[origin].names[row] for row in rows],
                    "label": labels,
                    "class": [source.classes[label] for label in labels],
                    "split": [split] * len(rows),
                }
            )
        )
    pl.concat(frames).write_parquet(folder / "split.parquet", compression="zstd", statistics=False)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in source.classes), "utf-8")
    if source.skipped:
        with (folder / "skipped.csv").open("w", newline="") as out:
            csv.writer(out, lineterminator="\n").writerows([("source", "reason"), *source.skipped])
    sha256["split"] = digest(folder / "split.parquet")
    assert shape is not None
    mean, std = pixels["train"].moments(len(chosen["train"][1]))
    meta = {
        "source": data.source,
        "num_classes": len(source.classes),
        "in_chans": shape[2],
        "image_size": [shape[0], shape[1]],
        "mean": mean,
        "std": std,
        "pad": padding(source.defaults, min(shape[:2])),
        "flip": source.defaults.flip,
        "counts": {split: len(chosen[split][1]) for split in SPLITS},
        "sha256": sha256,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    known = pixels["train"].hashes | pixels["validation"].hashes
    return Report(meta, source.skipped, len(pixels["test"].hashes & known))


@dataclass
class Pixels:
    """The images of a split as they are written: their shape, and exact sums over each channel's values."""

    shape: tuple[int, int, int] | None = None
    total: Any = 0
    squares: Any = 0
    hashes: set[bytes] = field(default_factory=set)

    def take(self, image: np.ndarray) -> None:
        values = image.reshape(-1, image.shape[2]).astype(np.int64)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + (values * values).sum(0)
        self.hashes.add(hashlib.blake2b(image.tobytes(), digest_size=8).digest())

    def moments(self, n: int) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixels in 0..1, over n images."""
        assert self.shape is not None
        count = n * self.shape[0] * self.shape[1]
        mean = self.total / count
        std = np.sqrt(np.maximum(self.squares / count - mean**2, 0))
        return [round(float(v), 8) for v in mean / 255], [round(max(float(v), 1e-4), 8) for v in std / 255]


def write_images(
    source: Source, origin: str, rows: np.ndarray, file: Path, size: int | None, shape: tuple[int, int, int] | None
) -> Pixels:
    """The rows' pixels as an array [N, H, W, D] in a file, one by one: no more is ever in memory.

    size: what images are fitted to, or None.  shape: of the images before them, or None.
    """
    written = Pixels(shape)
    with file.open("wb") as out:
        for k, pixels in enumerate(source.images(origin, rows)):
            image = np.ascontiguousarray(pixels if size is None else fitted(pixels, size))
            if k == 0:
                written.shape = shape = shape or image.shape
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *shape)}
                np.lib.format.write_array_header_1_0(out, header)
            if image.shape != shape:
                name = source.splits[origin].names[rows[k]]
                raise DataError(
                    f"{name} is {said(image.shape)}, the images before it {said(shape)}: set data.image_size"
                )
            out.write(image.data)
            written.take(image)
    if written.shape is None:
        raise DataError(f"there are no images for {file.stem}")
    return written


def said(shape: Any) -> str:
    return f"{shape[1]}x{shape[0]}x{shape[2]}"


def padding(defaults: Defaults, size: int) -> int:
    return max(1, round(size / 8)) if defaults.pad is None else defaults.pad


def digest(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            total.update(block)
    return total.hexdigest()

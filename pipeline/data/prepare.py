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
SAMPLE = 1024  # training images of a streamed set that are read for its mean and standard deviation, about


@dataclass(frozen=True)
class Report:
    """What was written. shared: test images whose pixels are those of a training or validation image; None: unknown,
    for a streamed set is not read whole.
    """

    meta: dict[str, Any]
    skipped: list[tuple[str, str]]
    shared: int | None


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
    """Fill a folder with arrays (of a streamed set: none), table, classes and meta.json."""
    chosen = choose(source, data)
    size = source.defaults.image_size if data.image_size is None else data.image_size
    sha256 = {}
    pixels: dict[str, Pixels] = {}
    shape = None
    for split in SPLITS if source.manifest is None else ():
        file = folder / f"{split}.npy"
        pixels[split] = write_images(source, *chosen[split], file, size, shape)
        shape = pixels[split].shape
        sha256[split] = digest(file)
    if source.manifest is not None:
        pixels["train"] = sample(source, *chosen["train"], folder / "sample.npy", size)
        shape = pixels["train"].shape
    assert shape is not None
    write_table(source, chosen, folder)
    sha256["split"] = digest(folder / "split.parquet")
    mean, std = pixels["train"].moments()
    meta = {
        "source": data.source,
        "root": source.manifest and str(source.manifest.root),
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
    if source.manifest is not None:
        return Report(meta, source.skipped, shared=None)
    known = pixels["train"].hashes | pixels["validation"].hashes
    return Report(meta, source.skipped, len(pixels["test"].hashes & known))


def write_table(source: Source, chosen: Chosen, folder: Path) -> None:
    """Which image is where, what the classes are called, and what was skipped."""
    import polars as pl

    frames = []
    for split in SPLITS:
        origin, rows = chosen[split]
        labels = source.splits[origin].labels[rows]
        frame = pl.DataFrame(
            {
                "index": np.arange(len(rows)),
                "source": [source.splits[origin].names[row] for row in rows],
                "label": labels,
                "class": [source.classes[label] for label in labels],
                "split": [split] * len(rows),
            }
        )
        frames.append(frame.hstack(source.manifest.times[origin][rows]) if source.manifest else frame)
    pl.concat(frames).write_parquet(folder / "split.parquet", compression="zstd", statistics=False)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in source.classes), "utf-8")
    if source.skipped:
        with (folder / "skipped.csv").open("w", newline="") as out:
            csv.writer(out, lineterminator="\n").writerows([("source", "reason"), *source.skipped])


@dataclass
class Pixels:
    """The images of a split as they are written: their shape, and exact sums over each channel's values."""

    shape: tuple[int, int, int] | None = None
    n: int = 0
    total: Any = 0
    squares: Any = 0
    hashes: set[bytes] = field(default_factory=set)

    def take(self, image: np.ndarray) -> None:
        self.n += 1
        values = image.reshape(-1, image.shape[2]).astype(np.int64)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + (values * values).sum(0)
        self.hashes.add(hashlib.blake2b(image.tobytes(), digest_size=8).digest())

    def moments(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixels in 0..1."""
        assert self.shape is not None
        count = self.n * self.shape[0] * self.shape[1]
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


def sample(source: Source, origin: str, rows: np.ndarray, file: Path, size: int | None) -> Pixels:
    """Every so many of a streamed set's training images, for their mean and standard deviation alone."""
    written = write_images(source, origin, rows[:: max(1, len(rows) // SAMPLE)], file, size, None)
    file.unlink()
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

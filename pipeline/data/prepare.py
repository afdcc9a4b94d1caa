"""From a source to data/prepared: who is in which split, pixels as arrays, and what training must know of them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.source import Defaults, Source
from pipeline.data.split import stratified
from pipeline.errors import DataError

Chosen = dict[str, tuple[str, np.ndarray]]  # split -> the source's split, and its rows


def prepare(source: Source, data: Any, folder: Path) -> dict[str, Any]:
    """Write a folder of prepared data and return its meta.json. Nothing is left half-written.

    data: the section of params.yaml.  Raises DataError naming a file, row or split.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        meta = write(source, data, partial)
    except BaseException:
        shutil.rmtree(partial)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return meta


def choose(source: Source, data: Any) -> Chosen:
    """The images of train, validation and test."""
    train = source.splits["train"]
    rows = np.arange(len(train.labels))
    chosen: Chosen = {}
    if "test" in source.splits:
        chosen["test"] = ("test", np.arange(len(source.splits["test"].labels)))
    if "validation" in source.splits:
        chosen["validation"] = ("validation", np.arange(len(source.splits["validation"].labels)))
    else:
        wanted = source.defaults.validation if data.validation is None else data.validation
        n = round(wanted * len(rows)) if isinstance(wanted, float) else wanted
        if not 0 < n < len(rows):
            raise DataError(f"data.validation: {n} of {len(rows)} training images cannot be split off")
        held = stratified(train.labels, n, data.seed, "validation")
        chosen["validation"] = ("train", held)
        rows = np.setdiff1d(rows, held)
    limit = source.defaults.limit if data.limit is None else data.limit
    if limit is not None and limit < len(rows):
        rows = rows[stratified(train.labels[rows], limit, data.seed, "limit")]
    return {"train": ("train", rows)} | chosen


def write(source: Source, data: Any, folder: Path) -> dict[str, Any]:
    """Fill a folder with arrays, table, classes and meta.json."""
    import polars as pl

    chosen = choose(source, data)
    frames, sums, sha256 = [], None, {}
    for split in ("train", "validation", "test"):
        origin, rows = chosen[split]
        images = write_images(source, origin, rows, folder / f"{split}.npy")
        sha256[split] = digest(folder / f"{split}.npy")
        if split == "train":
            sums = moments(images)
        frames.append(
            pl.DataFrame(
                {
                    "index": np.arange(len(rows)),
                    "source": [source.splits[origin].names[row] for row in rows],
                    "label": source.splits[origin].labels[rows],
                    "class": [source.classes[label] for label in source.splits[origin].labels[rows]],
                    "split": [split] * len(rows),
                }
            )
        )
        shape = images.shape[1:]
    pl.concat(frames).write_parquet(folder / "split.parquet", compression="zstd", statistics=False)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in source.classes), "utf-8")
    sha256["split"] = digest(folder / "split.parquet")
    assert sums is not None
    mean, std = sums
    meta = {
        "source": data.source,
        "num_classes": len(source.classes),
        "in_chans": shape[2],
        "image_size": [shape[0], shape[1]],
        "mean": mean,
        "std": std,
        "pad": padding(source.defaults, min(shape[:2])),
        "flip": source.defaults.flip,
        "counts": {split: len(rows) for split, (_, rows) in chosen.items()},
        "sha256": sha256,
        "storage": data.storage,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    return meta


def write_images(source: Source, origin: str, rows: np.ndarray, file: Path) -> np.ndarray:
    """The rows' pixels as an array [N, H, W, D] in a file, one by one; returned memory-mapped."""
    out = None
    for k, image in enumerate(source.images(origin, rows)):
        if out is None:
            out = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(rows), *image.shape))
        if image.shape != out.shape[1:]:
            name = source.splits[origin].names[rows[k]]
            raise DataError(
                f"{name} is {image.shape[1]}x{image.shape[0]}x{image.shape[2]}, the images before it "
                f"{out.shape[2]}x{out.shape[1]}x{out.shape[3]}: set data.image_size"
            )
        out[k] = image
    if out is None:
        raise DataError(f"there are no images for {file.stem}")
    out.flush()
    return np.load(file, mmap_mode="r")


def moments(images: np.ndarray, chunk: int = 4096) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel's pixels in 0..1, exact sums of integers."""
    total = np.zeros(images.shape[3], dtype=np.int64)
    squares = np.zeros(images.shape[3], dtype=np.int64)
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].astype(np.int64)
        total += part.sum((0, 1, 2))
        squares += (part * part).sum((0, 1, 2))
    n = images.size // images.shape[3]
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return [round(v, 8) for v in (mean / 255)], [round(max(v, 1e-4), 8) for v in (std / 255)]


def padding(defaults: Defaults, size: int) -> int:
    return max(1, round(size / 8)) if defaults.pad is None else defaults.pad


def digest(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            total.update(block)
    return total.hexdigest()

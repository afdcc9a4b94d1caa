"""Prepare a source for training: split it, write its pixels as arrays, and compute its statistics."""

import csv
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.class_names import write_class_names
from pipeline.data.decode import fitted
from pipeline.data.label_noise import noisy_labels, read_confusion
from pipeline.data.prepared import META, TRUE_LABEL
from pipeline.data.source import Defaults, Source
from pipeline.data.sources.table import Table
from pipeline.data.split import stratified
from pipeline.errors import DataError
from pipeline.storage.atomic import replace_folder
from pipeline.storage.documents import write_json
from pipeline.storage.folders import file_digest

# split -> the source's split that its images come from, and their rows there
Chosen = dict[str, tuple[str, np.ndarray]]
SPLITS = ("train", "validation", "test")
SAMPLE = 1024  # approximate number of training images behind statistics and sizes of a large data set
LARGEST_AUTO = 224  # pixels: the largest size that is chosen for images of several sizes


@dataclass(frozen=True)
class Report:
    """What `prepare` wrote.

    meta: the content of meta.json.  skipped: name of each image that could not be read, and why.
    resized: whether a size was chosen, because the images differ in size.
    shared: number of distinct test images that are also in train or validation, pixel for pixel; None for a streamed
    data set, because its images are not all read.
    wrong: number of training labels that label noise made wrong; None without label noise.
    """

    meta: dict[str, Any]
    skipped: list[tuple[str, str]]
    shared: int | None
    resized: bool = False
    wrong: int | None = None


class UnequalSizes(DataError):
    """The images of a source differ in size."""


def prepare(source: Source, data: Any, folder: Path) -> Report:
    """Write the folder of prepared data, and replace the previous one only once the new one is complete.

    data: section `data` of params.yaml.  Raises DataError, which names the file, row or split at fault.
    """
    reports = []
    replace_folder(folder, lambda partial: reports.append(write(source, data, partial)))
    return reports[0]


def choose(source: Source, data: Any) -> Chosen:
    """Select the images of train, validation and test.

    A validation or test split that the source lacks is split off its training images. It is stratified and has as many
    images as `data.validation` says. Raises DataError if there are too few training images.
    """
    labels = source.splits["train"].labels
    validation = source.defaults.validation if data.validation is None else data.validation
    n = round(validation * len(labels)) if isinstance(validation, float) else validation
    remaining = np.arange(len(labels))
    chosen: Chosen = {}
    for split in ("test", "validation"):
        if split in source.splits:
            chosen[split] = (split, np.arange(len(source.splits[split].labels)))
            continue
        if not 0 < n < len(remaining):
            raise DataError(
                f"data.validation: cannot split {n} of {len(remaining)} training images off for {split}: "
                f"the number must be between 1 and {len(remaining) - 1}"
            )
        held_out = remaining[stratified(labels[remaining], n, data.seed, split)]
        chosen[split] = ("train", held_out)
        remaining = np.setdiff1d(remaining, held_out)
    limit = source.defaults.limit if data.limit is None else data.limit
    if limit is not None and limit < len(remaining):
        remaining = remaining[stratified(labels[remaining], limit, data.seed, "limit")]
    return {"train": ("train", remaining), "validation": chosen["validation"], "test": chosen["test"]}


def write(source: Source, data: Any, folder: Path) -> Report:
    """Write arrays (not for a streamed data set), table, class names and meta.json into an empty folder.

    Images that differ in size are resized to `common_size`, unless `data.image_size` says otherwise.
    """
    chosen = choose(source, data)
    noisy = training_labels(source, data, chosen)
    if isinstance(source, Table):
        source.scale_by(*chosen["train"])
    size = source.defaults.image_size if data.image_size is None else data.image_size
    resized = False
    try:
        report = write_sized(source, data, folder, chosen, noisy, size)
    except UnequalSizes:
        if source.manifest is not None:
            raise
        size, resized = common_size(source, *chosen["train"]), True
        report = write_sized(source, data, folder, chosen, noisy, size)
    return replace(report, resized=resized, wrong=None if noisy is None else n_wrong(source, chosen, noisy))


def training_labels(source: Source, data: Any, chosen: Chosen) -> np.ndarray | None:
    """The labels of the training images after label noise, [N] int64; None without noise."""
    if not data.label_noise:  # none or 0
        return None
    noise = data.label_noise
    if isinstance(noise, str):
        noise = read_confusion(Path(data.root) / noise, source.classes)
    return noisy_labels(true_labels(source, chosen), noise, len(source.classes), data.seed)


def true_labels(source: Source, chosen: Chosen) -> np.ndarray:
    """The labels of the training images in the source, [N] int64."""
    origin, rows = chosen["train"]
    return source.splits[origin].labels[rows]


def n_wrong(source: Source, chosen: Chosen, noisy: np.ndarray) -> int:
    """The number of training images whose label is not the one in the source.  noisy: [N]."""
    return int((noisy != true_labels(source, chosen)).sum())


def common_size(source: Source, origin: str, rows: np.ndarray) -> int:
    """A side for images of several sizes: the median of their shorter sides, at most LARGEST_AUTO.

    origin, rows: the training images, of which about SAMPLE are read.
    """
    rows = rows[:: max(1, len(rows) // SAMPLE)]
    sides = [min(image.shape[:2]) for image in source.images(origin, rows)]
    return min(LARGEST_AUTO, int(np.median(sides)))


def write_sized(
    source: Source, data: Any, folder: Path, chosen: Chosen, noisy: np.ndarray | None, size: int | None
) -> Report:
    """`write` with images of a size; None: they keep theirs. Raises UnequalSizes if they differ.

    noisy: the training labels after label noise, [N]; None without noise.
    """
    sha256 = {}
    pixels: dict[str, Pixels] = {}
    shape = None
    for split in SPLITS if source.manifest is None else ():
        file = folder / f"{split}.npy"
        pixels[split] = write_images(source, *chosen[split], file, size, shape)
        shape = pixels[split].shape
        sha256[split] = file_digest(file)
    if source.manifest is not None:
        pixels["train"] = sample(source, *chosen["train"], folder / "sample.npy", size)
        shape = pixels["train"].shape
    assert shape is not None
    write_table(source, chosen, noisy, folder)
    sha256["split"] = file_digest(folder / "split.parquet")
    sha256["classes"] = file_digest(folder / "classes.txt")
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
    write_json(folder / META, meta)
    if source.manifest is not None:
        return Report(meta, source.skipped, shared=None)
    known = pixels["train"].hashes | pixels["validation"].hashes
    return Report(meta, source.skipped, len(pixels["test"].hashes & known))


def write_table(source: Source, chosen: Chosen, noisy: np.ndarray | None, folder: Path) -> None:
    """Write split.parquet (one row per image), classes.txt and, if any image was skipped, skipped.csv.

    noisy: the training labels after label noise, [N]. With noise, the table has a column `true_label` beside `label`,
    from which networks learn; without noise it has the columns, and the bytes, that it always had.
    """
    import polars as pl

    frames = []
    for split in SPLITS:
        origin, rows = chosen[split]
        true = source.splits[origin].labels[rows]
        labels = noisy if noisy is not None and split == "train" else true
        frame = pl.DataFrame(
            {
                "index": np.arange(len(rows)),
                "source": [source.splits[origin].names[row] for row in rows],
                "label": labels,
                "class": [source.classes[label] for label in labels],
                "split": [split] * len(rows),
                **({} if noisy is None else {TRUE_LABEL: true}),
            }
        )
        frames.append(frame.hstack(source.manifest.times[origin][rows]) if source.manifest else frame)
    pl.concat(frames).write_parquet(folder / "split.parquet", compression="zstd", statistics=False)
    write_class_names(folder / "classes.txt", source.classes)
    if source.skipped:
        with (folder / "skipped.csv").open("w", newline="") as out:
            csv.writer(out, lineterminator="\n").writerows([("source", "reason"), *source.skipped])


@dataclass
class Pixels:
    """Statistics of the images of a split, gathered while they are written.

    shape: [H, W, C_in] of every image.  n: number of images.  total, squares: per channel, the exact sums of the
    values and of their squares.  hashes: one per distinct image.
    """

    shape: tuple[int, int, int] | None = None
    n: int = 0
    total: Any = 0
    squares: Any = 0
    hashes: set[bytes] = field(default_factory=set)

    def add(self, image: np.ndarray) -> None:
        """Add an image [H, W, C_in] uint8, or a row [1, 1, D] float32."""
        self.n += 1
        values = image.reshape(-1, image.shape[2]).astype(np.int64 if image.dtype == np.uint8 else np.float64)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + (values * values).sum(0)
        self.hashes.add(hashlib.blake2b(image.tobytes(), digest_size=8).digest())

    def moments(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, for pixels in [0, 1]. A standard deviation is at least 1e-4."""
        assert self.shape is not None
        count = self.n * self.shape[0] * self.shape[1]
        mean = self.total / count
        std = np.sqrt(np.maximum(self.squares / count - mean**2, 0))
        return [round(float(v), 8) for v in mean / 255], [round(max(float(v), 1e-4), 8) for v in std / 255]


def write_images(
    source: Source, origin: str, rows: np.ndarray, file: Path, size: int | None, shape: tuple[int, int, int] | None
) -> Pixels:
    """Write the images at `rows` to a .npy file [N, H, W, C_in], one at a time to bound the memory in use.

    origin: the source's split.  size: side to which images are resized and cropped; None: they keep their size.
    shape: [H, W, C_in] that the images must have; None: that of the first one.
    Raises UnequalSizes if images differ in shape, and DataError if there are none.
    """
    written = Pixels(shape)
    with file.open("wb") as out:
        for k, pixels in enumerate(source.images(origin, rows)):
            image = np.ascontiguousarray(pixels if size is None else fitted(pixels, size))
            if k == 0:
                written.shape = shape = shape or image.shape
                header = {"descr": image.dtype.str, "fortran_order": False, "shape": (len(rows), *shape)}
                np.lib.format.write_array_header_1_0(out, header)
            if image.shape != shape:
                name = source.splits[origin].names[rows[k]]
                raise UnequalSizes(
                    f"{name} is {shape_text(image.shape)}, but the images before it are {shape_text(shape)}: "
                    f"set data.image_size to resize all images"
                )
            out.write(image.data)
            written.add(image)
    if written.shape is None:
        raise DataError(f"split {file.stem} has no images")
    return written


def sample(source: Source, origin: str, rows: np.ndarray, file: Path, size: int | None) -> Pixels:
    """Compute the statistics of a streamed data set from about SAMPLE evenly spaced training images.

    file: a temporary file.  The other parameters are those of `write_images`.
    """
    written = write_images(source, origin, rows[:: max(1, len(rows) // SAMPLE)], file, size, None)
    file.unlink()
    return written


def shape_text(shape: Any) -> str:
    """[H, W, C_in] as messages show it: WxHxC."""
    return f"{shape[1]}x{shape[0]}x{shape[2]}"


def padding(defaults: Defaults, size: int) -> int:
    """The source's padding in pixels, or an eighth of `size`, the shorter side of the images."""
    return max(1, round(size / 8)) if defaults.pad is None else defaults.pad

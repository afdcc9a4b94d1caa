"""Tables of features: rows of numbers with a label, from CSV or Parquet files, or from scikit-learn's package.

A row of D features is an image of one pixel with D channels, so that everything which holds for images holds for rows:
each feature is standardised by the mean and the standard deviation of the training split, as a channel is, and is kept
on the scale of 0 to 255, which are its least and its largest value in the training split.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.class_names import check_class_name, shown
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.errors import DataError, first_line

if TYPE_CHECKING:
    import polars as pl

SPLITS = ("train", "validation", "test")
KINDS = (".parquet", ".csv")
PACKAGED = {"breast_cancer": "breast_cancer.csv", "wine": "wine_data.csv"}  # in sklearn/datasets/data
MAX_CLASSES = 1000
BOOLEANS = {"true", "false"}  # CSV files have them in any case
LARGEST = 1e30  # of a scaled number: it fits into 32 bits after it is divided by a standard deviation of 1e-4, too


class Table:
    """A data set of rows of features.

    rows: for each split the features [N, D] and the labels.  classes: names by label.  names: of the rows, FILE:ROW.
    columns: the names of the features.
    """

    manifest: Manifest | None = None
    defaults = Defaults(validation=0.2, pad=0, flip=False)

    def __init__(
        self,
        rows: dict[str, tuple[np.ndarray, np.ndarray]],
        classes: list[str],
        names: dict[str, list[str]],
        columns: list[str],
    ):
        self.features = {split: features.astype(np.float64) for split, (features, _) in rows.items()}
        self.splits = {split: Split(names[split], labels.astype(np.int64)) for split, (_, labels) in rows.items()}
        self.classes, self.columns = classes, columns
        self.skipped: list[tuple[str, str]] = []
        self.low, self.range = np.zeros(1), np.ones(1)

    def scale_by(self, split: str, rows: np.ndarray) -> None:
        """Let 0 and 255 be the least and the largest value of each feature in these rows of a split.

        Raises DataError, which names the row and the column, if a number of any split does not fit on this scale.
        """
        chosen = self.features[split][rows]
        with np.errstate(over="ignore"):
            self.low, width = chosen.min(0), np.ptp(chosen, 0)
        self.range = np.where(width > 0, width, 1.0)
        for other, features in self.features.items():
            fits = (np.abs(self.scaled(features)) <= LARGEST) & np.isfinite(self.range)
            if not fits.all():
                row, column = np.argwhere(~fits)[0]
                low, high = (float(bound(chosen[:, column])) for bound in (np.min, np.max))
                raise DataError(
                    f"{shown(self.splits[other].names[row])}: {features[row, column]:g} in column "
                    f"{shown(self.columns[column])} cannot be scaled by the training rows, {low:g} to {high:g}"
                )

    def scaled(self, features: np.ndarray) -> np.ndarray:
        """Features [N, D] on the scale of 0 to 255."""
        with np.errstate(over="ignore", invalid="ignore"):
            return 255 * (features - self.low) / self.range

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows of a split: [1, 1, D] float32."""
        yield from self.scaled(self.features[split][rows]).astype(np.float32)[:, None, None]


def packaged(name: str) -> Table:
    """A table in scikit-learn's package: breast_cancer, 569 rows of 30 features, or wine, 178 of 13.

    The package is not imported, which would take seconds. Raises DataError if it is not installed.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError(f"data.source: {name} needs scikit-learn, which is not installed: run `uv sync`")
    file = Path(spec.origin).parent / "datasets" / "data" / PACKAGED[name]
    with file.open() as lines:
        _, n_features, *classes = next(lines).strip().split(",")
        values = np.loadtxt(lines, delimiter=",", dtype=np.float64)
    names = [f"{file.name}:{row + 1}" for row in range(len(values))]
    columns = [str(column) for column in range(int(n_features))]
    return Table({"train": (values[:, :-1], values[:, -1])}, classes, {"train": names}, columns)


def read_folder(root: Path, label_column: str | None) -> Table:
    """The table in ROOT/train.csv or .parquet, and in validation and test files if they exist.

    label_column: None is the column `label`. All other columns must be numbers.
    Raises DataError, which names the file and the column.
    """
    files: dict[str, Path] = {}
    for split in SPLITS:
        found = [file for kind in KINDS if (file := root / f"{split}{kind}").is_file()]
        if len(found) > 1:
            raise DataError(f"data.root: {shown(root)} has both {found[0].name} and {found[1].name}: remove one")
        if found:
            files[split] = found[0]
    if "train" not in files:
        raise DataError(f"data.root: {shown(root)} has neither train.csv nor train.parquet")
    label = label_column or "label"
    frames = {split: read_frame(file, label) for split, file in files.items()}
    columns = [c for c in frames["train"].columns if c != label]
    for split, frame in frames.items():
        check_frame(files[split], frame, label, columns)
    labels = label_texts(files, frames, label)
    classes = sorted(set(labels["train"]), key=natural)
    where = f"{shown(files['train'])}: column {shown(label)}"
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{where} has {len(classes)} classes, not 2..{MAX_CLASSES}")
    for name in classes:
        check_class_name(name, where)
    number = {name: k for k, name in enumerate(classes)}
    rows = {}
    for split, frame in frames.items():
        unknown = next((v for v in labels[split] if v not in number), None)
        if unknown is not None:
            name = shown(unknown) or "''"
            raise DataError(f"{shown(files[split])}: class {name} is not one of the training rows")
        rows[split] = (numbers(frame, columns), np.array([number[v] for v in labels[split]]))
    names = {s: [f"{files[s].name}:{row + 1}" for row in range(len(frame))] for s, frame in frames.items()}
    return Table(rows, classes, names, columns)


def label_texts(files: dict[str, Path], frames: dict[str, "pl.DataFrame"], label: str) -> dict[str, list[str]]:
    """The label of each row of each split as text. If the training labels are Booleans, true and TRUE are True."""
    texts = {split: [str(v) for v in frame[label]] for split, frame in frames.items()}
    can_be_booleans = files["train"].suffix == ".csv" or str(frames["train"][label].dtype) == "Boolean"
    if can_be_booleans and {v.lower() for v in texts["train"]} <= BOOLEANS:
        return {split: [v.title() if v.lower() in BOOLEANS else v for v in values] for split, values in texts.items()}
    return texts


def natural(name: str) -> tuple[int, float, str]:
    """The key by which classes are sorted: numbers by value, before words. `nan` is a word, as it has no order."""
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    return (1, 0.0, name) if math.isnan(number) else (0, number, name)


def read_frame(file: Path, label: str) -> "pl.DataFrame":
    """A CSV or Parquet file. The labels of a CSV file are the texts of their cells: a number may have leading zeros.

    Raises DataError if the file cannot be read, or if two columns have the same name.
    """
    import polars as pl

    from pipeline.data.sources.shards import guarded, schema_of

    if file.suffix == ".parquet":
        schema_of(file)
        return guarded(file, lambda: pl.read_parquet(file, glob=False, hive_partitioning=False))
    try:
        frame = pl.read_csv(file, schema_overrides={label: pl.String}, infer_schema_length=None, glob=False)
        columns = header(file)
    except Exception as error:  # polars raises many types
        raise DataError(f"{shown(file)} cannot be read as a table: {shown(first_line(error))}") from None
    name, times = Counter(columns).most_common(1)[0]
    if times > 1:
        raise DataError(f"{shown(file)} has {times} columns {shown(name) or 'without a name'}: keep one of them")
    return frame


def header(file: Path) -> list[str]:
    """The names of the columns of a CSV file, as they are: Polars gives a name that occurs twice another ending."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        return next(row for row in csv.reader(lines) if row)


def numbers(frame: "pl.DataFrame", columns: list[str]) -> np.ndarray:
    """Columns of a table as float64 [N, D]. NumPy has no type for integers of 128 bits."""
    import polars as pl

    return frame.select(pl.col(columns).cast(pl.Float64)).to_numpy()


def check_frame(file: Path, frame: "pl.DataFrame", label: str, columns: list[str]) -> None:
    """Raise DataError unless each row of a table has a label, and a finite number in each of these columns."""
    if not len(frame):
        raise DataError(f"{shown(file)} has no rows")
    if not columns:
        raise DataError(f"{shown(file)} has no columns besides the label")
    missing = next((c for c in (label, *columns) if c not in frame.columns), None)
    if missing is not None:
        raise DataError(f"{shown(file)} has no column {shown(missing)} (data.label_column names the label)")
    if frame[label].null_count() or has_nan(frame[label]):
        raise DataError(f"{shown(file)}: a label in column {shown(label)} is missing")
    for column in columns:
        values = frame[column]
        if not (values.dtype.is_numeric() or str(values.dtype) == "Boolean"):
            raise DataError(f"{shown(file)}: column {shown(column)} has the type {values.dtype}, not numbers")
        if values.null_count() or not np.isfinite(numbers(frame, [column])).all():
            raise DataError(f"{shown(file)}: a number in column {shown(column)} is missing or not finite")


def has_nan(labels: "pl.Series") -> bool:
    """Whether NaN is among labels that are numbers. The labels of a CSV file are texts."""
    import polars as pl

    if labels.dtype == pl.String and "NaN" in labels:
        labels = labels.cast(pl.Float64, strict=False)
    return labels.dtype.is_float() and not labels.null_count() and bool(labels.is_nan().any())

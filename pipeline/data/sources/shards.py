"""Read Parquet files that may be damaged: every failure is a DataError that names the file in one line."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import polars as pl
from polars.exceptions import PanicException

from pipeline.data.class_names import check_class_name, regular, shown
from pipeline.errors import DataError, first_line

MAGIC = b"PAR1"  # the first and last bytes of a Parquet file
SILENCE = Lock()
T = TypeVar("T")


def guarded(file: Path, read: Callable[[], T]) -> T:
    """The result of `read`. Raises DataError for any exception of Polars, whose panics derive from BaseException."""
    try:
        with silent_stderr():
            return read()
    except PanicException:
        raise DataError(f"{shown(file)} is damaged: Polars cannot read it") from None
    except Exception as error:
        raise DataError(f"{shown(file)} is damaged: {shown(first_line(error))}") from None


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard what the process writes to its standard error: a panic of Polars prints its stack from Rust."""
    with SILENCE:
        try:
            kept = os.dup(2)
        except OSError:  # the process has no standard error
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(null)


def schema_of(shard: Path) -> dict[str, Any]:
    """The columns of a shard and their types. Raises DataError if it is not a whole Parquet file."""
    name = shown(shard)
    size = regular(shard, name).st_size
    try:
        with shard.open("rb") as file:
            start = file.read(len(MAGIC))
            file.seek(max(0, size - len(MAGIC)))
            end = file.read()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}") from None
    if start != MAGIC:
        raise DataError(f"{name} is not a Parquet file{'' if size else ': it is empty (zero bytes)'}")
    if end != MAGIC or size < 3 * len(MAGIC):
        raise DataError(f"{name} is truncated: it does not end as a Parquet file does")
    return dict(guarded(shard, lambda: pl.scan_parquet(shard, glob=False).collect_schema()))


def columns(file: Path, schema: dict[str, Any], image: str | None, label: str | None) -> tuple[str, str]:
    """The names of the columns of images and labels.

    file, schema: a shard and its columns.  image, label: the configured names; None selects the only column of that
    type.
    Raises DataError if a column is missing, has another type or is ambiguous.
    """
    images = [n for n, t in schema.items() if is_image(t)]
    labels = [n for n, t in schema.items() if t.is_integer()]
    found = []
    for key, configured, candidates, kind in (
        ("data.image_column", image, images, "images (a struct with binary `bytes`, or binary)"),
        ("data.label_column", label, labels, "integer labels"),
    ):
        names = shown(", ".join(candidates))
        if configured is not None and configured not in candidates:
            raise DataError(
                f"{shown(file)}: {key} {configured!r} is not a column of {kind}; there are: {names or 'none'}"
            )
        if configured is None and len(candidates) != 1:
            several = f"several columns of {kind}: {names}; set {key} to one of them"
            raise DataError(f"{shown(file)} has {several if candidates else f'no column of {kind}'}")
        found.append(configured or candidates[0])
    return found[0], found[1]


def is_image(dtype: pl.DataType) -> bool:
    """Whether a column of this type can hold encoded images."""
    if isinstance(dtype, pl.Struct):
        return any(field.name == "bytes" and field.dtype == pl.Binary for field in dtype.fields)
    return dtype == pl.Binary


def read_labels(shard: Path, column: str) -> np.ndarray:
    """The labels of a shard: [rows] int64. Raises DataError, which names the row, if one is null or too large."""
    values = guarded(shard, lambda: pl.scan_parquet(shard, glob=False).select(column).collect()[column])
    if values.null_count():
        raise DataError(f"{shown(shard)}, row {values.is_null().arg_max()}: the label is null")
    narrow = values.cast(pl.Int64, strict=False)
    if narrow.null_count():
        row = narrow.is_null().arg_max() or 0
        raise DataError(f"{shown(shard)}, row {row}: label {values[row]} is too large")
    return narrow.to_numpy()


def read_encoded(shard: Path, column: str, dtype: pl.DataType, start: int, n: int) -> list[bytes | None]:
    """The encoded images of `n` rows of a shard from `start` on.

    dtype: of the column.  Raises DataError if the pages that hold the rows are damaged.
    """
    name = pl.col(column)
    chosen = (name.struct.field("bytes") if isinstance(dtype, pl.Struct) else name).alias("bytes")
    query = pl.scan_parquet(shard, glob=False).slice(start, n).select(chosen)
    values = guarded(shard, lambda: query.collect()["bytes"].to_list())
    if len(values) != n or not all(value is None or isinstance(value, bytes) for value in values):
        raise DataError(f"{shown(shard)} is damaged: rows {start} to {start + n - 1} do not hold {n} images")
    return values


def names_in_metadata(shard: Path, column: str) -> list[str] | None:
    """The class names in the metadata that Hugging Face writes; None without such metadata.

    column: of labels.  A name that several classes have is followed by the label in brackets.
    Raises DataError if the names are not names.
    """
    where = f"{shown(shard)}: the Hugging Face metadata of column {shown(column)}"
    advice = "write the names into classes.txt beside the shards"
    try:
        metadata = json.loads(guarded(shard, lambda: pl.read_parquet_metadata(shard))["huggingface"])
        names = metadata["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if names is None:
        return None
    if not isinstance(names, list) or not names:
        raise DataError(f"{where} hold no list of class names: {advice}")
    for label, name in enumerate(names):
        try:
            check_class_name(name)
        except DataError as error:
            raise DataError(f"{where}, class {label}: {error}: {advice}") from None
    times = Counter(names)
    return [f"{name} ({label})" if times[name] > 1 else name for label, name in enumerate(names)]


def common_names(shards: list[Path], column: str) -> list[str] | None:
    """The class names in the metadata of all shards that have any; None if no shard has.

    column: of labels.  Raises DataError for two shards that name a class differently.
    """
    named = [(shard, names) for shard in shards if (names := names_in_metadata(shard, column)) is not None]
    for shard, names in named:
        first, expected = named[0]
        for label, (name, other) in enumerate(zip_longest(names, expected, fillvalue="")):
            if name != other:
                raise DataError(
                    f"{shown(shard)}: class {label} is {shown(name) or 'missing'} in the Hugging Face metadata, but "
                    f"{shown(other) or 'missing'} in those of {shown(first)}: download all shards again; if only the "
                    f"spelling differs, write the names into classes.txt beside them"
                )
    return named[0][1] if named else None

"""What a method's networks answer, image by image: written by evaluate, read by report.

results/predictions/METHOD.parquet holds logits on the test split; METHOD.training.parquet beside it holds the classes
that the student and its teachers give to training images.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.errors import DataError, first_line
from pipeline.evaluation.false_knowledge import passed_on
from pipeline.storage.atomic import replace_file
from pipeline.storage.documents import damaged

CHECKSUM = "sha256"  # key of the file's metadata
COLUMNS = ("seed", "network", "index", "label", "prediction", "logits")
TRAINING_COLUMNS = ("seed", "index", "true", "student", "teachers")


def write_predictions(file: Path, tables: list[pl.DataFrame]) -> None:
    """Write tables (pipeline.evaluation.testing.predictions, training_answers) to one file, one after another."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content, table = io.BytesIO(), pl.concat(tables)
    table.write_parquet(content, compression="zstd", statistics=False, metadata={CHECKSUM: checksum(table)})
    replace_file(file, [content.getbuffer()])


def checksum(table: pl.DataFrame) -> str:
    """SHA-256 of the names, the types and the values of a table."""
    total = hashlib.sha256(repr(table.schema).encode())
    for column in table.get_columns():
        values = column.to_numpy()
        total.update(b"\n".join(map(str.encode, values)) if column.dtype == pl.String else values.tobytes())
    return total.hexdigest()


def read_table(file: Path) -> pl.DataFrame:
    """Return the table that `write_predictions` wrote.

    Raises DataError if it is missing or not what was written, and polars' own errors if it is no parquet file.
    """
    if not file.is_file():
        raise DataError(f"{file} is missing: run `dvc repro`")
    table = pl.read_parquet(file)
    if pl.read_parquet_metadata(file).get(CHECKSUM) != checksum(table):
        raise damaged(file, "its content does not have its checksum")
    return table


def read_logits(file: Path, seed: int, network: str, correct: np.ndarray, n_classes: int) -> tuple[np.ndarray, ...]:
    """Return the logits [N, C] float32 of a network on the test split, and the labels [N].

    Args:
        file: The method's predictions.
        seed: The seed to keep.
        network: The network to keep.
        correct: Whether each prediction is correct, [N] bool, as results/eval says.
        n_classes: C.

    Raises:
        DataError: If the file is missing or damaged, or if its predictions are not those that were evaluated.
    """
    try:
        table = read_table(file)
        rows = table.filter((pl.col("seed") == seed) & (pl.col("network") == network))
        logits = np.stack([np.asarray(row, np.float32) for row in rows["logits"]]) if len(rows) else np.zeros((0, 0))
        labels = rows["label"].to_numpy().astype(np.int64)
    except DataError:
        raise
    except Exception as error:  # polars and NumPy raise many types
        raise damaged(file, first_line(error)) from None
    if tuple(table.columns) != COLUMNS or logits.shape != (len(correct), n_classes):
        shape = f"{len(correct)} images and {n_classes} classes"
        raise damaged(file, f"expected the logits of {shape} for seed {seed} and network {network}")
    if not np.isfinite(logits).all():
        raise damaged(file, "a logit is not finite")
    if labels.min() < 0 or labels.max() >= n_classes or ((logits.argmax(1) == labels) != correct).any():
        raise damaged(file, f"its predictions of seed {seed} are not those that results/eval describes")
    return logits, labels


def read_training(file: Path, seed: int, training: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the answers of a student and its teachers on training images: index, true, student, teachers, [N] int64.

    Args:
        file: The method's answers.
        seed: The seed to keep.
        training: The entry `training` of this seed in results/eval.

    Raises:
        DataError: If the file is missing or damaged, or if its answers are not those that were evaluated.
    """
    try:
        table = read_table(file)
        rows = table.filter(pl.col("seed") == seed)
        answers = {name: rows[name].to_numpy().astype(np.int64) for name in TRAINING_COLUMNS[1:]}
    except DataError:
        raise
    except Exception as error:  # polars and NumPy raise many types
        raise damaged(file, first_line(error)) from None
    share = passed_on(answers["student"], answers["teachers"], answers["true"])
    unequal = training["passed_on"] is not None and (share is None or abs(share - training["passed_on"]) > 1e-5)
    if tuple(table.columns) != TRAINING_COLUMNS or len(rows) != training["images"] or unequal:
        raise damaged(file, f"its answers of seed {seed} are not those that results/eval describes")
    return answers

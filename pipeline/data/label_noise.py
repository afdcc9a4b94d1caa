"""Wrong training labels: of a fraction of the images, or by a confusion matrix from a file.

Teachers that learn from wrong labels pass false knowledge on, so methods that claim to filter it can be tested.
"""

from pathlib import Path

import numpy as np
import torch

from pipeline.core.randomness import uniform
from pipeline.data.class_names import LONGEST, regular, shown
from pipeline.data.split import stratified
from pipeline.errors import DataError, first_line

KEY = "data.label_noise"
STREAM = "label_noise"
TOLERANCE = 1e-6  # of the sum of a row
LARGEST = 2**28  # bytes of a confusion file


def noisy_labels(labels: np.ndarray, noise: float | np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """The labels of the training images after noise, [N] int64.

    labels: [N], the true ones.  noise: a fraction in [0, 1), or a matrix [C, C] whose row i has the probabilities of
    the labels that an image of class i gets.  seed: `data.seed`.

    Fraction (symmetric noise): exactly round(noise N) images get a wrong label. They are stratified by class, and the
    label of each is drawn uniformly from the other classes.
    Matrix: the label of each image is drawn from the row of its class, independently of all others.

    Each draw is a function of (seed, row), so an image that is wrong at a fraction is wrong in the same way at every
    larger fraction.  Raises DataError if a fraction needs another class and there is only one.
    """
    draws = uniform(seed, STREAM, 0, torch.arange(len(labels))).numpy()
    if isinstance(noise, np.ndarray):
        cumulative = noise.cumsum(1)
        cumulative /= cumulative[:, -1:]
        return np.array([cumulative[y].searchsorted(u, side="right") for y, u in zip(labels, draws)], dtype=np.int64)
    noisy = labels.astype(np.int64)
    n = round(noise * len(labels))
    if n == 0:
        return noisy
    if n_classes < 2:
        raise DataError(f"{KEY}: a wrong label needs a second class, but the data have only one")
    rows = stratified(labels, n, seed, STREAM)
    offset = 1 + np.minimum((draws[rows] * (n_classes - 1)).astype(np.int64), n_classes - 2)
    noisy[rows] = (noisy[rows] + offset) % n_classes
    return noisy


def read_confusion(file: Path, classes: list[str]) -> np.ndarray:
    """Read a confusion matrix [C, C] float64: row i has the probabilities of the labels that class i gets.

    The file is CSV. Its first line names the given labels after a first cell that is ignored; each further line has the
    true class and its probabilities, which sum to 1. Classes are named, or numbered from 0, in any order.

    classes: names by label.  Raises DataError if the file is not such a matrix of these classes.
    """
    import polars as pl

    where = f"{KEY}: {shown(file)}"
    if regular(file, where).st_size > LARGEST:
        raise DataError(f"{where} has more than {LARGEST:,} bytes")
    try:
        cells = pl.read_csv(file, has_header=False, infer_schema=False, n_rows=len(classes) + 2).fill_null("")
    except Exception as error:  # polars raises many types
        raise DataError(f"{where} cannot be read as CSV: {shown(first_line(error))}") from None
    n = len(classes)
    if cells.shape != (n + 1, n + 1):
        raise DataError(
            f"{where} must have {n + 1} lines of {n + 1} cells for {n} classes, but has {cells.height} of {cells.width}"
        )
    rows = [[cell.strip() for cell in row] for row in cells.iter_rows()]
    columns = labels_of(rows[0][1:], classes, f"{where}, line 1")
    order = labels_of([row[0] for row in rows[1:]], classes, f"{where}, first column")
    matrix = np.zeros((n, n))
    for number, (label, row) in enumerate(zip(order, rows[1:]), 2):
        try:
            values = np.array([float(cell) for cell in row[1:]])
        except ValueError:
            raise DataError(f"{where}, line {number}: a probability is not a number") from None
        if not (np.isfinite(values).all() and (values >= 0).all() and abs(values.sum() - 1) <= TOLERANCE):
            raise DataError(f"{where}, line {number}: the probabilities must not be negative and must sum to 1")
        matrix[label, columns] = values
    return matrix


def labels_of(names: list[str], classes: list[str], where: str) -> list[int]:
    """The labels of classes that are named, or numbered from 0. Raises DataError unless each class occurs once."""
    numbers = [str(label) for label in range(len(classes))]
    for known in (classes, numbers):
        if sorted(names) == sorted(known):
            label = {name: k for k, name in enumerate(known)}
            return [label[name] for name in names]
    wrong = next((n for n in names if n not in classes and n not in numbers), None)
    reason = "each class must occur once" if wrong is None else f"the data have no class '{shown(wrong[:LONGEST])}'"
    raise DataError(f"{where}: {reason}")

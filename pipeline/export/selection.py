"""Selection of the student to export, its reference logits on the test split, and images to calibrate with.

The module reads the bundles of a method's seeds. It does not know the formats of the export.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.prepared import Prepared
from pipeline.errors import DataError, ParamsError
from pipeline.estimators.catalog import is_estimator
from pipeline.storage.bundle import DIVERGED, INDEX, Bundle, Record, read_run, seed_folders
from pipeline.storage.documents import damaged

BATCH_SIZE = 256
CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class SelectedStudent:
    """A trained student.

    Attributes:
        method: The method that trained it.
        seed: The seed of its run.
        weights: "last" or "best" (on validation).
        record: Its entry in networks.json.
        module: The network, in evaluation mode on the CPU.
    """

    method: str
    seed: int
    weights: str
    record: Record
    module: nn.Module


def select_student(students: Path, method: str, weights: str) -> SelectedStudent:
    """Load the student of the seed with the highest validation accuracy; ties go to the lowest seed.

    Args:
        students: The folder models/students/METHOD.
        method: Name of the method.
        weights: The weights to compare and load, "last" or "best" (on validation).

    Raises:
        DataError: If no seed is trained.
        ParamsError: If the method trains a group instead of a student.
    """
    candidates = []
    folders = seed_folders(students)
    for folder in folders:
        if (folder / DIVERGED).exists():
            continue
        metadata, bundle = read_run(folder), Bundle.read(folder)
        if not metadata["student"]:
            members = ", ".join(metadata["members"])
            raise ParamsError(
                f"export.method: {method} trains a group ({members}), not a student; choose a method that trains one"
            )
        record = bundle.record(metadata["student"])
        if is_estimator(record.arch):
            raise ParamsError(
                f"export.method: the student of {method} is {record.arch}, an estimator; only networks are exported"
            )
        if record.validation is None:
            raise damaged(folder / INDEX, f"network {metadata['student']} has no validation accuracy")
        candidates.append((record.validation[weights], -metadata["seed"], bundle, metadata, record))
    if folders and not candidates:
        raise DataError(f"{students}: every seed has diverged, so there is no student to export")
    if not candidates:
        raise DataError(f"{students} is missing: run `python -m stages.distill {method}` (or dvc repro)")
    _, _, bundle, metadata, record = max(candidates, key=lambda candidate: candidate[:2])
    return SelectedStudent(method, metadata["seed"], weights, record, bundle.load(metadata["student"], weights))


def reference_outputs(module: nn.Module, data: Prepared) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run PyTorch on the test split, as the reference that the ONNX model has to match.

    Yields:
        For each batch, the images as pixels in [0, 1], [B, C_in, H, W] float32, and the network's logits on them,
        [B, C] float32.
    """
    for x in normalized_batches(data):
        with torch.inference_mode():
            logits = module(x).numpy()
        yield pixels(x, data), logits


def pixel_batches(data: Prepared) -> Iterator[np.ndarray]:
    """Yield the test split in batches, as pixels in [0, 1], [B, C_in, H, W] float32."""
    for x in normalized_batches(data):
        yield pixels(x, data)


def normalized_batches(data: Prepared) -> Iterator[Tensor]:
    """Yield the test split in batches of normalized images, [B, C_in, H, W]; streamed ones are decoded each time."""
    views = data.views("test", device=torch.device("cpu"))
    for batch in torch.arange(len(views)).split(BATCH_SIZE):
        yield views.plain(batch)


def calibration_images(data: Prepared) -> np.ndarray:
    """Return up to CALIBRATION_IMAGES training images, evenly spaced, as pixels in [0, 1], [N, C_in, H, W] float32."""
    views = data.views("train", device=torch.device("cpu"), pad=0, flip=False)
    index = torch.linspace(0, len(views) - 1, min(len(views), CALIBRATION_IMAGES), dtype=torch.float64).round().long()
    return pixels(views.plain(index), data)


def pixels(x: Tensor, data: Prepared) -> np.ndarray:
    """Return normalized images, [B, C_in, H, W], as pixels in [0, 1]."""
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (data.meta.mean, data.meta.std))
    return (x * std + mean).contiguous().numpy()

"""Selection of the student to export, and its reference logits on the test split.

The module reads the bundles of a method's seeds. It does not know the formats of the export.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.data.prepared import Prepared
from pipeline.errors import DataError, ParamsError
from pipeline.storage.bundle import INDEX, Bundle, Record, read_run, seed_folders
from pipeline.storage.documents import damaged

BATCH_SIZE = 256


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
    for folder in seed_folders(students):
        metadata, bundle = read_run(folder), Bundle.read(folder)
        if not metadata["student"]:
            members = ", ".join(metadata["members"])
            raise ParamsError(
                f"export.method: {method} trains a group ({members}), not a student; choose a method that trains one"
            )
        record = bundle.record(metadata["student"])
        if record.validation is None:
            raise damaged(folder / INDEX, f"network {metadata['student']} has no validation accuracy")
        candidates.append((record.validation[weights], -metadata["seed"], bundle, metadata, record))
    if not candidates:
        raise DataError(f"{students} is missing: run `python -m stages.distill {method}` (or dvc repro)")
    _, _, bundle, metadata, record = max(candidates, key=lambda candidate: candidate[:2])
    return SelectedStudent(method, metadata["seed"], weights, record, bundle.load(metadata["student"], weights))


def reference_outputs(module: nn.Module, data: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Run PyTorch on the test split, as the reference that the ONNX model has to match.

    Returns:
        The images as pixels in [0, 1], [N, C_in, H, W] float32, and the network's logits on them, [N, C] float32.
    """
    views = data.views("test", device=torch.device("cpu"))
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (data.meta.mean, data.meta.std))
    images, logits = [], []
    with torch.inference_mode():
        for batch in torch.arange(len(views)).split(BATCH_SIZE):
            x = views.plain(batch)
            images.append((x * std + mean).contiguous().numpy())
            logits.append(module(x).numpy())
    return np.concatenate(images), np.concatenate(logits)

"""Which trained student is taken away, and what it says of the test split."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.core.bundle import Bundle, Record
from pipeline.data.prepared import Prepared
from pipeline.errors import DataError, ParamsError

CHUNK = 256


@dataclass(frozen=True)
class Chosen:
    """A student. weights: "last" or "best"."""

    method: str
    seed: int
    weights: str
    record: Record
    module: nn.Module


def choose(students: Path, method: str, weights: str) -> Chosen:
    """The seed whose student is best on validation; of equals the first.

    Raises DataError where nothing was trained, ParamsError where the method ends in no single student.
    """
    found = []
    for folder in sorted(students.glob("seed-*"), key=lambda f: int(f.name.split("-")[1])):
        about, bundle = json.loads((folder / "run.json").read_text()), Bundle.read(folder)
        if not about["student"]:
            raise ParamsError(f"export.method: {method} ends in a group ({', '.join(about['members'])}), not a student")
        record = bundle.networks[about["student"]]
        assert record.validation is not None
        found.append((record.validation[weights], -about["seed"], bundle, about, record))
    if not found:
        raise DataError(f"{students} is missing: run `python -m stages.distill {method}` (or dvc repro)")
    _, _, bundle, about, record = max(found, key=lambda entry: entry[:2])
    return Chosen(method, about["seed"], weights, record, bundle.load(about["student"], weights))


def tested(module: nn.Module, data: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """The test split as pixels in 0..1 [N, D, H, W] float32, and the network's logits on it."""
    views = data.views("test", device=torch.device("cpu"))
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (data.meta.mean, data.meta.std))
    images, logits = [], []
    with torch.inference_mode():
        for part in torch.arange(len(views)).split(CHUNK):
            x = views.plain(part)
            images.append((x * std + mean).contiguous().numpy())
            logits.append(module(x).numpy())
    return np.concatenate(images), np.concatenate(logits)

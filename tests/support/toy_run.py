"""A small real run: synthetic images, tiny networks, and the training loop that the stages use."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from pipeline.core.interface import Network
from pipeline.data.views import Views
from pipeline.training.network import initialise
from pipeline.training.run import Run

RECIPE = {
    "epochs": 2,
    "batch_size": 8,
    "optimizer": "sgd",
    "lr": 0.1,
    "layer_decay": 1.0,
    "beta2": 0.999,
    "clip_grad_norm": None,
    "schedule": "cosine",
    "milestones": (0.5,),
    "gamma": 0.1,
    "warmup_epochs": 0,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "compile": False,
    "sync_batchnorm": False,
}
N_CLASSES = 3
SHAPE = (8, 8, 1)


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy blob in one of three corners, by class: learnable, but not within one epoch."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % N_CLASSES
    x = draw.integers(0, 120, (n, *SHAPE))
    for k, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        x[k, 4 * row : 4 * row + 3, 4 * column : 4 * column + 3] += draw.integers(0, 130, (3, 3, 1))
    return x.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def views(n: int, seed: int, device: str, **augmentation) -> Views:
    x, y = images(n, seed)
    device = torch.device(device)
    return Views(x, y, mean=[0.3], std=[0.2], pad=1, num_classes=N_CLASSES, device=device, **augmentation)


class ToyRuns:
    """Builds runs that share data, and the weights of a teacher and two assistants.

    augmentation: arguments of the training set's Views.
    """

    def __init__(self, folder: Path, device: str = "cpu", **augmentation):
        self.folder, self.device = folder, device
        self.train = views(44, 0, device, **{"flip": False} | augmentation)
        self.validation = views(24, 1, device, flip=False)
        for k, name in enumerate(("teacher", "ta1", "ta2")):
            arch = {"teacher": "tiny_plain2_32", "ta1": "tiny_plain2_16", "ta2": "tiny_plain2_12"}[name]
            module = initialise(Network(arch), seed=100 + k, num_classes=N_CLASSES, in_chans=1, image_size=(8, 8))
            save_file(module.state_dict(), folder / f"{name}.safetensors")
        self.start = {
            name: Network(arch, weights=folder / f"{name}.safetensors", learns=False)
            for name, arch in (
                ("teacher", "tiny_plain2_32"),
                ("ta1", "tiny_plain2_16"),
                ("ta2", "tiny_plain2_12"),
            )
        }
        self.group = {
            "teacher": self.start["teacher"],
            "ta1": Network("tiny_plain2_16"),
            "ta2": Network("tiny_plain2_16"),
        }

    def run(
        self,
        method,
        start=None,
        *,
        networks=None,
        seed=0,
        checkpoint=None,
        minutes=10.0,
        dtype=None,
        cache=None,
        accelerator=None,
        **recipe,
    ):
        networks = networks or method.networks("tiny_plain2_12", self.start if start is None else start)
        return Run(
            method,
            networks,
            self.train,
            self.validation,
            SimpleNamespace(**RECIPE | recipe),
            seed=seed,
            accelerator=accelerator or Accelerator(cpu=self.device == "cpu"),
            checkpoint=checkpoint,
            checkpoint_minutes=minutes,
            dtype=dtype or torch.float32,
            cache=cache,
        )


def same(a, b) -> bool:
    """Whether two state dicts are bitwise equal."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

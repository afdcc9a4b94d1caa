"""This project's engine, a step at a time, as a stage would run it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from benchmarks.field import BATCH
from benchmarks.timing import Work
from pipeline.core.logits import LogitStore
from pipeline.core.numerics import settle
from pipeline.core.run import Run
from pipeline.core.vocabulary import Method, Network
from pipeline.data.views import Views
from pipeline.models.create import create

CLASSES, SIZE = 100, (32, 32)
RECIPE = {
    "epochs": 2,
    "batch_size": BATCH,
    "lr": 0.05,
    "schedule": "constant",
    "milestones": (),
    "gamma": 0.1,
    "warmup_epochs": 0,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "compile": False,
    "sync_batchnorm": False,
}


def network(arch: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create(arch, num_classes=CLASSES, in_chans=3, image_size=SIZE)


def guide(arch: str, folder: Path) -> Network:
    """A frozen network with weights of its own."""
    file = folder / f"{arch}.safetensors"
    if not file.exists():
        save_file(network(arch).state_dict(), file)
    return Network(arch, weights=file, learns=False)


def views(images: np.ndarray, labels: np.ndarray, device: torch.device) -> Views:
    moments = {"mean": [0.507, 0.487, 0.441], "std": [0.268, 0.257, 0.276]}
    return Views(images, labels, pad=4, flip=True, num_classes=CLASSES, device=device, **moments)


@contextmanager
def numerics_of_a_stage() -> Iterator[None]:
    """Deterministic and without TF32. The field's loops have PyTorch's defaults."""
    deterministic, filled = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    kept = filled.fill_uninitialized_memory, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    settle()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        filled.fill_uninitialized_memory, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept


def as_in_a_stage(work: Work) -> Work:
    def settled() -> None:
        with numerics_of_a_stage():
            work()

    return settled


class Ours:
    """One run in the middle of its first leg; each call is one step of it."""

    def __init__(
        self,
        method: Method,
        networks: Mapping[str, Network],
        train: Views,
        *,
        store: LogitStore | None = None,
        compile: bool = False,
    ):
        self.run = Run(
            method,
            networks,
            train,
            train,
            SimpleNamespace(**RECIPE | {"compile": compile}),
            seed=0,
            accelerator=Accelerator(cpu=train.device.type == "cpu"),
            store=store,
        )
        self.leg = next(iter(method.legs(self.run.nets, self.run.train_set)))
        self.data = self.run.train_set.of(self.leg)
        for name in self.leg.learners:
            self.run.nets[name].start(fresh=False)
        self.run.guides.open(self.run.nets, 0, self.leg, 2, self.data)
        self.steps = len(self.data.rows) // BATCH
        self.at = 0
        self.order = self.run.batches.order(0, 1, self.data.rows)

    def __call__(self) -> None:
        with numerics_of_a_stage():
            self.run.advance(0, self.leg, self.data, self.order, 1, self.at % self.steps, 1.0)
        self.at += 1

    def filled(self) -> "Ours":
        """After one epoch, so that a store holds what its guides say."""
        for _ in range(self.steps):
            self()
        return self

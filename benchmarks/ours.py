"""This project's training loop, one step at a time, as a stage runs it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import save_file

from benchmarks.field import BATCH
from benchmarks.timing import Work
from pipeline.core.interface import Method, Network
from pipeline.data.views import Views
from pipeline.models.create import create
from pipeline.runtime.determinism import enable_determinism
from pipeline.storage.logit_cache import LogitCache
from pipeline.training.legs import plan
from pipeline.training.run import Run

CLASSES, SIZE = 100, (32, 32)
RECIPE = {
    "epochs": 2,
    "batch_size": BATCH,
    "optimizer": "sgd",
    "lr": 0.05,
    "layer_decay": 1.0,
    "beta2": 0.999,
    "clip_grad_norm": None,
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
    """A frozen network with randomly initialised weights, saved to a file."""
    file = folder / f"{arch}.safetensors"
    if not file.exists():
        save_file(network(arch).state_dict(), file)
    return Network(arch, weights=file, learns=False)


def views(images: np.ndarray, labels: np.ndarray, device: torch.device) -> Views:
    moments = {"mean": [0.507, 0.487, 0.441], "std": [0.268, 0.257, 0.276]}
    return Views(images, labels, pad=4, flip=True, num_classes=CLASSES, device=device, **moments)


@contextmanager
def stage_numerics() -> Iterator[None]:
    """Use the numerical settings of a stage: deterministic and without TF32. The usual loops use PyTorch's defaults."""
    deterministic, filled = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    saved = filled.fill_uninitialized_memory, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    enable_determinism()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        filled.fill_uninitialized_memory, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = saved


def with_stage_settings(work: Work) -> Work:
    """Wrap work so that it runs with the numerical settings of a stage."""

    def wrapped() -> None:
        with stage_numerics():
            work()

    return wrapped


class Ours:
    """A run within its first leg. Each call trains one step.

    precision: "no" for fp32, or "bf16". A process may hold runs of both if those in fp32 are created first: Accelerate
    keeps one state for the process, which is the one of the last run.
    """

    def __init__(
        self,
        method: Method,
        networks: Mapping[str, Network],
        train: Views,
        *,
        cache: LogitCache | None = None,
        compile: bool = False,
        precision: str = "no",
    ):
        AcceleratorState._reset_state()
        self.run = Run(
            method,
            networks,
            train,
            train,
            SimpleNamespace(**RECIPE | {"compile": compile}),
            seed=0,
            accelerator=Accelerator(cpu=train.device.type == "cpu", mixed_precision=precision),
            cache=cache,
        )
        leg = next(iter(method.legs(self.run.nets, self.run.train_set)))
        self.leg = plan(0, leg, self.run.train_set, epochs=2, batch_size=BATCH)
        for name in self.leg.learners:
            self.run.nets[name].begin_leg(fresh=False)
        self.run.guides.begin_leg(self.run.nets, self.leg)
        self.steps = 0

    def __call__(self) -> None:
        with stage_numerics():
            step = self.steps % self.leg.n_steps
            batch = self.run.batches(self.leg, 1, step, self.run.state.metrics.recorder(step), self.run.state.memory)
            for losses in self.run.method.step(self.run.nets, self.leg, batch):
                self.run.loop.update(losses, 1.0)
        self.steps += 1

    def with_filled_cache(self) -> "Ours":
        """Train one epoch, which fills the cache with the logits of the guides. Returns itself."""
        for _ in range(self.leg.n_steps):
            self()
        return self

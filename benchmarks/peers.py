"""Time the unchanged code of a peer's checkout: `--peer DIR`. None of its code is part of this project.

Each step calls the peer's own training loop with its own networks and a loader of one batch. The other inputs of the
loop, such as parsed arguments, are passed from here; no file of the checkout is changed.
"""

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor, nn

from benchmarks.field import Step, sgd

Data = Iterator[tuple[Tensor, Tensor]]
MARKS = {"RepDistiller": ("helper/loops.py", "distiller_zoo"), "DGKD": ("model_factory.py", "plain_cnn_cifar.py")}


class Peer:
    """A checkout, recognised by files that only this repository has."""

    def __init__(self, folder: Path, device: str):
        self.device = device
        known = (name for name, marks in MARKS.items() if all((folder / mark).exists() for mark in marks))
        self.name = next(known, None)
        if self.name is None:
            raise ValueError(f"{folder} is not a checkout of {' or '.join(MARKS)}")
        sys.path.insert(0, str(folder.resolve()))

    def kd(self, student: str, teacher: str, data: Data) -> Step | None:
        """RepDistiller's train_distill with `distill='kd'`."""
        if self.name != "RepDistiller":
            return None
        loops, losses = module("helper.loops"), module("distiller_zoo")
        create = module("models").model_dict
        networks = nn.ModuleList([create[student](num_classes=100), create[teacher](num_classes=100)])
        networks.to(self.device)
        criteria = nn.ModuleList([nn.CrossEntropyLoss(), losses.DistillKL(4.0), losses.DistillKL(4.0)])
        options = SimpleNamespace(distill="kd", gamma=0.1, alpha=0.9, beta=0.0, print_freq=100)
        optimizer, index = sgd(networks[0]), torch.zeros(())

        def step() -> None:
            with suppressed_output():
                loops.train_distill(1, [(*next(data), index)], networks, criteria, optimizer, options)

        return step

    def dgkd(self, student: str, guides: Sequence[str], data: Data) -> Step | None:
        """DGKD's TrainManager.train, without dropping guides."""
        if self.name != "DGKD":
            return None
        published, make = module("train"), module("model_factory").create_cnn_model
        nets = [make(arch, "cifar100", use_cuda=False).to(self.device) for arch in (student, *guides)]
        vars(published).update(ta_list=nets[2:], args=SimpleNamespace(drop_num=0))  # globals that its loop reads
        settings = {"device": self.device, "name": "", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
        settings |= {"lambda_student": 0.9, "T_student": 4, "epochs": 1, "drop_num": 0, "is_plane": True}
        manager = published.TrainManager(nets[0], nets[1], nets[2:], [], [], settings)
        manager.validate = lambda step: -1  # skips testing and saving

        def step() -> None:
            manager.train_loader = [next(data)]
            with suppressed_output():
                manager.train()

        return step


def module(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@contextlib.contextmanager
def suppressed_output() -> Iterator[None]:
    """Suppress what the loops print and warn at every call."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

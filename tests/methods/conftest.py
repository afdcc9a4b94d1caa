"""One training step of a method on tiny networks, in one process, with a random batch."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from pipeline.core.interface import Batch
from pipeline.runtime.processes import Processes
from pipeline.training.network import TrainingNetwork

RECIPE = SimpleNamespace(
    optimizer="sgd",
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    clip_grad_norm=None,
    compile=False,
    sync_batchnorm=False,
)


def tiny(seed: int, n_classes: int = 3) -> nn.Module:
    """A CNN with BatchNorm for images [B, 1, 4, 4], in float64."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, n_classes)
    ).double()


@dataclass
class ToyStep:
    """Networks by name, as the training loop holds them, a batch, and the terms that a step notes."""

    nets: dict[str, TrainingNetwork]
    batch: Batch
    notes: dict = field(default_factory=dict)

    def run(self, method, leg, after_yield=None):
        """Run one step as the training loop does. Returns the yielded losses as numbers, one dict for each update."""
        updates = []
        for losses in method.step(self.nets, leg, self.batch):
            updates.append({n: {t: float(v) for t, v in terms.items()} for n, terms in losses.items()})
            for name in losses:
                self.nets[name].zero_grad()
            sum(v for terms in losses.values() for v in terms.values()).backward()
            if after_yield:
                after_yield(losses)
            for name in losses:
                self.nets[name].step(1.0)
        return updates


@pytest.fixture
def toy_step():
    """Builds a ToyStep from the names of learners and guides."""
    accelerator = Accelerator(cpu=True)

    def build(learners, guides=(), size=6, seed=0):
        nets = {
            name: TrainingNetwork(tiny(k), accelerator, learns=name in learners, lr=0.1, batch=8, recipe=RECIPE)
            for k, name in enumerate((*learners, *guides))
        }
        for name in learners:
            nets[name].begin_leg(fresh=False)
        g = torch.Generator().manual_seed(seed)
        notes = {}
        batch = Batch(
            x=torch.randn(size, 1, 4, 4, generator=g, dtype=torch.float64),
            y=torch.randint(3, (size,), generator=g),
            index=torch.arange(size),
            epoch=1,
            draw=torch.Generator().manual_seed(7),
            world=Processes(accelerator),
            note=lambda network, term, value: notes.setdefault((network, term), value),
            memory={},
        )
        return ToyStep(nets, batch, notes)

    return build

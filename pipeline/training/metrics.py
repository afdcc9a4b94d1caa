"""Metrics of an epoch: every term of every step, kept as tensors and read once, when the epoch ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipeline.core.interface import World

HistoryRow = tuple[int, int, str, str, float]  # leg, epoch, network, term, value


@dataclass
class EpochMetrics:
    """The values recorded so far in an epoch, by network and term.

    Values stay tensors because an `.item()` in every step would stall a GPU. A value may be a vector, such as a
    histogram; it becomes the terms NAME/0, NAME/1, ...
    """

    values: dict[tuple[str, str], list[Tensor | float]] = field(default_factory=dict)
    steps: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, step: int, network: str, term: str, value: Tensor | float) -> None:
        """Record a value of one step."""
        key = (network, term)
        self.values.setdefault(key, []).append(value.detach() if isinstance(value, Tensor) else value)
        self.steps.setdefault(key, []).append(step)

    def recorder(self, step: int) -> Callable[[str, str, Tensor | float], None]:
        """`add` for one step: a function of (network, term, value)."""
        return partial(self.add, step)

    def stacked(self) -> dict[tuple[str, str], Tensor]:
        """[steps] or [steps, width] float64 on the CPU for each (network, term), in sorted order."""
        stacked = {}
        for key in sorted(self.values):
            values = self.values[key]
            device = next((v.device for v in values if isinstance(v, Tensor)), None)  # restored values may be on a GPU
            stacked[key] = torch.stack([torch.as_tensor(v, device=device) for v in values]).double().cpu()
        return stacked

    def means(self, world: World, device: torch.device) -> dict[tuple[str, str], Tensor]:
        """Means over the steps in which a term occurred, and over all ranks."""
        return {key: world.mean(v.mean(0).to(device)).cpu() for key, v in self.stacked().items()}

    def first_not_finite(self, leg: int, epoch: int) -> dict[str, Any] | None:
        """Where the earliest value that is not finite was recorded on this rank (`Diverged.at`), or None."""
        found = []
        for (network, term), v in self.stacked().items():
            bad = (~v.flatten(1).isfinite().all(1) if v.dim() > 1 else ~v.isfinite()).nonzero()
            if len(bad):
                found.append((self.steps[network, term][int(bad[0])], network, term))
        if not found:
            return None
        step, network, term = min(found)
        return {"network": network, "term": term, "leg": leg, "epoch": epoch, "step": step}

    def to_dict(self) -> dict:
        """The values as plain data, for a checkpoint."""
        return {
            "keys": list(self.stacked()),
            "values": list(self.stacked().values()),
            "steps": [self.steps[key] for key in self.stacked()],
        }

    @classmethod
    def from_dict(cls, saved: dict, device: torch.device) -> "EpochMetrics":
        """The metrics that `to_dict` saved."""
        keys = [(network, term) for network, term in saved["keys"]]
        return cls(
            {key: list(v.to(device)) for key, v in zip(keys, saved["values"])},
            {key: list(steps) for key, steps in zip(keys, saved["steps"])},
        )


def rows_of_epoch(leg: int, epoch: int, means: dict[tuple[str, str], Tensor]) -> list[HistoryRow]:
    """History rows of an epoch's means; a vector gives one row for each entry."""
    rows: list[HistoryRow] = []
    for (network, term), value in means.items():
        if value.dim() == 0:
            rows.append((leg, epoch, network, term, float(value)))
        else:
            rows += [(leg, epoch, network, f"{term}/{k}", float(v)) for k, v in enumerate(value)]
    return rows

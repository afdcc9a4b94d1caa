"""What happened in an epoch: every term of every step, kept as tensors, read once at the epoch's end."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.core.vocabulary import World
from pipeline.errors import UserError

Row = tuple[int, int, str, str, float]  # leg, epoch, network, term, value
COLUMNS = ("seed", "leg", "epoch", "network", "term", "value")


@dataclass
class Tally:
    """The terms of an epoch so far. A `.item()` at every step would stall a GPU, so values stay tensors.

    A value may be a vector (a histogram): it becomes the terms NAME/0, NAME/1, ...
    """

    values: dict[tuple[str, str], list[Tensor | float]] = field(default_factory=dict)
    steps: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, step: int, network: str, term: str, value: Tensor | float) -> None:
        key = (network, term)
        self.values.setdefault(key, []).append(value.detach() if isinstance(value, Tensor) else value)
        self.steps.setdefault(key, []).append(step)

    def stacked(self) -> dict[tuple[str, str], Tensor]:
        """[steps] or [steps, width] float64 on the CPU, in a fixed order of keys."""
        stacked = {}
        for key in sorted(self.values):
            values = self.values[key]
            device = next((v.device for v in values if isinstance(v, Tensor)), None)  # a restored one may be on a GPU
            stacked[key] = torch.stack([torch.as_tensor(v, device=device) for v in values]).double().cpu()
        return stacked

    def means(self, world: World, device: torch.device) -> dict[tuple[str, str], Tensor]:
        """Means over the steps in which a term occurred, and over the ranks."""
        return {key: world.mean(v.mean(0).to(device)).cpu() for key, v in self.stacked().items()}

    def check_finite(self, leg: int, epoch: int, lr: float) -> None:
        """Raises UserError naming the earliest value that is not finite."""
        found = self.not_finite()
        if found:
            network, term, step = found
            raise UserError(
                f"the loss is not finite: network {network}, term {term}, leg {leg}, epoch {epoch}, step {step} "
                f"(train.lr is {lr}; a smaller one may help)"
            )

    def not_finite(self) -> tuple[str, str, int] | None:
        """(network, term, step) of the earliest value that is not finite."""
        found = []
        for (network, term), v in self.stacked().items():
            bad = (~v.flatten(1).isfinite().all(1) if v.dim() > 1 else ~v.isfinite()).nonzero()
            if len(bad):
                found.append((self.steps[network, term][int(bad[0])], network, term))
        if not found:
            return None
        step, network, term = min(found)
        return network, term, step

    def state(self) -> dict:
        return {
            "keys": list(self.stacked()),
            "values": list(self.stacked().values()),
            "steps": [self.steps[key] for key in self.stacked()],
        }

    @classmethod
    def restored(cls, state: dict, device: torch.device) -> "Tally":
        keys = [(network, term) for network, term in state["keys"]]
        return cls(
            {key: list(v.to(device)) for key, v in zip(keys, state["values"])},
            {key: list(steps) for key, steps in zip(keys, state["steps"])},
        )


def rows_of(leg: int, epoch: int, means: dict[tuple[str, str], Tensor]) -> list[Row]:
    """History rows of an epoch's means; a vector gives one row an entry."""
    rows: list[Row] = []
    for (network, term), value in means.items():
        if value.dim() == 0:
            rows.append((leg, epoch, network, term, float(value)))
        else:
            rows += [(leg, epoch, network, f"{term}/{k}", float(v)) for k, v in enumerate(value)]
    return rows

"""Accuracy on the validation split, which chooses the best epoch of a network."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pipeline.core.losses import cross_entropies
from pipeline.runtime.processes import Processes
from pipeline.training.learner import Learner
from pipeline.training.legs import PlannedLeg
from pipeline.training.metrics import HistoryRow
from pipeline.training.state import TrainState
from pipeline.training.training_set import Views

CHUNK = 512  # images in one forward


class Validation:
    """Validates the networks of a leg at the end of each epoch."""

    def __init__(
        self,
        views: Views,
        nets: Mapping[str, Learner],
        processes: Processes,
        state: TrainState,
        dtype: torch.dtype,
    ):
        self.views, self.nets, self.processes, self.state, self.dtype = views, nets, processes, state, dtype

    def __call__(self, leg: PlannedLeg, epoch: int) -> list[HistoryRow]:
        """History rows of all learners, and in the first epoch of the guides too; keeps the best weights.

        The BatchNorm buffers of rank 0 are copied to all ranks first, so that the ranks validate the same network.
        """
        for name in leg.learners:
            self.processes.broadcast(list(self.nets[name].module.buffers()))
        rows: list[HistoryRow] = []
        for name in leg.learners if epoch > 1 else (*leg.learners, *leg.guides):
            measured = self.measure(name)
            rows += [(leg.number, epoch, name, f"validation/{k}", v) for k, v in measured.items()]
            if name in leg.learners:
                self.state.keep_best(name, self.nets[name].weights, measured["top1"], epoch)
        return rows

    def measure(self, name: str) -> dict[str, float]:
        """One network; a frozen guide is measured once, for all runs that share its cached logits."""
        cached = self.nets[name].cached_logits
        (known,) = self.processes.broadcast_objects([cached and cached.load_value("validation")])
        if known is None:
            known = validate(self.nets[name].forward_eval, self.views, self.processes, self.dtype)
            if cached and self.processes.rank == 0:
                cached.save_value("validation", known)
        return known


def validate(
    forward: Callable[[Tensor], Tensor], views: Views, processes: Processes, dtype: torch.dtype
) -> dict[str, float]:
    """top1 in percent, nll in nats, and the mean confidence max_c p(c) over all images; the ranks share the work."""
    sums = torch.zeros(3, dtype=torch.float64, device=processes.device)
    parts = torch.arange(len(views), device=processes.device).split(CHUNK)
    for k in processes.rank_indices(len(parts)):
        z = forward(views.plain(parts[k]).to(dtype))
        y = views.labels[parts[k]]
        right = (z.argmax(1) == y).sum()
        sums += torch.stack([right, cross_entropies(z, y).double().sum(), z.softmax(1).amax(1).double().sum()])
    right, nll, confidence = list(processes.mean(sums) * processes.size / len(views))
    return {"top1": 100 * float(right), "nll": float(nll), "confidence": float(confidence)}

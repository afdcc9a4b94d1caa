"""How a network does on the validation split: what chooses its best epoch."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.core.losses import cross_entropies
from pipeline.core.trainset import Views
from pipeline.core.world import Processes

CHUNK = 512


def validate(teach: Callable[[Tensor], Tensor], views: Views, world: Processes, dtype: torch.dtype) -> dict[str, float]:
    """top1 in percent, nll in nats, and the mean confidence max_c p(c), over all images; the ranks share the work."""
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)
    parts = torch.arange(len(views), device=world.device).split(CHUNK)
    for k in world.share(len(parts)):
        z = teach(views.plain(parts[k]).to(dtype))
        y = views.labels[parts[k]]
        right = (z.argmax(1) == y).sum()
        sums += torch.stack([right, cross_entropies(z, y).double().sum(), z.softmax(1).amax(1).double().sum()])
    right, nll, confidence = list(world.mean(sums) * world.size / len(views))
    return {"top1": 100 * float(right), "nll": float(nll), "confidence": float(confidence)}

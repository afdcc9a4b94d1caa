"""The optimizer of a network: SGD or AdamW, with layer-wise decay and clipping, and its state as plain data.

The learning rate is set before each update, as a function of progress, and all other state belongs to a parameter, so a
checkpoint that holds that state resumes bit for bit.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pipeline.params.schema import Train

SavedState = list[dict[str, Tensor]]
"""The state of each parameter, in the order of `Module.parameters`; empty before the first update."""


class Optimizer:
    """Updates the weights of one network.

    lr: learning rate before the schedule.  layer_decay: factor of the learning rate from each layer of a network of
    timm to the one before it; 1 for none.
    """

    def __init__(self, module: nn.Module, recipe: "Train", *, lr: float, layer_decay: float, fused: bool):
        self.module, self.lr, self.clip_grad_norm = module, lr, recipe.clip_grad_norm
        groups: Any = module.parameters()
        if layer_decay < 1:
            from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]: it is public

            groups = param_groups_layer_decay(module, recipe.weight_decay, layer_decay=layer_decay)
            for group in groups:
                group["weight_decay"] = recipe.weight_decay  # timm leaves vectors out; here it applies to all weights
        if recipe.optimizer == "adamw":
            self.torch_optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                groups,
                lr=lr,
                betas=(recipe.momentum, recipe.beta2),
                weight_decay=recipe.weight_decay,
                fused=fused,
            )
        else:
            self.torch_optimizer = torch.optim.SGD(
                groups,
                lr=lr,
                momentum=recipe.momentum,
                nesterov=recipe.nesterov,
                weight_decay=recipe.weight_decay,
                fused=fused,
            )

    def step(self, factor: float) -> None:
        """Update the weights.  factor: of the learning rate, from the schedule."""
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_grad_norm)
        for group in self.torch_optimizer.param_groups:
            group["lr"] = self.lr * factor * group.get("lr_scale", 1.0)
        self.torch_optimizer.step()

    def zero_grad(self) -> None:
        """Free the gradients."""
        self.torch_optimizer.zero_grad(set_to_none=True)

    def state(self) -> SavedState:
        """A copy on the CPU of the state of each parameter."""
        states = [self.torch_optimizer.state.get(p, {}) for p in self.module.parameters()]
        return [{k: v.detach().cpu().clone() for k, v in state.items() if v is not None} for state in states]

    def load_state(self, saved: SavedState) -> None:
        """Load what `state` returned."""
        for p, state in zip(self.module.parameters(), saved):
            if state:
                # AdamW counts its steps on the CPU, unless it is fused
                on_cpu = not self.torch_optimizer.defaults.get("fused")
                device = {k: "cpu" if k == "step" and on_cpu else p.device for k in state}
                self.torch_optimizer.state[p].update({k: v.clone().to(device[k]) for k, v in state.items()})

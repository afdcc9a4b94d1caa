"""The optimizer of a network: SGD or AdamW, with layer-wise decay and clipping, and its state as plain data.

The learning rate is set before each update, as a function of progress, and all other state belongs to a parameter, so a
checkpoint that holds that state resumes bit for bit. The updates are PyTorch's functional ones: its optimizer classes
import the compiler, which takes seconds at the start of every stage.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

if TYPE_CHECKING:
    from pipeline.params.schema import Train

SavedState = list[dict[str, Tensor]]
"""The state of each parameter, in the order of `Module.parameters`; empty before the first update."""
EPS = 1e-8  # of AdamW


@dataclass
class Group:
    """Parameters that share a learning rate.  lr_scale: its factor."""

    params: list[nn.Parameter]
    lr_scale: float = 1.0


class Optimizer:
    """Updates the weights of one network.

    lr: learning rate before the schedule.  layer_decay: factor of the learning rate from each layer of a network of
    timm to the one before it; 1 for none.  fused: by one kernel for all parameters, on a GPU.
    """

    def __init__(self, module: nn.Module, recipe: "Train", *, lr: float, layer_decay: float, fused: bool):
        self.module, self.recipe, self.lr, self.fused = module, recipe, lr, fused
        self.groups = groups_of(module, layer_decay)
        self.states: dict[nn.Parameter, dict[str, Tensor]] = {p: {} for p in module.parameters()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update the weights.  factor: of the learning rate, from the schedule."""
        if self.recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_grad_norm)
        update = self.update_adamw if self.recipe.optimizer == "adamw" else self.update_sgd
        for group in self.groups:
            learning = [p for p in group.params if p.grad is not None]
            if learning:
                update(learning, self.lr * factor * group.lr_scale)

    def update_sgd(self, params: list[nn.Parameter], lr: float) -> None:
        """SGD with momentum."""
        buffers = [self.states[p].get("momentum_buffer") for p in params]
        sgd(
            list(params),
            gradients(params),
            buffers,
            fused=self.fused,
            foreach=False,
            lr=lr,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.nesterov,
            weight_decay=self.recipe.weight_decay,
            dampening=0.0,
            maximize=False,
        )
        for p, buffer in zip(params, buffers):
            if buffer is not None:
                self.states[p]["momentum_buffer"] = buffer

    def update_adamw(self, params: list[nn.Parameter], lr: float) -> None:
        """AdamW (Loshchilov and Hutter 2019)."""
        for p in params:
            if not self.states[p]:
                step = torch.zeros((), dtype=torch.float32, device=p.device if self.fused else "cpu")
                moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.states[p].update({"step": step, **moments})
        states = [self.states[p] for p in params]
        adamw(
            list(params),
            gradients(params),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=self.fused,
            foreach=False,
            amsgrad=False,
            beta1=self.recipe.momentum,
            beta2=self.recipe.beta2,
            lr=lr,
            weight_decay=self.recipe.weight_decay,
            eps=EPS,
            maximize=False,
        )

    def zero_grad(self) -> None:
        """Free the gradients."""
        for p in self.states:
            p.grad = None

    def state(self) -> SavedState:
        """A copy on the CPU of the state of each parameter."""
        return [{k: v.detach().cpu().clone() for k, v in state.items()} for state in self.states.values()]

    def load_state(self, saved: SavedState) -> None:
        """Load what `state` returned."""
        for (p, state), loaded in zip(self.states.items(), saved):
            # AdamW counts its steps on the CPU, unless it is fused
            device = {k: "cpu" if k == "step" and not self.fused else p.device for k in loaded}
            state.update({k: v.clone().to(device[k]) for k, v in loaded.items()})


def groups_of(module: nn.Module, layer_decay: float) -> list[Group]:
    """The parameters of a network, by learning rate."""
    if layer_decay == 1:
        return [Group(list(module.parameters()))]
    from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]: it is public

    # timm's groups leave vectors out of the weight decay, which here applies to all weights
    return [Group(g["params"], g["lr_scale"]) for g in param_groups_layer_decay(module, layer_decay=layer_decay)]


def gradients(params: list[nn.Parameter]) -> list[Tensor]:
    """The gradients of parameters that have one."""
    return [p.grad for p in params if p.grad is not None]

"""A network while it trains: its module on the device, its modes, its optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

State = dict[str, Tensor]


class Live:
    """One network of a run (`vocabulary.Net`): what a method calls and the engine steps."""

    def __init__(self, module: nn.Module, accelerator: Accelerator, *, learns: bool, lr: float, train):
        self.initial: State = {k: v.clone() for k, v in module.state_dict().items()}
        self.bare = module.to(accelerator.device)
        self.learning = False
        self.lr = lr
        self.train = train
        self.modules = list(self.bare.modules())
        self.set_mode(False)
        if learns:  # prepared once and before anything is frozen: DDP wraps what requires a gradient
            self.module = accelerator.prepare(self.bare)
        else:
            self.module = self.bare.requires_grad_(False)
        self.optimizer: torch.optim.SGD | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.learning:
            return self.module(x)
        return self.teach(x)

    def teach(self, x: Tensor) -> Tensor:
        with self.frozen():
            if x.requires_grad:
                weights = {k: v.detach() for k, v in self.bare.named_parameters()}
                return functional_call(self.bare, weights, (x,))
            with torch.no_grad():
                return self.bare(x)

    def start(self, *, fresh: bool) -> None:
        """Begin a leg as a learner: a new optimizer; initial weights if `fresh`."""
        if fresh:
            self.bare.load_state_dict(self.initial)
        self.optimizer = torch.optim.SGD(
            self.bare.parameters(),
            lr=self.lr,
            momentum=self.train.momentum,
            nesterov=self.train.nesterov,
            weight_decay=self.train.weight_decay,
        )
        self.learning = True
        self.set_mode(True)

    def stop(self) -> None:
        """End a leg as a learner."""
        self.optimizer = None
        self.learning = False
        self.set_mode(False)

    def step(self, factor: float) -> None:
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * factor
        self.optimizer.step()

    def zero_grad(self) -> None:
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)

    def weights(self) -> State:
        """A copy of weights and buffers on the CPU, as contiguous tensors."""
        return {k: v.detach().cpu().contiguous().clone() for k, v in self.bare.state_dict().items()}

    def load(self, weights: State) -> None:
        self.bare.load_state_dict(weights)

    def momenta(self) -> list[Tensor | None]:
        """The optimizer's state: one momentum a parameter, None before the first step."""
        assert self.optimizer is not None
        states = [self.optimizer.state.get(p, {}) for p in self.bare.parameters()]
        buffers = [state.get("momentum_buffer") for state in states]
        return [None if buffer is None else buffer.detach().cpu().clone() for buffer in buffers]

    def load_momenta(self, momenta: list[Tensor | None]) -> None:
        assert self.optimizer is not None
        for p, momentum in zip(self.bare.parameters(), momenta):
            if momentum is not None:
                self.optimizer.state[p]["momentum_buffer"] = momentum.to(p.device)

    def set_mode(self, training: bool) -> None:
        # What nn.Module.train does, without the recursion through __setattr__ that would cost a forward's time
        # where a learner also teaches in every step.
        for module in self.modules:
            module.__dict__["training"] = training

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode for a moment."""
        if self.learning:
            self.set_mode(False)
            try:
                yield
            finally:
                self.set_mode(True)
        else:
            yield

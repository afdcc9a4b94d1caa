"""A network while it trains: its module on the device, its modes, its optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.core.frozen import Frozen, fold
from pipeline.core.logits import Memory

State = dict[str, Tensor]


class Optimising(Protocol):
    """The keys of params.yaml's `train` that one network reads."""

    momentum: float
    nesterov: bool
    weight_decay: float
    compile: bool
    sync_batchnorm: bool


class Live:
    """One network of a run (`vocabulary.Net`): what a method calls and the engine steps.

    A learner is trained as DDP and the compiler wrap it. A frozen guide teaches with BatchNorm folded into its
    convolutions, and what it says of a batch may come from a store (`memory`).
    apart: it learns in this process alone, beside others that do so in theirs.
    batch: the images of a training step in this process. What is compiled is compiled for so many; any other number
    (validation's, say) is answered as it is.
    passes: how often it was asked as a learner, and as a teacher (of whom the store may have answered).
    """

    def __init__(
        self,
        module: nn.Module,
        accelerator: Accelerator,
        *,
        learns: bool,
        lr: float,
        batch: int,
        apart: bool = False,
        train: Optimising,
    ):
        self.initial: State = {k: v.clone() for k, v in module.state_dict().items()} if learns else {}
        if train.sync_batchnorm and accelerator.num_processes > 1 and not apart:
            nn.SyncBatchNorm.convert_sync_batchnorm(module)  # in place, but for a lone BatchNorm
        self.bare = module.to(accelerator.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.learning = self.guiding = False
        self.lr = lr
        self.batch = batch
        self.train = train
        self.accelerator = accelerator
        self.memory: Memory | None = None
        self.passes = [0, 0]
        self.modules = list(self.bare.modules())
        self.set_mode(False)
        if not learns:
            self.bare.requires_grad_(False)
        self.answering = self.bare if learns else fold(self.bare) if train.compile else Frozen(self.bare)
        self.answering_batch = compiled(self.answering, accelerator.device) if train.compile else self.answering
        self.module = self.answering_batch
        if learns:  # prepared once, and as DDP where it learns with other ranks: that wraps what requires a gradient
            self.module = accelerator.prepare_model(self.module, evaluation_mode=apart)
        self.optimizer: torch.optim.SGD | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.learning:
            self.passes[0] += 1
            return self.module(x)
        return self.teach(x)

    def teach(self, x: Tensor) -> Tensor:
        self.passes[1] += 1
        return self.answer_batch(x) if self.memory is None else self.memory(x, self.answer_batch)

    def answer_batch(self, x: Tensor) -> Tensor:
        """`answer`, as it is compiled where x is a batch of the leg under way."""
        in_step = (self.learning or self.guiding) and len(x) == self.batch
        return self.answer(x, self.answering_batch if in_step else None)

    def answer(self, x: Tensor, answering: nn.Module | None = None) -> Tensor:
        """In evaluation mode, without gradients to the weights."""
        with self.frozen(), self.accelerator.autocast():
            if x.requires_grad:
                weights = {k: v.detach() for k, v in self.bare.named_parameters()}
                z = functional_call(self.bare, weights, (x,))
            else:
                with torch.no_grad():
                    z = self.answering(x) if answering is None else answering(x)
        return z.float() if z.dtype == torch.bfloat16 else z

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
            fused=self.accelerator.device.type == "cuda",
        )
        self.learning = True
        self.set_mode(True)

    def stop(self) -> None:
        """End a leg as a learner."""
        self.bare.zero_grad(set_to_none=True)
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


def compiled(module: nn.Module, device: torch.device) -> nn.Module:
    """For batches of one size. On a GPU as CUDA graphs: small networks are bound there by launches."""
    # Networks that are an nn.Sequential share one piece of code, for which eight compilations is the default limit.
    torch._dynamo.config.recompile_limit = 64
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(module, mode=mode, dynamic=False)  # pyright: ignore[reportReturnType]


def begin_step() -> None:
    """What CUDA graphs returned in the step before may be overwritten from now on."""
    torch.compiler.cudagraph_mark_step_begin()

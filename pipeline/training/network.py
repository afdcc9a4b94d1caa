"""A network in training: its module on the device, its modes, its optimizer, its cached logits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.core.interface import Network
from pipeline.models.create import create
from pipeline.models.folding import fold
from pipeline.models.weights import load_weights
from pipeline.storage.logit_cache import CachedLogits
from pipeline.training.capture import CapturedForward, capture_pixels, capture_training
from pipeline.training.cost import BACKWARD, TO_PIXELS, Passes, count_pass
from pipeline.training.learner import State
from pipeline.training.optimizer import Optimizer, SavedState

if TYPE_CHECKING:
    from pipeline.params.schema import Train


class TrainingNetwork:
    """One network of a run (`interface.Net`): what a method calls and the loop updates (`learner.Learner`).

    module: the plain network, whose weights are saved.
    train_module: the same weights as DDP and the compiler wrap them; learners are trained through it.
    eval_module: what answers in evaluation mode. For a frozen guide BatchNorm is folded into its convolutions.

    learns: whether some leg trains it.  lr: its learning rate before the schedule.  layer_decay: of Optimizer.
    batch: images of a training step on this rank. A compiled network is compiled for that many; batches of any other
    size, such as validation's, run uncompiled.
    independent: this rank trains it alone, while other ranks train theirs.
    captured: whether its passes over the batches of a leg, and those to pixels, are CUDA graphs
        (pipeline.training.capture).
    passes: images that have passed through it, counted by the convention of pipeline.training.cost.
    """

    differentiable = True

    def __init__(
        self,
        module: nn.Module,
        accelerator: Accelerator,
        *,
        learns: bool,
        lr: float,
        batch: int,
        layer_decay: float = 1.0,
        independent: bool = False,
        captured: bool = False,
        recipe: "Train",
    ):
        self.initial: State = {k: v.clone() for k, v in module.state_dict().items()} if learns else {}
        if recipe.sync_batchnorm and accelerator.num_processes > 1 and not independent:
            nn.SyncBatchNorm.convert_sync_batchnorm(module)  # in place, but for a lone BatchNorm
        self.module = module.to(accelerator.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.learning = self.guiding = False
        self.lr, self.layer_decay, self.batch, self.recipe = lr, layer_decay, batch, recipe
        self.accelerator, self.captured = accelerator, captured and not recipe.compile
        self.release_graphs()
        self.awaits_update, self.learns = False, learns
        self.cached_logits: CachedLogits | None = None
        self.passes: Passes = [0, 0, 0]
        self.submodules = list(self.module.modules())
        self.set_mode(False)
        if not learns:
            self.module.requires_grad_(False)
        self.eval_module = self.module if learns else fold(self.module)
        self.eval_module_compiled = (
            compiled(self.eval_module, accelerator.device) if recipe.compile else self.eval_module
        )
        self.train_module = self.eval_module_compiled
        if learns:  # prepared once, before anything is frozen: DDP wraps what requires a gradient at that time
            self.train_module = prepared(self.train_module, accelerator, independent=independent)
        self.optimizer: Optimizer | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, C]: in training mode as a learner, else as in `teach`."""
        if self.learning:
            return count_pass(self.passes, self.forward_train(x), BACKWARD)
        return self.teach(x)

    def forward_train(self, x: Tensor) -> Tensor:
        """Logits [B, C] in training mode, with gradients to the weights.

        A graph keeps the activations of one batch until its backward, so a second pass before the update is eager.
        """
        if not self.captured or self.awaits_update or len(x) != self.batch or x.requires_grad:
            return self.train_module(x)
        if self.replay_training is None:
            self.replay_training = capture_training(self.module, x, self.accelerator.mixed_precision)
        self.awaits_update = True
        return self.replay_training(x)

    def teach(self, x: Tensor, *, mode: str = "eval") -> Tensor:
        """Logits [B, C] without gradients to the weights: of a learner in either mode, of a guide in evaluation mode.

        A guide's come from the cache where they are known.
        """
        if mode == "train" and self.learning:
            z = self.forward_unrecorded(x)
        else:
            z = self.forward_batch(x) if self.cached_logits is None else self.cached_logits(x, self.forward_batch)
        return count_pass(self.passes, z, TO_PIXELS)

    def forward_unrecorded(self, x: Tensor) -> Tensor:
        """Logits [B, C] of a learner in training mode, without gradients and without a trace in its statistics."""
        with self.unrecorded(), torch.no_grad(), self.accelerator.autocast():
            if len(x) != self.batch:
                z = self.eval_module(x)
            elif not self.captured:
                z = self.eval_module_compiled(x)
            else:
                if self.replay_unrecorded is None:
                    self.replay_unrecorded = CapturedForward(self.module, x, self.accelerator.mixed_precision)
                z = self.replay_unrecorded(x)
        return z.float() if z.dtype == torch.bfloat16 else z

    def forward_batch(self, x: Tensor) -> Tensor:
        """`forward_eval`, by the compiled network or by a graph where x is a batch of the current leg."""
        if not (self.learning or self.guiding) or len(x) != self.batch:
            return self.forward_eval(x)
        if self.captured and not x.requires_grad:
            if self.replay_eval is None:
                with self.evaluation_mode(), torch.no_grad():
                    self.replay_eval = CapturedForward(self.eval_module, x, self.accelerator.mixed_precision)
            return self.forward_eval(x, self.replay_eval)
        return self.forward_eval(x, self.eval_module_compiled)

    def forward_eval(self, x: Tensor, eval_module: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Logits [B, C] in evaluation mode, without gradients to the weights; to x only if x requires them."""
        with self.evaluation_mode(), self.accelerator.autocast():
            if x.requires_grad:
                z = self.forward_to_pixels(x)
            else:
                with torch.no_grad():
                    z = self.eval_module(x) if eval_module is None else eval_module(x)
        return z.float() if z.dtype == torch.bfloat16 else z

    def forward_to_pixels(self, x: Tensor) -> Tensor:
        """Logits [B, C] with gradients to x alone, for a network in evaluation mode.

        A frozen network is captured for the largest batch that was asked twice in a row, as a search does.
        """
        n, repeated = len(x), len(x) == self.asked
        self.asked = n
        if self.captured and not self.learns:
            known, replay = self.replay_pixels
            if n > known and repeated:
                graph = capture_pixels(self.module, x.detach(), self.accelerator.mixed_precision)
                known, replay = self.replay_pixels = n, graph
            if n == known:
                return replay(x)
        weights = {k: v.detach() for k, v in self.module.named_parameters()}
        return functional_call(self.module, weights, (x,))

    def begin_leg(self, *, fresh: bool) -> None:
        """Become a learner with a new optimizer.  fresh: restart from the initial weights."""
        if fresh:
            self.module.load_state_dict(self.initial)
        self.optimizer = Optimizer(
            self.module,
            self.recipe,
            lr=self.lr,
            layer_decay=self.layer_decay,
            fused=self.accelerator.device.type == "cuda",
        )
        self.learning, self.awaits_update = True, False
        self.set_mode(True)

    def release_graphs(self) -> None:
        """Free the graphs and the activations that they hold. Later passes are captured again."""
        self.replay_training: Callable[[Tensor], Tensor] | None = None
        self.replay_eval: Callable[[Tensor], Tensor] | None = None
        self.replay_unrecorded: Callable[[Tensor], Tensor] | None = None
        self.replay_pixels: tuple[int, Callable[[Tensor], Tensor]] = (0, self.module)  # images, and their pass
        self.asked = 0  # images in the last pass to pixels

    def end_leg(self) -> None:
        """Stop being a learner; free gradients and optimizer."""
        self.module.zero_grad(set_to_none=True)
        self.optimizer = None
        self.learning = False
        self.set_mode(False)

    def step(self, factor: float) -> None:
        """Update the weights.  factor: of the learning rate, from the schedule."""
        assert self.optimizer is not None
        self.optimizer.step(factor)
        self.awaits_update = False

    def zero_grad(self) -> None:
        """Free the gradients."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()

    def weights(self) -> State:
        """A copy of weights and buffers on the CPU, as contiguous tensors."""
        return {k: v.detach().cpu().contiguous().clone() for k, v in self.module.state_dict().items()}

    def load(self, weights: State) -> None:
        """Load weights and buffers."""
        self.module.load_state_dict(weights)

    def buffers(self) -> State:
        """A copy of the buffers on the CPU, such as BatchNorm's running statistics."""
        return {k: v.detach().cpu().clone() for k, v in self.module.named_buffers()}

    def load_buffers(self, saved: State) -> None:
        """Load what `buffers` returned."""
        for k, v in self.module.named_buffers():
            v.copy_(saved[k])

    def optimizer_state(self) -> SavedState:
        """The optimizer's state as plain data."""
        assert self.optimizer is not None
        return self.optimizer.state()

    def load_optimizer_state(self, saved: SavedState) -> None:
        """Load what `optimizer_state` returned."""
        assert self.optimizer is not None
        self.optimizer.load_state(saved)

    def set_mode(self, training: bool) -> None:
        """Set training or evaluation mode.

        nn.Module.train recurses through __setattr__, which takes as long as a small network's forward; a learner that
        also teaches changes its mode in every step.
        """
        for module in self.submodules:
            module.__dict__["training"] = training

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Evaluation mode within the context."""
        if self.learning:
            self.set_mode(False)
            try:
                yield
            finally:
                self.set_mode(True)
        else:
            yield

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Within the context, passes in training mode leave BatchNorm's running statistics as they are."""
        tracking = [m for m in self.submodules if getattr(m, "track_running_stats", False)]
        for module in tracking:
            module.__dict__["track_running_stats"] = False
        try:
            yield
        finally:
            for module in tracking:
                module.__dict__["track_running_stats"] = True


def prepared(module: nn.Module, accelerator: Accelerator, *, independent: bool) -> nn.Module:
    """A learner as Accelerate wraps it: by DDP for several processes, by autocast for mixed precision.

    independent: this rank trains it alone.
    """
    if accelerator.num_processes == 1 and accelerator.mixed_precision == "no":
        return module  # Accelerate would not wrap it, and spend seconds on imports to find that out
    return accelerator.prepare_model(module, evaluation_mode=independent)


def compiled(module: nn.Module, device: torch.device) -> nn.Module:
    """A network compiled for batches of one size; on a GPU as CUDA graphs, because launches bound small networks."""
    # Every nn.Sequential shares one code object, for which the default limit is eight compilations.
    torch._dynamo.config.recompile_limit = 64
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(module, mode=mode, dynamic=False)  # pyright: ignore[reportReturnType]


def initialise(
    network: Network, *, seed: int, num_classes: int, in_chans: int, image_size: tuple[int, int]
) -> nn.Module:
    """A network with the weights that it begins a run with.  seed: its initial weights are drawn from it."""
    torch.manual_seed(seed)
    module = create(
        network.arch,
        num_classes=num_classes,
        in_chans=in_chans,
        image_size=image_size,
        pretrained=network.pretrained,
        checkpoint=network.checkpoint,
        new_head=network.learns,
    )
    if network.weights is not None:
        load_weights(module, network.weights, network.arch)
    if network.keeps_statistics:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                part.track_running_stats = False  # training mode does not update them, evaluation mode uses them
    return module

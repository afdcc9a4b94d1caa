"""The training loop of one leg, for every method, on one process or several, resumable at any batch.

Randomness is a function of counters, so a checkpoint holds weights, momentum buffers and counters, and no generator
state: the order of an epoch depends on (seed, leg, epoch), the draws of a method on (seed, leg, epoch, step), initial
weights on (seed, network), augmented images on (seed, epoch, index).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from accelerate import Accelerator

from pipeline.core.interface import Losses, Method
from pipeline.progress import Progress
from pipeline.training.batches import Batches
from pipeline.training.checkpointing import Checkpointing
from pipeline.training.learner import Learner
from pipeline.training.legs import PlannedLeg
from pipeline.training.network import TrainingNetwork
from pipeline.training.schedule import lr_factor
from pipeline.training.state import TrainState
from pipeline.training.validation import Validation

if TYPE_CHECKING:
    from pipeline.params.schema import Train


class Loop:
    """Trains the networks that learn in a leg. Everything it does not show is in the objects that it is given.

    nets: all learners of the run, which the method may ask.  networks: those that can be trained here.
    """

    def __init__(
        self,
        method: Method,
        nets: Mapping[str, Learner],
        networks: Mapping[str, TrainingNetwork],
        recipe: "Train",
        accelerator: Accelerator,
        *,
        state: TrainState,
        batches: Batches,
        validation: Validation,
        checkpointing: Checkpointing,
        progress: Progress,
    ):
        self.method, self.nets, self.networks, self.recipe = method, nets, networks, recipe
        self.accelerator = accelerator
        self.state, self.batches, self.validation = state, batches, validation
        self.checkpointing, self.progress = checkpointing, progress

    def run(self, leg: PlannedLeg) -> None:
        """Train a leg from where the state is to its end."""
        for epoch in self.state.epochs_left(leg):
            for step in self.state.steps_left(leg):
                note, memory = self.state.metrics.recorder(step), self.state.memory
                batch = self.batches(leg, epoch, step, note=note, memory=memory)
                for losses in self.method.step(self.nets, leg, batch):
                    self.update(losses, lr_factor(self.recipe, leg, epoch, step))
                self.after_step(leg)
            self.end_epoch(leg, epoch)

    def update(self, losses: Losses, factor: float) -> None:
        """Update every network that `losses` names, once.  factor: of each network's own learning rate."""
        record = self.state.metrics.recorder(self.state.step)
        for name, terms in losses.items():
            for term, value in terms.items():
                record(name, term, value)
        learners = [self.networks[name] for name in losses]
        for net in learners:
            net.zero_grad()
        # The losses of different networks share no weights: one backward of their sum is the backward of each.
        total = sum(value for terms in losses.values() for value in terms.values())
        self.accelerator.backward(total)
        for net in learners:
            net.step(factor)

    def after_step(self, leg: PlannedLeg) -> None:
        """Count the step, show it, and write a checkpoint when one is due or a signal has asked for it."""
        self.state.count_step(images=self.recipe.batch_size)
        self.progress.step()
        self.checkpointing.after_step(leg)

    def end_epoch(self, leg: PlannedLeg, epoch: int) -> None:
        """Close the epoch: average its metrics, validate, keep the best weights, and checkpoint."""
        rows = [*self.state.close_metrics(leg, epoch), *self.validation(leg, epoch)]
        self.state.history += rows
        self.progress.epoch(epoch, leg, rows)
        self.state.end_epoch(epoch)
        self.checkpointing.after_epoch(leg, epoch)

"""When a run is checkpointed, and what a checkpoint holds."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.progress import Progress
from pipeline.runtime.processes import AnyRank, Processes
from pipeline.runtime.signals import SignalHandler
from pipeline.storage.checkpoints import Checkpoint
from pipeline.training.learner import Learner
from pipeline.training.legs import PlannedLeg
from pipeline.training.network import TrainingNetwork
from pipeline.training.state import TrainState


class Checkpointing:
    """Saves a run at the end of every epoch, after `seconds` of training, and when a signal asks it to stop.

    checkpoint: where the state is kept; None keeps nothing.  networks: the learners that have an optimizer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        state: TrainState,
        nets: Mapping[str, Learner],
        networks: Mapping[str, TrainingNetwork],
        processes: Processes,
        *,
        seconds: float,
        signals: SignalHandler,
        progress: Progress,
    ):
        self.checkpoint, self.state, self.nets, self.processes = checkpoint, state, nets, processes
        self.networks = networks
        self.seconds, self.signals, self.progress = seconds, signals, progress
        self.begin_leg()

    def begin_leg(self) -> None:
        """Restart the timer and the pace at which the ranks ask one another."""
        self.any_rank = AnyRank(self.processes)
        self.saved_at = time.perf_counter()

    def after_step(self, leg: PlannedLeg) -> None:
        """Save if a checkpoint is due or a signal has arrived on any rank; then stop if there was a signal."""
        due = self.signals.received is not None or time.perf_counter() - self.saved_at > self.seconds
        if self.any_rank(due):
            self.state.count_time()
            self.state.check_finite(leg, self.state.epoch)
            self.save(leg)
            self.stop_if_asked()

    def after_epoch(self, leg: PlannedLeg, epoch: int) -> None:
        """Save, except after the last epoch of a leg, whose end is saved with its results."""
        if epoch < leg.epochs:
            self.save(leg)

    def stop_if_asked(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        self.signals.raise_if_received(saved=self.checkpoint is not None)

    def save(self, leg: PlannedLeg | None) -> None:
        """Save the state of all ranks.  leg: the current one; None between two legs."""
        self.saved_at = time.perf_counter()
        if self.checkpoint is None:
            return
        learners = leg.learners if leg else ()
        of_ranks = self.processes.all_gather_object(self.of_rank(learners))
        if self.processes.rank != 0:
            return
        self.checkpoint.save(
            {
                **self.state.to_dict(),
                "learners": {name: self.nets[name].weights() for name in learners},
                "optimizers": {name: self.networks[name].optimizer_state() for name in learners},
                "of_ranks": of_ranks,
            }
        )

    def of_rank(self, learners: Iterable[str]) -> dict[str, Any]:
        """What differs between ranks: part of the state and, of several ranks, the buffers of the current learners.

        Within an epoch each rank has running statistics of its own, which decide what a learner teaches there.
        """
        if self.processes.size == 1:
            return self.state.of_rank()
        return {**self.state.of_rank(), "buffers": {name: self.networks[name].buffers() for name in learners}}

    def restore(self) -> dict[str, Any] | None:
        """Go to the newest checkpoint and return it; None if there is none."""
        saved = self.checkpoint.load() if self.checkpoint and self.processes.rank == 0 else None
        (saved,) = self.processes.broadcast_objects([saved])
        if saved is None:
            return None
        self.state.restore(saved, saved["of_ranks"][self.processes.rank], self.processes.device)
        for name, trained in self.state.trained.items():
            self.nets[name].load(trained.last)
        self.progress.resumed(self.state.leg, self.state.epoch, self.state.step)
        return saved

    def restore_learners(self, saved: dict[str, Any]) -> None:
        """Weights, optimizer states and this rank's buffers of the networks that learned when `saved` was written."""
        for name in saved["learners"]:
            self.nets[name].load(saved["learners"][name])
            self.networks[name].load_optimizer_state(saved["optimizers"][name])
        for name, buffers in saved["of_ranks"][self.processes.rank].get("buffers", {}).items():
            self.networks[name].load_buffers(buffers)

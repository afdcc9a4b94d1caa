"""How far a run has come: everything that a checkpoint holds besides the weights of the current learners."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipeline.runtime.processes import Processes
from pipeline.training.cost import Passes, RunPasses
from pipeline.training.divergence import raise_earliest
from pipeline.training.learner import State
from pipeline.training.legs import PlannedLeg
from pipeline.training.metrics import EpochMetrics, HistoryRow, rows_of_epoch

COUNTERS = ("leg", "epoch", "step", "seconds", "steps", "images", "noted")


@dataclass
class Trained:
    """A network after its last leg (`last`) and at its best epoch on the validation split (`best`).

    validation: top-1 in percent of both (`last`, `best`), and the epoch of the best, from 1 (`best_epoch`).
    """

    last: State
    best: State
    validation: dict[str, Any]


@dataclass
class TrainState:
    """Counters, history and results of a run.

    leg, epoch, step: what comes next; legs and steps count from 0, epochs from 1.
    seconds, steps, images: spent so far.
    noted: number of legs whose notes are already in the history.
    history: one row for each value that was recorded (metrics.HistoryRow).
    memo: what `Method.legs` computed from networks; a resumed run must not compute it again.
    memory: what the steps of the current leg keep for the next steps (`Batch.memory`), equal on all ranks.
    passes: images that have passed through each network on this rank, by part of the run (pipeline.training.cost).
    fit_seconds: of each estimator's last fit.
    metrics: of the current epoch, on this rank.
    """

    processes: Processes
    leg: int = 0
    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    steps: int = 0
    images: int = 0
    noted: int = 0
    history: list[HistoryRow] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    trained: dict[str, Trained] = field(default_factory=dict)
    passes: RunPasses = field(default_factory=dict)
    fit_seconds: dict[str, float] = field(default_factory=dict)
    metrics: EpochMetrics = field(default_factory=EpochMetrics)
    clock: float = field(default_factory=time.perf_counter)

    def epochs_left(self, leg: PlannedLeg) -> Iterator[int]:
        """The epochs of a leg that remain. A leg without epochs has epoch 0, which has no steps."""
        self.clock = time.perf_counter()
        yield from range(self.epoch, leg.epochs + 1) if leg.epochs else (0,)

    def steps_left(self, leg: PlannedLeg) -> range:
        """The steps of the current epoch that remain."""
        return range(self.step, leg.n_steps)

    def count_step(self, *, images: int) -> None:
        """Count a finished step.  images: of the global batch."""
        self.step += 1
        self.steps += 1
        self.images += images

    def count_time(self) -> None:
        """Add the time since the last call, or since the leg began, to `seconds`."""
        now = time.perf_counter()
        self.seconds += now - self.clock
        self.clock = now

    def check_finite(self, leg: PlannedLeg, epoch: int) -> None:
        """Raise Diverged on every rank if a value that any of them recorded in this epoch is not finite."""
        raise_earliest(self.processes.all_gather_object(self.metrics.first_not_finite(leg.number, epoch)))

    def close_metrics(self, leg: PlannedLeg, epoch: int) -> list[HistoryRow]:
        """History rows of the epoch's means over its steps and over all ranks; a new epoch's metrics begin."""
        self.check_finite(leg, epoch)
        means = self.metrics.means(self.processes, self.processes.device)
        self.metrics = EpochMetrics()
        return rows_of_epoch(leg.number, epoch, means)

    def record_notes(self, number: int, notes: list[tuple[str, str, float]]) -> None:
        """Add what the method noted before a leg to the history, once, however often the run is resumed."""
        if number >= self.noted:
            self.history += [(number, 0, *note) for note in notes]
            self.noted = number + 1

    def end_epoch(self, epoch: int) -> None:
        """Move on to the next epoch. Epoch 0, of a leg without epochs, has trained nothing and counts no time."""
        if epoch > 0:
            self.count_time()
        self.step, self.epoch = 0, epoch + 1

    def end_leg(self, leg: PlannedLeg) -> None:
        """Move on to the next leg, which begins with an empty memory."""
        self.leg, self.epoch = leg.number + 1, 1
        self.memory = {}

    def keep_best(self, name: str, weights: Callable[[], State], top1: float, epoch: int) -> None:
        """Keep a network's weights if they are the first of its leg, or better on validation than those before."""
        trained = self.trained.get(name)
        if trained is None or epoch <= 1 or top1 > trained.validation["best"]:
            best = weights()
            validation = {"last": top1, "best": top1, "best_epoch": epoch}
            self.trained[name] = Trained(last=best, best=best, validation=validation)
        else:
            trained.validation["last"] = top1

    def passes_of(self, part: str, network: str) -> Passes:
        """The list in which a network counts its passes in a part of the run."""
        return self.passes.setdefault(part, {}).setdefault(network, [0, 0, 0])

    def of_rank(self) -> dict[str, Any]:
        """What differs between ranks, as plain data: the metrics of the current epoch, and passes."""
        return {"metrics": self.metrics.to_dict(), "passes": self.passes}

    def to_dict(self) -> dict[str, Any]:
        """What the state of all ranks has in common, as plain data."""
        return {
            **{key: getattr(self, key) for key in COUNTERS},
            "history": self.history,
            "memo": self.memo,
            "memory": {key: value.detach().cpu() for key, value in self.memory.items()},
            "fit_seconds": self.fit_seconds,
            "trained": {name: vars(trained) for name, trained in self.trained.items()},
        }

    def restore(self, saved: dict[str, Any], of_rank: dict[str, Any], device: torch.device) -> None:
        """Go back to where `saved` was made. `memo` stays the same object, which others hold."""
        for key in COUNTERS:
            setattr(self, key, saved[key])
        self.history = [tuple(row) for row in saved["history"]]
        self.memo.update(saved["memo"])
        self.memory = {key: value.to(device) for key, value in saved["memory"].items()}
        self.passes = of_rank["passes"]
        self.fit_seconds = dict(saved["fit_seconds"])
        self.trained = {name: Trained(**trained) for name, trained in saved["trained"].items()}
        self.metrics = EpochMetrics.from_dict(of_rank["metrics"], device)

"""The training loop of a leg: every method, one process or several, resumed at any batch.

The engine alone knows devices, processes, optimizers and checkpoints. Randomness is a function of counters: the
order of (seed, leg, epoch), a method's draws of (seed, leg, epoch, step), initial weights of (seed, network), views
of (seed, epoch, index). So a checkpoint holds weights, momenta and counters, and no generator's state.
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from pipeline.core.batches import Batches
from pipeline.core.bundle import initial
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.counters import hash64
from pipeline.core.guides import Guides, usable
from pipeline.core.history import Tally, rows_of
from pipeline.core.interrupt import Asking, Interruption
from pipeline.core.live import Live, Optimising, begin_step
from pipeline.core.logits import LogitStore
from pipeline.core.position import Position
from pipeline.core.progress import Progress
from pipeline.core.schedule import Schedule, factor
from pipeline.core.trainset import LegData, TrainingSet, Views
from pipeline.core.validation import validate
from pipeline.core.vocabulary import Batch, Leg, Losses, Method, Network
from pipeline.core.world import Processes
from pipeline.errors import DataError, ParamsError, UserError


class Recipe(Schedule, Optimising, Protocol):
    """The keys of params.yaml's `train` that the engine reads."""

    epochs: int
    batch_size: int
    lr: float


class Engine:
    """What trains a leg of a run, and remembers where the run is.

    alone_at: the run is one leg of another, of this number, which this process trains without the others.
    """

    def __init__(
        self,
        method: Method,
        networks: Mapping[str, Network],
        train: Views,
        validation: Views,
        recipe: Recipe,
        *,
        seed: int,
        accelerator: Accelerator,
        checkpoint: Checkpoint | None = None,
        checkpoint_minutes: float = 10.0,
        progress: Progress | None = None,
        dtype: torch.dtype = torch.float32,
        store: LogitStore | None = None,
        alone_at: int | None = None,
    ):
        self.method, self.recipe, self.seed, self.dtype = method, recipe, seed, dtype
        self.views, self.validation, self.store = train, validation, store
        self.networks = dict(networks)
        self.accelerator = accelerator
        self.world = Processes(accelerator) if alone_at is None else Processes.alone(accelerator)
        self.checkpoint, self.checkpoint_seconds = checkpoint, 60 * checkpoint_minutes
        self.progress = progress or Progress("", quiet=True)
        order = [seed, recipe.batch_size]
        self.guides = Guides(self.networks, usable(store, dtype), self.world, order)
        self.first, self.alone = alone_at or 0, alone_at is not None
        self.at = Position(leg=self.first)
        self.tally = Tally()
        self.interruption = Interruption()
        if recipe.batch_size % self.world.size:
            raise ParamsError(
                f"train.batch_size {recipe.batch_size} must be divisible by the {self.world.size} processes"
            )
        self.batches = Batches(seed, recipe.batch_size, self.world, dtype)
        self.nets = {name: self.live(name, network) for name, network in self.networks.items()}
        self.at.passes = {name: net.passes for name, net in self.nets.items()}
        self.train_set = TrainingSet(train, self.networks, world=self.world, seed=seed, dtype=dtype, memo=self.at.memo)

    def live(self, name: str, network: Network) -> Live:
        module = initial(
            network,
            seed=hash64(self.seed, "weights", name),
            num_classes=self.views.num_classes,
            in_chans=self.views.in_chans,
            image_size=self.views.image_size,
        )
        return Live(
            module.to(self.dtype),
            self.accelerator,
            learns=network.learns,
            apart=network.apart or self.alone,
            lr=self.recipe.lr * network.lr_scale,
            batch=self.recipe.batch_size // self.world.size,
            train=self.recipe,
        )

    def run_leg(self, number: int, leg: Leg, resumed: dict | None) -> None:
        """Train a leg's learners for its epochs."""
        epochs = self.recipe.epochs if leg.epochs is None else leg.epochs
        data = self.train_set.of(leg)
        batch_size = self.recipe.batch_size
        n_steps = len(data.rows) // batch_size
        if n_steps == 0:
            raise DataError(
                f"train.batch_size is {batch_size}, but {', '.join(leg.learners)} may learn from "
                f"{len(data.rows)} images only"
            )
        learners = [self.nets[name] for name in leg.learners]
        for live in learners:
            live.start(fresh=leg.fresh)
        if resumed:
            self.restore_learners(resumed)
        elif leg.extra is not None:
            self.save(leg)
        self.guides.open(self.nets, number, leg, epochs, data)
        self.progress.leg(number, leg, epochs, n_steps)
        asking = Asking(self.world)
        saved = clock = time.perf_counter()

        def lap() -> None:
            nonlocal clock
            now = time.perf_counter()
            self.at.seconds += now - clock
            clock = now

        for epoch in range(self.at.epoch, epochs + 1):
            order = self.batches.order(number, epoch, data.rows)
            for step in range(self.at.step, n_steps):
                rate = factor(self.recipe, (epoch - 1) * n_steps + step, epochs * n_steps, epochs)
                self.advance(number, leg, data, order, epoch, step, rate)
                self.at.step = step + 1
                self.at.steps += 1
                self.at.images += batch_size
                self.progress.step()
                due = self.interruption.asked is not None or time.perf_counter() - saved > self.checkpoint_seconds
                if asking(due):
                    lap()
                    self.tally.check_finite(number, epoch, self.recipe.lr)
                    self.save(leg)
                    saved = time.perf_counter()
                    self.interruption.obey(self.checkpoint is not None)
            self.end_epoch(number, epoch, epochs, leg)
            lap()
            self.at.step, self.at.epoch = 0, epoch + 1
            if epoch < epochs:
                self.save(leg)
                saved = time.perf_counter()
        if epochs == 0:
            self.end_epoch(number, 0, epochs, leg)
        self.guides.close(self.nets, leg)
        for name in leg.learners:
            self.nets[name].stop()
            self.at.trained[name].last = self.nets[name].weights()
        self.at.leg, self.at.epoch = number + 1, 1
        self.save(None)

    def advance(self, number: int, leg: Leg, data: LegData, order: Tensor, epoch: int, step: int, rate: float) -> None:
        """One batch, from its rows to its updates."""
        if self.recipe.compile:
            begin_step()
        rows, ahead = (self.batches.mine(order, k) for k in (step, step + 1))
        batch = self.batches(data, rows, (number, epoch, step), partial(self.tally.add, step))
        self.guides.begin(batch.x, epoch, rows)
        data.views.ahead(ahead)
        self.step(leg, batch, rate, step)

    def step(self, leg: Leg, batch: Batch, rate: float, step: int) -> None:
        """Everything that the method does with one batch."""
        try:
            for losses in self.method.step(self.nets, leg, batch):
                self.update(losses, rate, step)
        except torch.OutOfMemoryError:
            raise UserError(
                f"out of memory on {self.world.device}: train.batch_size is {self.recipe.batch_size}, and the networks "
                f"{', '.join(self.nets)} are resident"
            ) from None

    def update(self, losses: Losses, rate: float, step: int) -> None:
        """One update of every network that is named."""
        for name, terms in losses.items():
            for term, value in terms.items():
                self.tally.add(step, name, term, value)
        lives = [self.nets[name] for name in losses]
        for live in lives:
            live.zero_grad()
        # The networks' losses share no weights, so one backward of their sum is the backward of each.
        total = sum(value for terms in losses.values() for value in terms.values())
        self.accelerator.backward(total)
        for live in lives:
            live.step(rate)

    def end_epoch(self, number: int, epoch: int, epochs: int, leg: Leg) -> None:
        """Write the epoch's history, validate, and keep what is best so far."""
        self.tally.check_finite(number, epoch, self.recipe.lr)
        means = self.tally.means(self.world, self.world.device)
        self.tally = Tally()
        for name in leg.learners:
            self.world.spread(list(self.nets[name].bare.buffers()))
        rows = rows_of(number, epoch, means)
        watched = leg.learners if epoch > 1 else (*leg.learners, *leg.guides)
        for name in watched:
            measured = self.measure(name)
            rows += [(number, epoch, name, f"validation/{k}", v) for k, v in measured.items()]
            if name in leg.learners:
                self.at.keep_best(name, self.nets[name].weights, measured["top1"], epoch)
        self.at.rows += rows
        self.progress.epoch(number, epoch, epochs, leg, rows)

    def measure(self, name: str) -> dict[str, float]:
        """A network on the validation split; a frozen guide is asked once for all runs that it guides."""
        memory = self.nets[name].memory
        (known,) = self.world.agree([memory and memory.recall("validation")])
        if known is None:
            known = validate(self.nets[name].answer, self.validation, self.world, self.dtype)
            if memory and self.world.rank == 0:
                memory.keep("validation", known)
        return known

    def save(self, leg: Leg | None) -> None:
        """Checkpoint this moment; `leg` is the one under way, None between two."""
        if self.checkpoint is None:
            return
        tallies = self.world.everyone(self.tally.state())
        if self.world.rank != 0:
            return
        self.checkpoint.save(
            {
                **self.at.state(),
                "learners": {name: self.nets[name].weights() for name in leg.learners} if leg else {},
                "optimizers": {name: self.nets[name].momenta() for name in leg.learners} if leg else {},
                "tallies": tallies,
            }
        )

    def restore(self) -> dict | None:
        """Go to where the newest checkpoint is."""
        state = self.checkpoint.load() if self.checkpoint and self.world.rank == 0 else None
        (state,) = self.world.agree([state])
        if state is None:
            return None
        self.at.restore(state)
        for name, trained in self.at.trained.items():
            self.nets[name].load(trained.last)
        self.tally = Tally.restored(state["tallies"][self.world.rank], self.world.device)
        self.progress.resumed(self.at.leg, self.at.epoch, self.at.step)
        return state

    def restore_learners(self, state: dict) -> None:
        for name in state["learners"]:
            self.nets[name].load(state["learners"][name])
            self.nets[name].load_momenta(state["optimizers"][name])

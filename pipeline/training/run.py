"""A run: one seed of one method, leg after leg, from its initial networks to its result."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from pipeline.core.interface import Leg, Method, Network
from pipeline.core.randomness import hash64
from pipeline.errors import Diverged, ParamsError, UserError
from pipeline.estimators.catalog import is_estimator
from pipeline.models.names import ZOO
from pipeline.progress import Progress
from pipeline.runtime.processes import Processes
from pipeline.runtime.signals import SignalHandler
from pipeline.storage.checkpoints import Checkpoint
from pipeline.storage.logit_cache import LogitCache
from pipeline.training.batches import Batches
from pipeline.training.capture import can_be_captured
from pipeline.training.checkpointing import Checkpointing
from pipeline.training.cost import RunPasses, part_before_leg, part_of_leg, sum_passes
from pipeline.training.estimator import TrainingEstimator, fit_leg
from pipeline.training.guides import Guides, usable
from pipeline.training.independent import NumberedLeg, SingleLeg, is_independent, train_independent_legs
from pipeline.training.learner import Learner
from pipeline.training.legs import plan
from pipeline.training.loop import Loop
from pipeline.training.metrics import HistoryRow
from pipeline.training.network import TrainingNetwork, initialise
from pipeline.training.schedule import learning_rate, was_trained
from pipeline.training.state import Trained, TrainState
from pipeline.training.training_set import Sheet, TrainingSet, Views
from pipeline.training.validation import Validation

if TYPE_CHECKING:
    from pipeline.params.schema import Train


@dataclass
class Result:
    """What a run returns: its networks, its history, and what it cost.

    seconds: of training.  steps: batches.  images: of all batches, over all ranks.
    passes: images that passed through each network, by part of the run, over all ranks.
    sheets: images that the method kept for a person to look at.  fit_seconds: of each estimator's last fit.
    """

    networks: dict[str, Trained]
    history: list[HistoryRow]
    seconds: float
    steps: int
    images: int
    passes: RunPasses
    sheets: dict[str, Sheet]
    fit_seconds: dict[str, float]


@contextmanager
def full_memory_reported(recipe: "Train", networks: Iterable[str], device: torch.device) -> Iterator[None]:
    """Within the context, a device that runs out of memory raises UserError, which names batch size and networks."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            f"out of memory on {device}: train.batch_size is {recipe.batch_size}, and the networks "
            f"{', '.join(networks)} are resident; choose a smaller batch or smaller networks"
        ) from None


class Run:
    """One seed of one method, on data that are on the device.

    train, validation: views of these splits.  recipe: the section `train` of params.yaml.
    checkpoint: where the run saves its state and resumes from.  cache: logits of frozen guides.
    only_leg: the run consists of this one leg of a larger run, trained by this rank without the others.
    """

    def __init__(
        self,
        method: Method,
        networks: Mapping[str, Network],
        train: Views,
        validation: Views,
        recipe: "Train",
        *,
        seed: int,
        accelerator: Accelerator,
        checkpoint: Checkpoint | None = None,
        checkpoint_minutes: float = 10.0,
        progress: Progress | None = None,
        dtype: torch.dtype = torch.float32,
        cache: LogitCache | None = None,
        signals: SignalHandler | None = None,
        only_leg: int | None = None,
    ):
        self.method, self.networks, self.recipe, self.seed = method, dict(networks), recipe, seed
        self.train_views, self.validation_views, self.cache, self.dtype = train, validation, cache, dtype
        self.accelerator, self.checkpoint_minutes = accelerator, checkpoint_minutes
        self.first_leg, self.is_part = only_leg or 0, only_leg is not None
        self.processes = Processes.single(accelerator) if self.is_part else Processes(accelerator)
        if recipe.batch_size % self.processes.size:
            raise ParamsError(
                f"train.batch_size: {recipe.batch_size} images cannot be divided evenly among {self.processes.size} "
                f"processes"
            )
        self.progress = progress or Progress("", quiet=True)
        self.signals = signals or SignalHandler()
        self.state = TrainState(self.processes, leg=self.first_leg)
        self.nets: Mapping[str, Learner] = {name: self.build(name, n) for name, n in self.networks.items()}
        self.trainable = {name: net for name, net in self.nets.items() if isinstance(net, TrainingNetwork)}
        self.train_set = TrainingSet(
            train, self.networks, world=self.processes, seed=seed, dtype=dtype, memo=self.state.memo
        )
        self.guides = Guides(self.networks, usable(cache, dtype), self.processes, [seed, recipe.batch_size])
        self.batches = Batches(seed, recipe.batch_size, self.processes, dtype, self.guides, compiled=recipe.compile)
        self.checkpointing = Checkpointing(
            checkpoint,
            self.state,
            self.nets,
            self.trainable,
            self.processes,
            seconds=60 * checkpoint_minutes,
            signals=self.signals,
            progress=self.progress,
        )
        self.validation = Validation(validation, self.nets, self.processes, self.state, dtype)
        self.loop = Loop(
            method,
            self.nets,
            self.trainable,
            recipe,
            accelerator,
            state=self.state,
            batches=self.batches,
            validation=self.validation,
            checkpointing=self.checkpointing,
            progress=self.progress,
        )

    def build(self, name: str, network: Network) -> TrainingNetwork | TrainingEstimator:
        """A network on the device, with its initial weights or those that it starts from; or an estimator."""
        views, recipe = self.train_views, self.recipe
        if is_estimator(network.arch):
            return TrainingEstimator(network, seed=self.seed, name=name, classes=views.num_classes)
        module = initialise(
            network,
            seed=hash64(self.seed, "weights", name),
            num_classes=views.num_classes,
            in_chans=views.in_chans,
            image_size=views.image_size,
        )
        return TrainingNetwork(
            module.to(self.dtype),
            self.accelerator,
            learns=network.learns,
            independent=network.independent or self.is_part,
            captured=can_be_captured(network, self.accelerator, alone=self.is_part),
            lr=learning_rate(recipe, network),
            layer_decay=recipe.layer_decay if was_trained(network) and network.arch not in ZOO else 1.0,
            batch=recipe.batch_size // self.processes.size,
            recipe=recipe,
        )

    def train(self) -> Result:
        """Train every leg, from the newest checkpoint if there is one.

        Raises Diverged, on every rank, if a loss is not finite, and Interrupted, with a checkpoint, after a signal.
        """
        saved = self.checkpointing.restore()
        state = self.state
        with self.signals:
            for legs in self.leg_groups():
                number, leg, _ = legs[0]
                if number < state.leg:
                    continue
                for each in legs:
                    state.record_notes(each.number, each.notes)
                if is_independent(leg, self.networks, self.processes):
                    train_independent_legs(
                        legs, self.train_alone, state=state, nets=self.nets, checkpointing=self.checkpointing
                    )
                else:
                    self.train_leg(number, leg, saved if saved and number == saved["leg"] else None)
            self.checkpointing.stop_if_asked()  # a signal after the last leg must still stop what comes after the run
        passes = sum_passes(self.processes.all_gather_object(state.passes))
        return Result(
            networks=state.trained,
            history=state.history,
            seconds=state.seconds,
            steps=state.steps,
            images=state.images,
            passes=passes,
            sheets=self.train_set.sheets,
            fit_seconds=state.fit_seconds,
        )

    def legs(self) -> Iterator[tuple[int, Leg]]:
        """The legs by number. What the method computes to make a leg is counted as the part of the run before it."""
        legs = self.method.legs(self.nets, self.train_set)
        for number in count(self.first_leg):
            self.count_in(part_before_leg(number))
            leg = next(legs, None)
            if leg is None:
                return
            yield number, leg

    def count_in(self, part: str) -> None:
        """Count what passes through the networks from now on in a part of the run."""
        for name, net in self.nets.items():
            net.passes = self.state.passes_of(part, name)

    def leg_groups(self) -> Iterator[list[NumberedLeg]]:
        """The legs in turn; consecutive legs of independent networks come as one group."""
        group: list[NumberedLeg] = []
        for number, leg in self.legs():
            numbered = NumberedLeg(number, leg, self.train_set.take_notes())
            if is_independent(leg, self.networks, self.processes):
                group.append(numbered)
                continue
            if group:
                yield group
                group = []
            yield [numbered]
        if group:
            yield group

    def train_leg(self, number: int, leg: Leg, saved: dict | None) -> None:
        """Train one leg: fit its estimator, or update its networks batch by batch.

        saved: the checkpoint, if it was written within this leg.
        """
        learner = self.nets[leg.learners[0]]
        if isinstance(learner, TrainingEstimator):
            self.count_in(part_of_leg(number))
            parts = (self.train_set, self.state, self.validation, self.checkpointing, self.progress)
            fit_leg(number, leg, learner, *parts)
        else:
            self.train_networks(number, leg, saved)

    def train_networks(self, number: int, leg: Leg, saved: dict | None) -> None:
        """Train the networks of one leg by gradients.

        Raises Diverged if a network ends with weights that are not finite.
        """
        planned = plan(number, leg, self.train_set, epochs=self.recipe.epochs, batch_size=self.recipe.batch_size)
        for net in self.trainable.values():
            net.release_graphs()
        for name in leg.learners:
            self.trainable[name].begin_leg(fresh=leg.fresh)
        self.checkpointing.begin_leg()
        if saved:
            self.checkpointing.restore_learners(saved)
        elif leg.extra is not None:
            self.checkpointing.save(planned)  # the extra images may have been expensive to compute
        self.guides.begin_leg(self.nets, planned)
        self.count_in(part_of_leg(number))
        self.progress.begin_leg(planned, n_steps=planned.n_steps)
        self.loop.run(planned)
        self.guides.end_leg(self.nets, planned)
        for name in leg.learners:
            self.trainable[name].end_leg()
            last = self.nets[name].weights()
            if not all(bool(value.isfinite().all()) for value in last.values()):  # by the last update of the leg
                raise Diverged(network=name, term="weights", leg=number, epoch=planned.epochs, step=planned.n_steps)
            self.state.trained[name].last = last
        self.state.end_leg(planned)
        self.checkpointing.save(None)

    def train_alone(self, number: int, leg: Leg) -> dict[str, Any]:
        """Train one leg as a run of this rank alone, with checkpoints of its own; its final state as plain data."""
        checkpoint = self.checkpointing.checkpoint
        part = Run(
            SingleLeg(self.method, leg),
            {name: self.networks[name] for name in (*leg.learners, *leg.guides)},
            self.train_views,
            self.validation_views,
            self.recipe,
            seed=self.seed,
            accelerator=self.accelerator,
            checkpoint=checkpoint and checkpoint.part(f"leg-{number}"),
            checkpoint_minutes=self.checkpoint_minutes,
            progress=self.progress.for_independent_leg(),
            dtype=self.dtype,
            cache=self.cache,
            signals=self.signals,
            only_leg=number,
        )
        for name, net in part.nets.items():
            net.load(self.nets[name].weights())  # an earlier leg may have trained it
        part.train()
        return {**part.state.to_dict(), "passes": part.state.passes}

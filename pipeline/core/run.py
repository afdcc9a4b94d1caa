"""A run: the legs of a method in turn, and those that need nothing of one another shared out to the processes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.engine import Engine
from pipeline.core.history import Row
from pipeline.core.position import Trained
from pipeline.core.trainset import Sheet
from pipeline.core.vocabulary import Batch, Leg, Losses, Method, Nets, Network, Train

Noted = tuple[str, str, float]  # network, term, value: what a method noted before a leg
Numbered = tuple[int, Leg, list[Noted]]


@dataclass
class Result:
    """What a run leaves."""

    networks: dict[str, Trained]
    rows: list[Row]
    seconds: float
    steps: int
    images: int
    passes: dict[str, list[int]]
    sheets: dict[str, Sheet]


class Run(Engine):
    """One seed of one method."""

    def train(self) -> Result:
        """Train every leg, from the checkpoint if there is one."""
        resumed = self.restore()
        with self.interruption:
            for legs in self.legs():
                number, leg, _ = legs[0]
                if number < self.at.leg:
                    continue
                self.note(legs)
                if self.is_apart(leg):
                    self.train_apart(legs)
                else:
                    self.run_leg(number, leg, resumed if resumed and number == resumed["leg"] else None)
            self.interruption.obey(self.checkpoint is not None)  # the last leg is over, but not what comes after
        at = self.at
        return Result(at.trained, at.rows, at.seconds, at.steps, at.images, at.passes, self.train_set.sheets)

    def legs(self) -> Iterator[list[Numbered]]:
        """The legs, one by one, but those that are trained apart together."""
        apart: list[Numbered] = []
        for number, leg in enumerate(self.method.legs(self.nets, self.train_set), self.first):
            numbered = (number, leg, self.train_set.notes())
            if self.is_apart(leg):
                apart.append(numbered)
                continue
            if apart:
                yield apart
                apart = []
            yield [numbered]
        if apart:
            yield apart

    def is_apart(self, leg: Leg) -> bool:
        """Whether a leg is one process's. Raises ValueError if only some of its learners learn apart."""
        apart = {self.networks[name].apart for name in leg.learners}
        if len(apart) > 1:
            raise ValueError(f"{', '.join(leg.learners)} learn in one leg, but only some of them apart")
        return apart == {True} and self.world.size > 1

    def note(self, legs: list[Numbered]) -> None:
        """What the method noted before these legs; once, however often the run is resumed."""
        for number, _, notes in legs:
            if number >= self.at.noted:
                self.at.rows += [(number, 0, *note) for note in notes]
                self.at.noted = number + 1

    def train_apart(self, legs: list[Numbered]) -> None:
        """Each leg is trained whole by one process, as if that were the only one; then all know what each became.

        A process that has ended waits for the others, however long they take. Each checkpoints its own part.
        """
        if any(leg.extra is not None for _, leg, _ in legs):
            self.save(None)  # what was computed for them is not computed again
        mine = [self.train_alone(*legs[k][:2]) for k in self.world.share(len(legs))]
        try:
            parts = self.world.join(mine, patiently=True)
        except RuntimeError:  # another process has gone: asked to, as this one was, or by its own error
            self.interruption.obey(self.checkpoint is not None)
            raise
        at = self.at
        for (_, leg, _), part in zip(legs, parts):
            at.rows += part["rows"]
            at.steps, at.images = at.steps + part["steps"], at.images + part["images"]
            for name in leg.learners:
                at.trained[name] = Trained(**part["trained"][name])
                self.nets[name].load(at.trained[name].last)
            for name, passes in part["passes"].items():
                at.passes[name][:] = [before + more for before, more in zip(at.passes[name], passes)]
        of_ranks = (parts[rank :: self.world.size] for rank in range(self.world.size))
        at.seconds += max(sum(part["seconds"] for part in of_rank) for of_rank in of_ranks)
        at.leg = legs[-1][0] + 1
        self.save(None)

    def train_alone(self, number: int, leg: Leg) -> dict[str, Any]:
        """One leg as a run of this process alone; where that run ended."""
        part = Run(
            OneLeg(self.method, leg),
            {name: self.networks[name] for name in (*leg.learners, *leg.guides)},
            self.views,
            self.validation,
            self.recipe,
            seed=self.seed,
            accelerator=self.accelerator,
            checkpoint=self.checkpoint and self.checkpoint.part(f"leg-{number}"),
            checkpoint_minutes=self.checkpoint_seconds / 60,
            progress=self.progress.apart(),
            dtype=self.dtype,
            store=self.store,
            alone_at=number,
        )
        for name, net in part.nets.items():
            net.load(self.nets[name].weights())  # an earlier leg may have trained it
        part.interruption = self.interruption
        part.train()
        return part.at.state()


@dataclass(frozen=True)
class OneLeg:
    """One leg of a method, as a method of its own."""

    method: Method
    leg: Leg

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        return self.method.networks(student, start)

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        yield self.leg

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        return self.method.step(nets, leg, batch)

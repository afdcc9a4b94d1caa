"""Legs that need nothing of one another: each is trained whole by one process, as if that were the only one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core.position import Trained
from pipeline.core.vocabulary import Batch, Leg, Losses, Method, Nets, Network, Train

if TYPE_CHECKING:
    from pipeline.core.engine import Run

Noted = tuple[str, str, float]  # network, term, value: what a method noted before a leg
Numbered = tuple[int, Leg, list[Noted]]


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


def is_apart(run: "Run", leg: Leg) -> bool:
    """Whether a leg is one process's. Raises ValueError if only some of its learners learn apart."""
    apart = {run.networks[name].apart for name in leg.learners}
    if len(apart) > 1:
        raise ValueError(f"{', '.join(leg.learners)} learn in one leg, but only some of them apart")
    return apart == {True} and run.world.size > 1


def in_turn(run: "Run") -> Iterator[list[Numbered]]:
    """A run's legs, one by one, but those that are trained apart together."""
    apart: list[Numbered] = []
    for number, leg in enumerate(run.method.legs(run.nets, run.train_set), run.first):
        numbered = (number, leg, run.train_set.notes())
        if is_apart(run, leg):
            apart.append(numbered)
            continue
        if apart:
            yield apart
            apart = []
        yield [numbered]
    if apart:
        yield apart


def train_apart(run: "Run", legs: list[Numbered]) -> None:
    """Train legs of networks that learn apart, shared out to the processes, and have all ranks know what each became.

    A process that has ended waits for the others, however long they take. Each checkpoints its own part.
    """
    at = run.at
    for number, _, notes in legs:
        if number >= at.noted:
            at.rows += [(number, 0, *note) for note in notes]
            at.noted = number + 1
    if any(leg.extra is not None for _, leg, _ in legs):
        run.save(None)  # what was computed for them is not computed again
    meeting = run.world.patient()
    mine = []
    for k in run.world.share(len(legs)):
        number, leg, _ = legs[k]
        part = part_of(run, number, leg)
        run.interruption.obey(run.checkpoint is not None)
        part.train()
        mine.append(part.at.state())
        run.interruption.asked = run.interruption.asked or part.interruption.asked
        run.interruption.obey(run.checkpoint is not None)
    try:
        parts = run.world.join(mine, meeting)
    except RuntimeError:  # another process has gone: asked to, as this one was, or by its own error
        run.interruption.obey(run.checkpoint is not None)
        raise
    for (_, leg, _), part in zip(legs, parts):
        at.rows += part["rows"]
        at.steps, at.images = at.steps + part["steps"], at.images + part["images"]
        for name in leg.learners:
            at.trained[name] = Trained(**part["trained"][name])
            run.nets[name].load(at.trained[name].last)
        for name, passes in part["passes"].items():
            at.passes[name][:] = [before + more for before, more in zip(at.passes[name], passes)]
    at.seconds += max(sum(part["seconds"] for part in parts[rank :: run.world.size]) for rank in range(run.world.size))
    at.leg = legs[-1][0] + 1
    run.save(None)


def part_of(run: "Run", number: int, leg: Leg) -> "Run":
    """One leg of a run, as a run of this process alone."""
    part = type(run)(
        OneLeg(run.method, leg),
        {name: run.networks[name] for name in (*leg.learners, *leg.guides)},
        run.views,
        run.validation,
        run.recipe,
        seed=run.seed,
        accelerator=run.accelerator,
        checkpoint=run.checkpoint and run.checkpoint.part(f"leg-{number}"),
        checkpoint_minutes=run.checkpoint_seconds / 60,
        progress=run.progress.apart(),
        dtype=run.dtype,
        store=run.store,
        alone_at=number,
    )
    for name, net in part.nets.items():
        net.load(run.nets[name].weights())  # an earlier leg may have trained it
    return part

"""Legs of independent networks: each is trained by one rank, while other ranks train theirs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.core.interface import Batch, Leg, Losses, Method, Nets, Network, Train
from pipeline.errors import Diverged
from pipeline.runtime.processes import Processes
from pipeline.training.checkpointing import Checkpointing
from pipeline.training.cost import add_passes
from pipeline.training.divergence import raise_earliest
from pipeline.training.learner import Learner
from pipeline.training.state import Trained, TrainState

TrainAlone = Callable[[int, Leg], dict[str, Any]]
DIVERGED = "diverged"  # the key of `Diverged.at` in the place of the final state of a leg


class NumberedLeg(NamedTuple):
    """A leg, its position in the run, and the (network, term, value) that the method noted before it."""

    number: int
    leg: Leg
    notes: list[tuple[str, str, float]]


@dataclass(frozen=True)
class SingleLeg:
    """One leg of a method, as a method of its own."""

    method: Method
    leg: Leg

    def networks(self, student: str, start: Mapping[str, Network]) -> dict[str, Network]:
        """The networks of the whole method."""
        return self.method.networks(student, start)

    def legs(self, nets: Nets, train: Train) -> Iterator[Leg]:
        """The one leg."""
        yield self.leg

    def step(self, nets: Nets, leg: Leg, batch: Batch) -> Iterator[Losses]:
        """The step of the whole method."""
        return self.method.step(nets, leg, batch)


def is_independent(leg: Leg, networks: Mapping[str, Network], processes: Processes) -> bool:
    """Whether one of several ranks trains a leg alone.

    Raises ValueError if only some of its learners are independent.
    """
    independent = {networks[name].independent for name in leg.learners}
    if len(independent) > 1:
        raise ValueError(f"{', '.join(leg.learners)} learn in one leg, but only some of them are independent")
    return independent == {True} and processes.size > 1


def train_independent_legs(
    legs: list[NumberedLeg],
    train_alone: TrainAlone,
    *,
    state: TrainState,
    nets: Mapping[str, Learner],
    checkpointing: Checkpointing,
) -> None:
    """Share out the legs among the ranks, then collect on every rank what each network became.

    train_alone: trains a leg, given its number, as if this rank were the only process, and returns its final state.
    A rank that has finished waits for the others, however long they take. Raises Diverged on every rank, of the first
    leg that diverged on any of them.
    """
    processes = state.processes
    if any(leg.extra is not None for _, leg, _ in legs):
        checkpointing.save(None)  # the extra images are not computed again
    local = list(train_until_diverged([legs[k] for k in processes.rank_indices(len(legs))], train_alone))
    try:
        parts = processes.gather_objects(local, without_timeout=True)
    except RuntimeError:  # another rank has ended: after a signal, as this one may have received too, or by an error
        checkpointing.stop_if_asked()
        raise
    raise_earliest(part.get(DIVERGED) for part in parts)
    for (_, leg, _), part in zip(legs, parts):
        state.history += part["history"]
        state.steps, state.images = state.steps + part["steps"], state.images + part["images"]
        for name in leg.learners:
            state.trained[name] = Trained(**part["trained"][name])
            nets[name].load(state.trained[name].last)
        state.fit_seconds |= part["fit_seconds"]
    for part in local:  # every rank counts its own passes
        add_passes(state.passes, part["passes"])
    of_ranks = (parts[rank :: processes.size] for rank in range(processes.size))
    state.seconds += max(sum(part["seconds"] for part in of_rank) for of_rank in of_ranks)
    state.leg = legs[-1].number + 1
    checkpointing.save(None)


def train_until_diverged(legs: list[NumberedLeg], train_alone: TrainAlone) -> Iterator[dict[str, Any]]:
    """The final state of each leg, in turn. A leg that diverges, and those after it, give the place instead.

    The other ranks learn of it when they gather the results, so that all of them end alike.
    """
    diverged = None
    for number, leg, _ in legs:
        if diverged is None:
            try:
                yield train_alone(number, leg)
                continue
            except Diverged as error:
                diverged = {DIVERGED: error.at}
        yield diverged

"""The search space of an entry of `methods`: what its schema offers, what its values allow, and the next point."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pipeline.params.search import Search, searches

Values = dict[str, Any]
STARTUP = 4  # trials that are drawn at random, that of params.yaml included, before TPE chooses
DIGITS = 3  # significant digits of a proposed number


@dataclass(frozen=True)
class Point:
    """A point of the space that was tried.

    known: whether the sampler may use its result.  value: the result, validation top-1 in percent; None if a seed
    diverged.
    """

    parameters: Values
    known: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Space:
    """The parameters that are searched, by name, and their values in params.yaml (`given`).

    left_out: a line for each parameter that the schema would search, but this entry does not.
    """

    searched: dict[str, Search]
    given: Values
    left_out: list[str]

    @property
    def combinations(self) -> list[Values] | None:
        """Every point of the space, if there is no range in it."""
        if not all(search.choices for search in self.searched.values()):
            return None
        return [dict(zip(self.searched, point)) for point in product(*(s.choices for s in self.searched.values()))]

    def propose(self, tried: Sequence[Point], *seed: int | str) -> Values | None:
        """The next point. It is a function of its arguments, so a run that was killed proposes the same.

        The values of params.yaml come first. A space without ranges is then tried point by point; any other is left to
        Optuna's multivariate TPE, which draws its first points at random.

        tried: the points of all trials.  seed: of the draws.
        Returns None if every point of the space was tried.
        """
        before = [point.parameters for point in tried]
        if self.given not in before:
            return self.given
        if (points := self.combinations) is not None:
            return next((point for point in points if point not in before), None)
        point, again = self.sample(tried, *seed), 0
        while point in before:  # as after a search whose best point, drawn by the same seed, was adopted
            again += 1
            point = self.sample(tried, *seed, again)
        return point

    def sample(self, tried: Sequence[Point], *seed: int | str) -> Values:
        """A point by TPE. A point whose result is not known counts as bad, so that the next one is elsewhere."""
        import optuna
        from optuna.trial import TrialState, create_trial

        from pipeline.core.randomness import hash64

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        distributions = self.distributions([point.parameters for point in tried])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=STARTUP, multivariate=True, constant_liar=True, seed=hash64("tune", *seed) % 2**32
            )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for point in tried:
            ended = TrialState.PRUNED if point.value is None else TrialState.COMPLETE
            state = ended if point.known else TrialState.RUNNING
            value = point.value if point.known else None
            study.add_trial(
                create_trial(state=state, params=point.parameters, distributions=distributions, value=value)
            )
        return {name: rounded(value, distributions[name]) for name, value in study.ask(distributions).params.items()}

    def distributions(self, tried: Sequence[Values]) -> dict[str, Any]:
        """Optuna's form of the space. A range is widened to hold every value that was tried."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {}
        for name, search in self.searched.items():
            if search.choices:
                found[name] = CategoricalDistribution(search.choices)
                continue
            values = [self.given[name], *(point[name] for point in tried)]
            whole = isinstance(self.given[name], int)
            low, high = min(search.low, *values), max(search.high, *values)
            found[name] = (
                IntDistribution(int(low), int(high), log=search.log)
                if whole
                else FloatDistribution(float(low), float(high), log=search.log)
            )
        return found


def space_of(section: Any, *, control: bool) -> Space:
    """The search space of an entry.  section: its parameters.  control: whether the entry is one."""
    searched, given, left_out = {}, {}, []
    for name, search in searches(type(section)).items():
        value = getattr(section, name)
        if control and not search.control:
            left_out.append(f"{name} makes the entry a control")
        elif search.off is not None and value == search.off:
            left_out.append(f"{name} is {value:g}, which switches it off")
        elif unmet := search.unmet(section):
            left_out.append(f"{name} has no effect while {unmet}")
        elif not fits(value, search):
            left_out.append(f"{name} has a value outside every range")
        else:
            searched[name], given[name] = search, value
    return Space(searched, given, left_out)


def fits(value: Any, search: Search) -> bool:
    """Whether a value is one of the choices, or a number that the range can be widened to."""
    if search.choices:
        return value in search.choices
    return isinstance(value, int | float) and not isinstance(value, bool) and (value > 0 or not search.log)


def rounded(value: Any, distribution: Any) -> Any:
    """A proposed number with few digits, within its range; anything else as it is."""
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)

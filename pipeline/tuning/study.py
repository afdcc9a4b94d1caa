"""The trials of one entry, kept by Optuna in an SQLite file, from which a killed run goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import DataError, UserError, first_line
from pipeline.tuning.space import Point, Space, Values

FOLDER = Path(".tuning")
SEEDS = "seeds of trial"  # the key of a trial's results by seed, among the study's attributes


@dataclass(frozen=True)
class Trial:
    """One trial.

    number: from 1.  parameters: the values that are searched.  finished: whether all its seeds were trained.
    seeds: validation top-1 in percent of each seed that was trained, None if it diverged.
    """

    number: int
    parameters: Values
    finished: bool
    seeds: dict[int, float | None]

    @property
    def value(self) -> float | None:
        """The mean over seeds; None if one of them diverged, or if the trial is not finished."""
        values = [value for value in self.seeds.values() if value is not None]
        return sum(values) / len(values) if self.finished and len(values) == len(self.seeds) else None


class Study:
    """The trials of an entry.

    key: a digest of everything that decides a trial besides the parameters that are searched. Another key is another
        study in the same file, so trials of other data, code or recipes are never mixed.
    """

    def __init__(self, name: str, key: str, space: Space, folder: Path = FOLDER):
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name, self.space = name, space
        self.file = folder / f"{name}.sqlite"
        try:
            self.study = optuna.create_study(
                study_name=key,
                storage=f"sqlite:///{self.file.as_posix()}",
                sampler=optuna.samplers.RandomSampler(seed=0),  # proposes nothing: Space does
                direction="maximize",
                load_if_exists=True,
            )
            self.trials = list(self.read())
        except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, KeyError, ValueError) as error:
            raise DataError(
                f"{self.file} cannot be read ({ascii(first_line(error))[1:-1]}): remove it and run the same command "
                f"again; trials that are in the checkpoint store are not trained again"
            ) from None

    def read(self) -> Iterator[Trial]:
        """The trials in the file."""
        attributes = self.study.user_attrs
        for frozen in self.study.get_trials(deepcopy=False):
            seeds = attributes.get(f"{SEEDS} {frozen.number + 1}", {})
            parameters = {name: frozen.params[name] for name in self.space.searched}
            by_seed = {int(seed): value for seed, value in seeds.items()}
            yield Trial(frozen.number + 1, parameters, frozen.state.is_finished(), by_seed)

    def next_batch(self, wanted: int, size: int) -> list[Trial]:
        """The trials to train now: those that a killed run has begun, else new ones. Empty once there are enough.

        Trials 1 to `size` are a batch, the next `size` are, and so on. Parameters depend on the results of earlier
        batches alone, so they do not depend on where a run was killed.
        wanted: trials of the study; one more is added if the values of params.yaml are not among them.
        """
        while len(self.trials) < wanted or self.space.given not in [trial.parameters for trial in self.trials]:
            whole = len(self.trials) % size == 0
            if (whole and self.unfinished) or not self.begin(size):
                break
        return self.unfinished

    def begin(self, size: int) -> bool:
        """Add the next trial to the file, in one transaction. Returns False if every point was tried."""
        from optuna.trial import TrialState, create_trial

        number = len(self.trials) + 1
        batch = (number - 1) // size * size
        tried = [Point(t.parameters, t.finished and t.number <= batch, t.value) for t in self.trials]
        point = self.space.propose(tried, self.name, number)
        if point is None:
            return False
        distributions = self.space.distributions([*(t.parameters for t in self.trials), point])
        self.study.add_trial(create_trial(state=TrialState.RUNNING, params=point, distributions=distributions))
        self.trials.append(Trial(number, point, False, {}))
        return True

    def finish(self, trial: Trial, seeds: dict[int, float | None]) -> Trial:
        """Keep the results of a trial. Returns the finished trial."""
        from optuna.trial import TrialState

        done = Trial(trial.number, trial.parameters, True, seeds)
        self.study.set_user_attr(f"{SEEDS} {trial.number}", {str(seed): value for seed, value in seeds.items()})
        if done.value is None:
            self.study.tell(trial.number - 1, state=TrialState.PRUNED)
        else:
            self.study.tell(trial.number - 1, done.value)
        self.trials[trial.number - 1] = done
        return done

    @property
    def finished(self) -> list[Trial]:
        """The trials whose seeds were trained."""
        return [trial for trial in self.trials if trial.finished]

    @property
    def unfinished(self) -> list[Trial]:
        """The trials that are to be trained."""
        return [trial for trial in self.trials if not trial.finished]

    @property
    def best(self) -> Trial | None:
        """The finished trial with the highest mean, the first of equal ones; None if all diverged."""
        ended = [trial for trial in self.finished if trial.value is not None]
        return max(ended, key=lambda trial: (trial.value, -trial.number), default=None)


@contextmanager
def locked(name: str, folder: Path = FOLDER) -> Iterator[None]:
    """Keep the study of an entry for this process. Raises UserError if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise UserError(f"another process is tuning {name}: run the same command again when it has ended") from None


def as_text(parameters: dict[str, Any]) -> str:
    """Parameters as a part of a line, e.g. "temperature 2.57, normalise sum"."""
    numbers = {name: f"{value:g}" for name, value in parameters.items() if isinstance(value, float)}
    return ", ".join(f"{name} {numbers.get(name, value)}" for name, value in parameters.items())

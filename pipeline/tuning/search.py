"""The search of one entry of `methods`: trials are asked, trained, kept and written to its table."""

import os
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.evaluation.loss_weights import differing, matching
from pipeline.evaluation.trials import TriedTrial, data_digest, write_trials
from pipeline.params.load import plain
from pipeline.params.rules import assistants_of
from pipeline.tuning.space import Space
from pipeline.tuning.study import Study, Trial, as_text, locked
from pipeline.tuning.training import Trainer

RESULTS = Path("results/tune")
CHAINS = ("takd", "dgkd")  # sections by which the assistants are trained, too


class MethodSearch:
    """The search of one entry.

    jobs: trainings at the same time.  They are shared out among the seeds of a trial first, and then among trials: a
    batch of trials is chosen together, without the results of each other.
    cluster: that trains them; None trains one after the other in this process.
    """

    def __init__(self, trainer: Trainer, space: Space, *, trials: int, jobs: int = 1, cluster: Any = None):
        self.trainer, self.space, self.wanted, self.cluster = trainer, space, trials, cluster
        self.name, self.batch = trainer.name, max(1, jobs // len(trainer.seeds))
        self.study: Study | None = None

    def run(self) -> Study:
        """Train what is missing. Returns the study, whose trials are all finished.

        Raises Interrupted after a signal; the trials that were finished before are kept.
        """
        with locked(self.name):
            study = self.study = Study(self.name, self.trainer.key(self.space), self.space)
            if study.finished:
                self.write()
                print(f"{self.name}: {len(study.finished)} trials were finished before")
            while batch := study.next_batch(self.wanted, self.batch):
                if self.cluster is not None:
                    self.train_on_workers(batch)
                for trial in batch:
                    which = f"{self.name}: trial {trial.number} of {max(self.wanted, trial.number)}"
                    print(f"{which}: {as_text(trial.parameters)}", flush=True)
                    done = study.finish(trial, self.trainer.results(trial))
                    self.write()
                    print(f"{which}: {self.outcome(done)}", flush=True)
        return study

    def train_on_workers(self, batch: list[Trial]) -> None:
        """Have the workers train every seed of these trials that the checkpoint store lacks."""
        from pipeline.parallel.seeds import train_on_cluster

        def train(trial: Trial) -> None:
            stage = self.trainer.stage_of(trial.number, trial.parameters)
            missing = [seed for seed in self.trainer.seeds if not stage.checkpoint(seed).finished.exists()]
            if missing:
                train_on_cluster(stage.command, stage.label, missing, self.trainer.runtime.threads)

        with ThreadPoolExecutor(len(batch)) as pool:
            for future in [pool.submit(train, trial) for trial in batch]:
                future.result()
        if line := self.cluster.fit():
            print(line)

    def outcome(self, trial: Trial) -> str:
        """The result of a trial, and the best one so far, for a line."""
        assert self.study is not None
        seeds = ", ".join("diverged" if value is None else f"{value:.2f}" for value in trial.seeds.values())
        best = self.study.best
        mean = "diverged" if trial.value is None else f"validation {trial.value:.2f} %"
        return f"{mean} ({seeds})" + (f"; best {best.value:.2f} % in trial {best.number}" if best else "")

    def write(self) -> None:
        """Write results/tune/METHOD.csv."""
        assert self.study is not None
        data = data_digest(self.trainer.stage.data)
        rows = [TriedTrial(t.number, t.parameters, t.value, t.seeds, data) for t in self.study.finished]
        write_trials(RESULTS / f"{self.name}.csv", rows)


def summary(study: Study, adopted: list[str]) -> list[str]:
    """The best trial beside that of params.yaml, and how it is adopted.  adopted: what `adoption` sets."""
    best, given = study.best, next(t for t in study.finished if t.parameters == study.space.given)
    head = f"{study.name}: {len(study.finished)} trials, in {RESULTS / f'{study.name}.csv'}"
    if best is None:
        return [f"{head}: all diverged"]
    adopt = " ".join(["dvc exp run", *(f"-S {shlex.quote(setting)}" for setting in adopted)])
    if best.parameters == given.parameters:
        line = f"{head}: params.yaml has the best parameters ({best.value:.2f} % on validation)"
        return [line, *([f"  its controls lack its loss weights: {adopt}"] if adopted else [])]
    before = "diverged" if given.value is None else f"{given.value:.2f} %"
    return [
        f"{head}: trial {best.number} is the best on validation, {best.value:.2f} %; params.yaml: {before}",
        f"  {as_text(best.parameters)}",
        f"  adopt it: {adopt}",
        *hints(study.name, adopted),
    ]


def hints(name: str, adopted: list[str]) -> list[str]:
    """What else an adoption concerns.  name: of the entry.  adopted: what `adoption` sets."""
    lines = []
    if name in CHAINS:
        lines.append(f"  the section {name} is also that of the assistants: they are trained again")
    if controls := [section for section in sections_of(adopted) if section != name]:
        lines.append(f"  controls that get its loss weights, and are to be tuned after it: {', '.join(controls)}")
    return lines


def sections_of(settings: list[str]) -> list[str]:
    """The sections that settings change, e.g. kd of kd.temperature=2.57, each once."""
    return list(dict.fromkeys(setting.split(".")[0] for setting in settings))


def adoption(study: Study, values: dict[str, Any], n_classes: int) -> list[str]:
    """What `-S` sets to adopt the best trial, e.g. kd.temperature=2.57; empty if params.yaml has it.

    Controls that have the loss weights of this entry (`weights_of`) get those of the best trial.
    values: all sections of params.yaml.  n_classes: of the data.
    """
    if study.best is None:
        return []
    name, best = study.name, study.best.parameters
    entry = values["methods"][name]
    found = [f"{name}.{key}={as_yaml(value)}" for key, value in best.items() if value != study.space.given[key]]
    section, chain = plain(values[name]) | best, assistants_of(entry.after, values)
    others = list(chain or values["assistants"]) if section.get("group") == "auto" else [*section.get("group", chain)]
    first = "pivot" if entry.is_ == "orc" else "teacher"  # ORC counts all others as its students
    for other, control in values["methods"].items():
        if control.weights_of == name:
            wanted = matching(control.is_, entry.is_, section, (first, *others), n_classes)
            differs = differing(plain(values[other]), wanted)
            found += [f"{other}.{key}={as_yaml(value)}" for key, value in differs.items()]
    return found


def after_their_methods(names: list[str], entries: dict[str, Any]) -> list[str]:
    """The entries in their order, but each control after the one whose loss weights it gets."""
    ordered, left = [], list(names)
    while left:
        methods = [entries[name].weights_of for name in left]
        k = next((k for k, method in enumerate(methods) if method not in left), 0)  # 0: two that name each other
        ordered.append(left.pop(k))
    return ordered


def as_yaml(value: Any) -> str:
    """A value as `-S` takes it."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{as_yaml(item)}' for key, item in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def workers(jobs: int, values: dict[str, Any]) -> Iterator[Any]:
    """A Dask cluster on this machine for the trainings of all entries; None for one job."""
    if jobs == 1:
        yield None
        return
    from pipeline.parallel.cluster import connect, libraries_of
    from pipeline.parallel.seeds import ADDRESS, GPUS, LIBRARIES

    threads = values["runtime"].threads
    with connect(None, jobs=jobs, threads=threads, jobs_per_gpu=1, memory_per_job=None) as cluster:
        address = {ADDRESS: cluster.client.scheduler.address, LIBRARIES: " ".join(libraries_of(values))}
        os.environ |= address | {GPUS: " ".join(map(str, cluster.gpus))}
        try:
            yield cluster
        finally:
            for name in (*address, GPUS):
                del os.environ[name]

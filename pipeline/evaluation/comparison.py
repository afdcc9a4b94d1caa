"""All methods beside each other: what report says, as plain data. Reads results/, imports no torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.evaluation.statistics import Comparison, Spread, compare, judged, spread

REFERENCE = "kd"
METHODS = ("scratch", "kd", "dml", "takd", "dgkd", "sdgkd", "orc", "cooperative")
"""What the papers propose; every other entry of params.yaml's `methods` is a control."""
MEANS = ("top5", "error1", "error5", "nll", "ece")


@dataclass(frozen=True)
class Outcome:
    """One method over its seeds."""

    name: str
    kind: str
    seeds: dict[int, dict[str, Any]]
    n_images: int
    cost: dict[str, Any]
    student: str | None
    members: list[str]

    @property
    def is_control(self) -> bool:
        return self.name not in METHODS

    def top1(self, which: str = "last", part: str = "networks") -> dict[int, float]:
        """Seed -> test accuracy in percent: of the student, or the members' mean."""
        return {seed: self.mean(result[part], which, "top1") for seed, result in self.seeds.items()}

    def mean(self, networks: dict[str, Any], which: str, metric: str) -> float:
        names = [self.student] if self.student else self.members
        return float(np.mean([networks[name][which][metric] for name in names]))

    def right(self) -> dict[int, np.ndarray]:
        """Seed -> which test images are right; the members' one after another."""
        n = self.n_images * (1 if self.student else len(self.members))
        return {seed: unpack(result["right"], n) for seed, result in self.seeds.items()}

    @property
    def spread(self) -> Spread:
        return spread(list(self.top1().values()), self.n_images * (1 if self.student else len(self.members)))

    @property
    def parameters(self) -> int:
        """Of the student; of a group, all members' together."""
        names = [self.student] if self.student else self.members
        networks = next(iter(self.seeds.values()))["networks"]
        return sum(networks[name]["parameters"] for name in names)

    @property
    def seconds(self) -> float:
        """Training time of one seed, without what it starts from; mean over seeds."""
        return float(np.mean([cost["seconds"] for cost in self.cost["seeds"].values()]))


def outcomes(methods: list[str], seeds: list[int], results: Path) -> list[Outcome]:
    """The results of every method that params.yaml names, in its order."""
    return [outcome(name, seeds, results) for name in methods]


def outcome(name: str, seeds: list[int], results: Path) -> Outcome:
    evaluated = read(results / "eval" / f"{name}.json")
    cost = read(results / "cost" / f"{name}.json")
    missing = [seed for seed in seeds if str(seed) not in evaluated["seeds"]]
    if missing:
        raise DataError(f"results/eval/{name}.json has no seed {missing[0]}: run `dvc repro`")
    return Outcome(
        name,
        evaluated["is"],
        {seed: evaluated["seeds"][str(seed)] for seed in seeds},
        evaluated["n_images"],
        cost,
        evaluated["student"],
        evaluated["members"],
    )


def read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise DataError(f"{file} is missing: run `dvc repro`") from None


def unpack(right: str, n: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(right), dtype=np.uint8), count=n).astype(bool)


def against_reference(all_outcomes: list[Outcome]) -> dict[str, Comparison]:
    """Every method that ends in the student against kd; Holm's correction is over all of them."""
    by_name = {o.name: o for o in all_outcomes}
    if REFERENCE not in by_name:
        return {}
    reference = by_name[REFERENCE].right()
    found = {o.name: compare(o.right(), reference) for o in all_outcomes if o.student and o.name != REFERENCE}
    return judged({name: c for name, c in found.items() if c})


def summary(all_outcomes: list[Outcome]) -> dict[str, Any]:
    """results/summary.json: means over seeds beside the seeds' own values. Nothing in it differs between reruns."""
    comparisons = against_reference(all_outcomes)
    return {o.name: row(o, comparisons.get(o.name)) for o in all_outcomes}


def row(o: Outcome, comparison: Comparison | None) -> dict[str, Any]:
    s = o.spread
    values: dict[str, Any] = {"top1": s.mean}
    if s.sd is not None:
        values["top1_sd"] = s.sd
    values["top1_low"], values["top1_high"], values["n"] = s.low, s.high, s.n
    values["top1_best"] = np.mean(list(o.top1("best").values()))
    for metric in MEANS:
        values[metric] = np.mean([o.mean(result["networks"], "last", metric) for result in o.seeds.values()])
    for extra in ("agreement", "false_knowledge"):
        said = [result[extra] for result in o.seeds.values() if extra in result]
        if said:
            values[extra] = np.mean(said)
    for part in ("before", "all_data"):
        if part in next(iter(o.seeds.values())):
            values[part] = np.mean(list(o.top1(part=part).values()))
    values = {k: round(float(v), 6) if k != "n" else v for k, v in values.items()}
    values["seeds"] = {
        str(seed): {"top1": round(last, 6), "top1_best": round(o.top1("best")[seed], 6)}
        for seed, last in o.top1().items()
    }
    if comparison:
        said = comparison.plain()
        values["vs_kd"] = {k: round(v, 6) if isinstance(v, float) else v for k, v in said.items() if v is not None}
    return values

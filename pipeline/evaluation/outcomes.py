"""The test results, costs and trials of all methods, and the errors that `scratch` repeats by coincidence.

The module does not format, draw or load a network, and it imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.evaluation.coincidence import FILE, kept, measured, read_shares
from pipeline.evaluation.records import read_cost, read_evaluation
from pipeline.evaluation.statistics import Estimate, estimate, image_interval, proportion_interval
from pipeline.evaluation.trials import Tuning, read_tuning
from pipeline.storage.documents import damaged
from pipeline.storage.folders import file_digest


@dataclass(frozen=True)
class Outcome:
    """The test results of one method. A method that diverged in all seeds has no accuracy, parameters or seconds.

    Attributes:
        name: The method's key in `methods` of params.yaml.
        kind: The module in pipeline/methods that implements it.
        control: Whether the method is a control, which the report lists in a table of its own.
        against: The controls that the method names in `methods` of params.yaml.
        weights_of: The method whose loss weights it has as a control, or None.
        seeds: Maps a seed that ended to its results, as results/eval/NAME.json stores them.
        diverged: Maps a seed that diverged to where it did (pipeline.evaluation.records.Divergence).
        n_images: Number of test images.
        classes: The class names, in the order of the labels.
        cost: The content of results/cost/NAME.json.
        student: Name of the trained student, or None if the method trains a group.
        members: Names of the group's members; empty if the method trains a student.
        by_scratch: Maps a seed to the share of the teachers' errors on training images on which the student of plain
            cross-entropy gives the same wrong class; only seeds whose teachers err and that ended in `scratch` too.
        tuning: How its parameters were chosen, or None if they were not tuned.
    """

    name: str
    kind: str
    control: bool
    against: tuple[str, ...]
    weights_of: str | None
    seeds: dict[int, dict[str, Any]]
    diverged: dict[int, dict[str, Any]]
    n_images: int
    classes: list[str]
    cost: dict[str, Any]
    student: str | None
    members: list[str]
    by_scratch: dict[int, float] = field(default_factory=dict)
    tuning: Tuning | None = None

    @property
    def section(self) -> dict[str, Any]:
        """The method's parameters, as params.yaml had them when it was trained."""
        return self.cost["parameters"].get(self.name) or {}

    @property
    def others(self) -> list[str]:
        """Names of the networks that took part in the training beside the student or the group's members."""
        return [name for name in self.cost["networks"] if name not in self.final_networks]

    @property
    def final_networks(self) -> list[str]:
        """Names of the networks that the method produces: the student, or all members of the group."""
        return [self.student] if self.student else self.members

    @property
    def n_seeds(self) -> int:
        """Number of seeds that were trained, whether they ended or diverged."""
        return len(self.seeds) + len(self.diverged)

    @property
    def n_predictions(self) -> int:
        """Number of test predictions per seed, over all final networks."""
        return self.n_images * len(self.final_networks)

    def top1(self, which: str = "last", part: str = "networks") -> dict[int, float]:
        """Return the test top-1 of each seed in percent, averaged over the final networks.

        Args:
            which: The weights, "last" or "best" (on validation).
            part: The part of a seed's results to read: "networks", or for a group also "before" or "all_data".
        """
        return {seed: self.mean(result[part], which, "top1") for seed, result in self.seeds.items()}

    def training(self, key: str) -> dict[int, float]:
        """Return a fraction of the entry `training` by seed, without seeds that have none.

        Args:
            key: A key of pipeline.evaluation.records.TrainingErrors, or "by_scratch".
        """
        if key == "by_scratch":
            return self.by_scratch
        found = {seed: (result.get("training") or {}).get(key) for seed, result in self.seeds.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, networks: dict[str, Any], which: str, metric: str) -> float:
        """Return the mean of a metric over the final networks."""
        return float(np.mean([networks[name][which][metric] for name in self.final_networks]))

    def correct(self) -> dict[int, np.ndarray]:
        """Return for each seed whether each final network classifies each test image correctly, [networks, N] bool."""
        shape = (len(self.final_networks), self.n_images)
        return {seed: unpack(r["right"], self.n_predictions).reshape(shape) for seed, r in self.seeds.items()}

    @property
    def accuracy(self) -> Estimate:
        """Test top-1 of the last weights, with its confidence interval."""
        top1 = list(self.top1().values())
        if self.student:
            return estimate(top1, proportion_interval(top1[0], self.n_images))
        correct = next(iter(self.correct().values()))
        return estimate(top1, image_interval(correct.mean(0)))  # members answer the same images

    def validation(self, which: str) -> dict[int, float]:
        """Return the validation top-1 of each seed in percent, averaged over the final networks.

        Args:
            which: The weights, "last" or "best" (on validation).
        """
        return {
            seed: float(np.mean([result["networks"][name]["validation"][which] for name in self.final_networks]))
            for seed, result in self.seeds.items()
        }

    @property
    def parameters(self) -> int:
        """Number of parameters, summed over the final networks."""
        networks = next(iter(self.seeds.values()))["networks"]
        return sum(networks[name]["parameters"] for name in self.final_networks)

    @property
    def costs(self) -> list[dict[str, Any]]:
        """The costs of the seeds that ended; the file may have others, such as those that a study does not compare."""
        return [self.cost["seeds"][str(seed)] for seed in self.seeds]

    @property
    def seconds(self) -> float:
        """Mean training time of a seed in seconds, without the networks that training starts from."""
        return float(np.mean([cost["seconds"] for cost in self.costs]))

    @property
    def forward_equivalents(self) -> dict[str, float]:
        """What a student, or the group, takes in forward passes of the student on one image, as the mean over seeds.

        The keys are given_teacher (without the center teacher's own training) and from_nothing (with it).
        """
        costs = [cost["forward_equivalents"] for cost in self.costs]
        return {key: float(np.mean([cost[key] for cost in costs])) for key in ("given_teacher", "from_nothing")}

    @property
    def where_diverged(self) -> str:
        """Where the first of the seeds that diverged did so, e.g. "network student, epoch 3, step 17"."""
        where = next(iter(self.diverged.values()))
        leg = f"leg {where['leg']}, " if where["leg"] else ""
        return f"network {where['network']}, {leg}epoch {where['epoch']}, step {where['step']}"


def outcomes(
    methods: Mapping[str, Any], seeds: list[int], results: Path, *, study: bool = False, data: str | None = None
) -> list[Outcome]:
    """Read the results of every method, in the order of params.yaml.

    Args:
        methods: `methods` of params.yaml: maps a name to its entry.
        seeds: The seeds to compare.
        results: The folder results/.
        study: Whether it is that of a study, which keeps no predictions, but shares that were measured on them.
        data: The digest of the data (pipeline.evaluation.trials), so that trials on other data do not count, or None.

    Raises:
        DataError: If a file or a seed is missing, if a file is damaged, or if the methods were tested on other data.
    """
    found = [outcome(name, entry, seeds, results, data) for name, entry in methods.items()]
    for other in found[1:]:
        if (other.classes, other.n_images) != (found[0].classes, found[0].n_images):
            names = " and ".join(str(results / "eval" / f"{o.name}.json") for o in (found[0], other))
            raise DataError(f"{names} are of different test images or classes: run `dvc repro`")
    scratch = next((o for o in found if o.kind == "scratch" and not o.control), None)
    if scratch is None:
        return found
    if study:
        shares = read_shares(results / FILE)
        return [replace(o, by_scratch=kept(shares.get(o.name, {}), o.seeds, scratch.seeds)) for o in found]
    return [replace(o, by_scratch=measured(o.name, o.seeds, scratch.name, scratch.seeds, results)) for o in found]


def outcome(name: str, entry: Any, seeds: list[int], results: Path, data: str | None = None) -> Outcome:
    """Read the results of one method.

    Args:
        name: The method's key in `methods` of params.yaml.
        entry: Its entry in `methods`.
        seeds: The seeds to read, each of which ended or diverged.
        results: The folder results/.
        data: The digest of the data, or None to count trials on any data.

    Raises:
        DataError: If a file or a seed is missing, or if a file is damaged.
    """
    evaluated = read_evaluation(results / "eval" / f"{name}.json")
    cost = read_cost(results / "cost" / f"{name}.json")
    diverged = {seed: evaluated["diverged"][str(seed)] for seed in seeds if str(seed) in evaluated["diverged"]}
    ended = [seed for seed in seeds if seed not in diverged]
    for part, content in (("eval", evaluated), ("cost", cost)):
        missing = [seed for seed in ended if str(seed) not in content["seeds"]]
        if missing:
            raise DataError(f"{results / part / f'{name}.json'} has no seed {missing[0]}: run `dvc repro`")
    return Outcome(
        name=name,
        kind=evaluated["is"],
        control=entry.control,
        against=entry.controls,
        weights_of=entry.weights_of,
        seeds={seed: evaluated["seeds"][str(seed)] for seed in ended},
        diverged=diverged,
        n_images=evaluated["n_images"],
        classes=evaluated["classes"],
        cost=cost,
        student=evaluated["student"],
        members=evaluated["members"],
        tuning=read_tuning(results / "tune", name, cost["parameters"].get(name) or {}, data),
    )


def train_file(results: Path, method: str, cost: dict[str, Any], name: str) -> Path:
    """Return a file of results/train/METHOD.

    Args:
        results: The folder results/.
        method: The method's key in `methods` of params.yaml.
        cost: The content of results/cost/METHOD.json.
        name: The file's name.

    Raises:
        DataError: If it is missing, or if its digest is not the one in results/cost/METHOD.json.
    """
    file = results / "train" / method / name
    if not file.is_file():
        raise DataError(f"{file} is missing: run `dvc repro`")
    if file_digest(file) != cost["sha256"].get(name):
        raise damaged(file, f"its SHA-256 is not the one in {results / 'cost' / f'{method}.json'}")
    return file


def unpack(bits: str, n: int) -> np.ndarray:
    """Decode n booleans that :func:`pipeline.evaluation.testing.pack` encoded, [n] bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), dtype=np.uint8), count=n).astype(bool)

"""What `distill` and `evaluate` have left of a method in results/: whether it belongs together, and to params.yaml.

Any of the files may be older than the others, or than params.yaml: after an edit, methods that have not run again keep
the results that they had. The module reads files and writes none.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.evaluation.outcomes import train_file
from pipeline.evaluation.page.history import read_rows
from pipeline.evaluation.records import read_cost, read_evaluation

HISTORY = "history.csv"
TOP1 = "validation/top1"  # the term of the history that results/eval has, too
TOLERANCE = 1e-6  # of an accuracy in percent


@dataclass(frozen=True)
class Finished:
    """The results of one method.

    Attributes:
        name: The method's key in `methods` of params.yaml.
        results: The folder results/.
        evaluated: The content of results/eval/NAME.json.
        cost: The content of results/cost/NAME.json.
        history: The rows of results/train/NAME/history.csv.
    """

    name: str
    results: Path
    evaluated: dict[str, Any]
    cost: dict[str, Any]
    history: pl.DataFrame

    def other_recipe(self, recipe: Mapping[str, Any], guides: Mapping[str, str]) -> str | None:
        """Return in words what params.yaml and these results do not have in common, or None if there is nothing.

        Args:
            recipe: The parameters that the stage `distill` declares for the method, but `seeds`, in plain data.
            guides: The architectures of the trained networks that the method starts from, by name.
        """
        trained = {key: value for key, value in self.cost["parameters"].items() if key != "seeds"}
        if words := difference(recipe, trained, self.results / "cost" / f"{self.name}.json"):
            return words
        for result in self.evaluated["seeds"].values():
            tested = {name: network["arch"] for name, network in result.get("guides", {}).items()}
            file = self.results / "eval" / f"{self.name}.json"
            if tested and (words := difference({"guides": guides}, {"guides": tested}, file)):
                return words
        return None

    def has(self, seed: int) -> bool:
        """Return whether a seed was evaluated, or diverged."""
        return any(str(seed) in self.evaluated[part] for part in ("seeds", "diverged"))

    def mismatch(self, seed: int) -> str | None:
        """Return in words why the files of an evaluated seed do not belong together, or None if they do."""
        result, rows = self.evaluated["seeds"].get(str(seed)), self.history.filter(pl.col("seed") == seed)
        trained = str(seed) in self.cost["seeds"]
        if result is None:
            return "it diverged in an earlier training than its cost is of" if trained else None
        if not trained:
            return f"it is not in {self.results / 'cost' / f'{self.name}.json'}"
        if rows.is_empty():
            return f"it is not in {self.results / 'train' / self.name / HISTORY}"
        if all(same_training(rows, name, network["validation"]) for name, network in result["networks"].items()):
            return None
        return "its test results are of another training than its history"


def read_finished(name: str, results: Path) -> Finished | None:
    """Return the results of a method, or None if it is not trained or not evaluated.

    Args:
        name: The method's key in `methods` of params.yaml.
        results: The folder results/.

    Raises:
        DataError: If a file is damaged, or if the history is missing.
    """
    evaluation, cost = (results / folder / f"{name}.json" for folder in ("eval", "cost"))
    if not (evaluation.is_file() and cost.is_file()):  # a fresh clone has the evaluations of the committed run alone
        return None
    evaluated, costs = read_evaluation(evaluation), read_cost(cost)
    return Finished(name, results, evaluated, costs, read_rows(train_file(results, name, costs, HISTORY)))


def same_training(rows: pl.DataFrame, name: str, validation: Mapping[str, Any] | None) -> bool:
    """Return whether a network may be of the training that a history is of, by its validation accuracy.

    Args:
        rows: The history of the seed.
        name: The network.
        validation: The validation accuracy of its last and best weights in results/eval; None if it has none.
    """
    own = rows.filter((pl.col("network") == name) & (pl.col("term") == TOP1)).sort("leg", "epoch")
    if validation is None or own.is_empty():
        return True
    top1 = own.filter(pl.col("leg") == own["leg"][-1])["value"].to_list()  # a leg starts anew with its best weights
    pairs = ((validation["last"], top1[-1]), (validation["best"], max(top1)))
    return all(isclose(tested, trained, abs_tol=TOLERANCE) for tested, trained in pairs)


def difference(here: Mapping[str, Any], there: Mapping[str, Any], where: Path, but: Collection[str] = ()) -> str | None:
    """Return the first key whose values differ, in words, or None if all are the same.

    Args:
        here: Sections of params.yaml.
        there: The same sections, as another file has them.
        where: The other file.
        but: Dotted keys that may differ.
    """
    new, old = dict(leaves(here)), dict(leaves(there))
    for key in {**old, **new}:
        ours, its = (str(values.get(key, "absent")) for values in (new, old))
        if ours != its and key not in but:
            return f"{key} is {ours} in params.yaml, and {its} in {where}"
    return None


def leaves(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested sections by dotted key."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value

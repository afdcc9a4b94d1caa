"""A study: results that Git keeps, seed by seed, so that tables and figures can be made again without any training.

A study is a folder with params.yaml and results/, from which `python -m stages.report --study STUDY` makes tables and
page. Its seeds may come from several machines and sittings.
"""

from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import DataError
from pipeline.evaluation.page.history import read_rows
from pipeline.evaluation.records import read_cost, read_evaluation
from pipeline.storage.atomic import replace_file
from pipeline.storage.documents import write_json
from pipeline.storage.folders import file_digest

HISTORY = "history.csv"


def add_results(name: str, seeds: list[int], results: Path, study: Path) -> list[int]:
    """Add the seeds of one method to a study. Seeds that it has stay as they are.

    The study keeps test results, costs and histories. It does not keep predictions, weights and example images, so its
    page lacks the figures that need them.

    Args:
        name: The method's key in `methods` of params.yaml.
        seeds: The seeds to add, if results has them.
        results: The folder results/ that they are read from.
        study: The folder results/ of the study.

    Returns:
        The seeds that were added, which is none if results has nothing of the method.

    Raises:
        DataError: If a file is damaged, or if the study has the method with other parameters, classes, test images or
            networks.
    """
    files = [folder / "eval" / f"{name}.json" for folder in (results, study)]
    cost = results / "cost" / f"{name}.json"
    if not (files[0].is_file() and cost.is_file()):  # a fresh clone has the evaluations of the committed run alone
        return []
    new, new_cost = read_evaluation(files[0]), read_cost(cost)
    rows = read_rows(results / "train" / name / HISTORY)
    old, old_cost = None, None
    if files[1].is_file():
        old, old_cost = read_evaluation(files[1]), read_cost(study / "cost" / f"{name}.json")
        check_same(files[1], described(old, old_cost), described(new, new_cost))
    known = {int(seed) for part in ("seeds", "diverged") for seed in (old or {}).get(part, {})}
    added = [s for s in seeds if s not in known and any(str(s) in new[part] for part in ("seeds", "diverged"))]
    if not added:
        return []
    for content, before in ((new, old), (new_cost, old_cost)):
        for part in ("seeds", "diverged"):
            if part in content:
                kept = {seed: value for seed, value in content[part].items() if int(seed) in added}
                content[part] = in_order({**(before or {}).get(part, {}), **kept})
    history = study / "train" / name / HISTORY
    of_added = pl.col("seed").is_in(added)  # a collection that was killed may have left their rows
    tables = [rows.filter(of_added), *([read_rows(history).filter(~of_added)] if old else [])]
    history.parent.mkdir(parents=True, exist_ok=True)
    replace_file(history, [pl.concat(tables).sort("seed", maintain_order=True).write_csv().encode()])
    for folder in ("cost", "eval"):
        (study / folder).mkdir(exist_ok=True)
    write_json(study / "cost" / f"{name}.json", {**new_cost, "sha256": {HISTORY: file_digest(history)}})
    write_json(files[1], new if new["diverged"] else {k: v for k, v in new.items() if k != "diverged"}, indent=1)
    return added


def collected(methods: dict[str, Any], seeds: list[int], study: Path) -> tuple[dict[str, Any], list[int]]:
    """The methods that a study has, and the seeds that all of them have: an unfinished study is reported, too.

    Args:
        methods: The entries of `methods` in params.yaml. One that is left out is no control of another.
        seeds: Those of params.yaml.
        study: The folder results/ of the study.

    Raises:
        DataError: If the study has no method, if no seed is in all of them, or if a file is damaged.
    """
    found = {name: study / "eval" / f"{name}.json" for name in methods}
    read = {name: read_evaluation(file) for name, file in found.items() if file.is_file()}
    common = [s for s in seeds if all(str(s) in new["seeds"] or str(s) in new["diverged"] for new in read.values())]
    if not read or not common:
        raise DataError(f"{study} has no seed of all its methods: add results by `python -m stages.collect`")
    kept = {name: [control for control in methods[name].controls if control in read] for name in read}
    entries = {name: methods[name].model_copy(update={"against": kept[name] or None}) for name in read}
    return entries, common


def described(evaluated: dict[str, Any], cost: dict[str, Any]) -> dict[str, Any]:
    """What all seeds of a method have in common."""
    common = {key: evaluated[key] for key in ("is", "student", "members", "classes", "n_images")}
    parameters = {key: value for key, value in cost["parameters"].items() if key != "seeds"}
    return {**common, **{f"parameter {key}": value for key, value in parameters.items()}}


def check_same(file: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise DataError if what all seeds have in common differs."""
    different = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if different:
        raise DataError(f"{file} has seeds of another {different[0]}: remove the method there, or train as it did")


def in_order(seeds: dict[str, Any]) -> dict[str, Any]:
    """The seeds in increasing order."""
    return {seed: seeds[seed] for seed in sorted(seeds, key=int)}

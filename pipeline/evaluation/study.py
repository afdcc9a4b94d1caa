"""A study: results that Git keeps, seed by seed, so that tables and figures can be made again without any training.

A study is a folder with params.yaml and results/, from which `python -m stages.report --study STUDY` makes tables and
page. Its seeds may come from several machines and sittings.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import DataError
from pipeline.evaluation import coincidence
from pipeline.evaluation.finished import HISTORY, read_finished
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.page.history import read_rows
from pipeline.evaluation.records import read_cost, read_evaluation
from pipeline.evaluation.trials import read_trials
from pipeline.storage.atomic import replace_file
from pipeline.storage.documents import read_bytes, write_json
from pipeline.storage.folders import file_digest


def add_results(
    name: str,
    seeds: list[int],
    results: Path,
    study: Path,
    *,
    recipe: tuple[dict[str, Any], dict[str, str]] | None = None,
    log: Callable[[str], object] = print,
) -> list[int]:
    """Add the seeds of one method to a study. Seeds that it has stay as they are.

    What does not belong together, or to params.yaml, is left out with one line that says why.

    The study keeps test results, costs and histories. It does not keep predictions, weights and example images, so its
    page lacks the figures that need them. Of several machines, the first one's latencies and versions are kept.

    Args:
        name: The method's key in `methods` of params.yaml.
        seeds: The seeds to add, if results has them.
        results: The folder results/ that they are read from.
        study: The folder results/ of the study.
        recipe: The parameters and the guides that the results must have (see Finished.other_recipe), or None for any.
        log: Takes the lines about what is left out.

    Returns:
        The seeds that were added, which is none if results has nothing of the method.

    Raises:
        DataError: If a file is damaged, or if the study has the method with other parameters, classes, test images or
            networks.
    """
    new = read_finished(name, results)
    if new is None:
        return []
    if recipe and (words := new.other_recipe(*recipe)):
        log(f"left out: {name}, whose results are of another recipe: {words}")
        return []
    file, old, old_cost = study / "eval" / f"{name}.json", None, None
    if file.is_file():
        old, old_cost = read_evaluation(file), read_cost(study / "cost" / f"{name}.json")
        check_same(file, described(old, old_cost), described(new.evaluated, new.cost))
    known = {int(seed) for part in ("seeds", "diverged") for seed in (old or {}).get(part, {})}
    added = []
    for seed in (seed for seed in seeds if new.has(seed) and seed not in known):
        if words := new.mismatch(seed):
            log(f"left out: {name} seed {seed}: {words}; run `dvc repro evaluate@{name}`")
        else:
            added.append(seed)
    if not added:
        return []
    evaluated, costs = with_seeds(old, new.evaluated, added), with_seeds(old_cost, new.cost, added)
    history = study / "train" / name / HISTORY
    of_added = pl.col("seed").is_in(added)  # a collection that was killed may have left their rows
    tables = [new.history.filter(of_added), *([read_rows(history).filter(~of_added)] if old else [])]
    history.parent.mkdir(parents=True, exist_ok=True)
    replace_file(history, [pl.concat(tables).sort("seed", maintain_order=True).write_csv().encode()])
    for folder in ("cost", "eval"):
        (study / folder).mkdir(exist_ok=True)
    write_json(study / "cost" / f"{name}.json", {**costs, "sha256": {HISTORY: file_digest(history)}})
    write_json(file, {k: v for k, v in evaluated.items() if v or k != "diverged"}, indent=1)
    return added


def add_coincidence(methods: Mapping[str, Any], seeds: list[int], results: Path, study: Path) -> None:
    """Add to a study what a student of plain cross-entropy repeats of the teachers' errors (`Outcome.by_scratch`).

    A share is measured on predictions, which the study does not keep. It is added for a seed if `results` has the
    predictions, and the study has that seed of the method and of plain cross-entropy as `results` has them.

    Args:
        methods: `methods` of params.yaml.
        seeds: The seeds to add.
        results: The folder results/ that they are read from.
        study: The folder results/ of the study.

    Raises:
        DataError: If a file is damaged.
    """
    scratch = next((name for name, entry in methods.items() if entry.is_ == "scratch" and not entry.control), None)
    shares: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        present = {name: entry for name, entry in methods.items() if same_seed(name, seed, results, study)}
        if scratch not in present:
            continue
        found = {o.name: o for o in outcomes(present, [seed], results)}
        for name, o in found.items():
            for share in o.by_scratch.values():
                of = coincidence.digest(o.seeds[seed], found[scratch].seeds[seed])
                shares.setdefault(name, {})[str(seed)] = {"share": share, "of": of}
    coincidence.write_shares(study / coincidence.FILE, shares)


def add_trials(table: Path, study: Path) -> bool:
    """Add a table of trials to a study, unless the study has other trials, or more of them.

    Args:
        table: results/tune/METHOD.csv.
        study: The folder results/ of the study.

    Returns:
        Whether the study now has the table. It keeps its own if the first rows of the table are others.

    Raises:
        DataError: If one of the tables is damaged.
    """
    kept, new = study / "tune" / table.name, read_trials(table)
    if kept.is_file() and (old := read_trials(kept)) != new[: len(old)]:
        return False
    kept.parent.mkdir(parents=True, exist_ok=True)
    replace_file(kept, [read_bytes(table)])
    return True


def same_seed(name: str, seed: int, results: Path, study: Path) -> bool:
    """Whether a seed of a method ended in `results`, has cost and predictions there, and is the same in the study."""
    files = [folder / "eval" / f"{name}.json" for folder in (results, study)]
    needed = [*files, results / "cost" / f"{name}.json", coincidence.answers_file(results, name)]
    if not all(file.is_file() for file in needed):
        return False
    here, there = (read_evaluation(file)["seeds"].get(str(seed)) for file in files)
    return here is not None and here == there and str(seed) in read_cost(needed[2])["seeds"]


def with_seeds(old: dict[str, Any] | None, new: dict[str, Any], added: list[int]) -> dict[str, Any]:
    """A document of a study with the seeds in `added` of a new one.

    Everything else is of the old one, unless it has no seed that ended.
    """
    seeds = {}
    for part in ("seeds", "diverged"):
        if part in new:
            of_added = {seed: value for seed, value in new[part].items() if int(seed) in added}
            seeds[part] = in_order({**(old or {}).get(part, {}), **of_added})
    return {**(old if old and old["seeds"] else new), **seeds}


def collected(
    methods: dict[str, Any], seeds: list[int], reference: str, study: Path
) -> tuple[dict[str, Any], list[int], dict[str, list[int]]]:
    """What can be compared in an unfinished study: seeds that most methods have, and the methods with all of these.

    Args:
        methods: The entries of `methods` in params.yaml. One that is left out is no control of another.
        seeds: Those of params.yaml.
        reference: The method that the others are compared with. If the study has it, it is compared.
        study: The folder results/ of the study.

    Returns:
        The methods, the seeds, and the methods that lack some of these, with the seeds that they have (none without
        results).

    Raises:
        DataError: If no seed is in most methods of the study, or if a file is damaged.
    """
    files = {name: study / "eval" / f"{name}.json" for name in methods}
    read = {name: read_evaluation(file) for name, file in files.items() if file.is_file()}
    ended = {name: new["seeds"].keys() | new["diverged"].keys() for name, new in read.items()}
    have = {name: [seed for seed in seeds if str(seed) in of_method] for name, of_method in ended.items()}
    chosen: list[int] = []
    compared: list[str] = []
    for seed in have.get(reference, seeds):
        with_it = [name for name in compared or have if seed in have[name]]
        if 2 * len(with_it) > len(have):
            chosen, compared = [*chosen, seed], with_it
    if not chosen:
        raise DataError(f"{study} has no seed of most of its methods: add results by `python -m stages.collect`")
    controls = {name: [control for control in methods[name].controls if control in compared] for name in compared}
    entries = {name: methods[name].model_copy(update={"against": controls[name] or None}) for name in compared}
    return entries, chosen, {name: have.get(name, []) for name in methods if name not in compared}


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

"""Add the results of this project to a study, which Git keeps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.command import command

SECTIONS = ("data", "train", "teacher", "assistants", "student")  # that all networks of a study have in common
ELSEWHERE = ("data.root",)  # differs between machines that have the same data


def main(
    study: Annotated[Path, typer.Argument(help="Folder of the study, e.g. studies/cifar100.")],
) -> None:
    """Add the seeds of params.yaml to STUDY/results, for every method that is evaluated.

    params.yaml must have the data, recipe and networks of STUDY/params.yaml, whose seeds would else not be comparable.
    Only data.root may differ.

    Methods that have no results yet are skipped, and seeds that the study has stay as they are, so that the command
    may be run as often as methods end. A line names what is left out: seeds whose cost, history and test results do not
    belong together, and tables of trials on other data than data/prepared. Reads results/eval,
    results/cost, results/train, results/predictions, results/tune and data/prepared.
    """
    import shutil

    from pipeline.data.prepared import Prepared
    from pipeline.errors import DataError
    from pipeline.evaluation.study import add_coincidence, add_results
    from pipeline.evaluation.trials import data_digest, read_trials
    from pipeline.params.load import load

    if not (study / "params.yaml").is_file():
        raise DataError(f"{study} is not a study: {study / 'params.yaml'} is missing")
    check_same_study(load(*SECTIONS).plain(), load(*SECTIONS, file=study / "params.yaml").plain(), study)
    p = load("methods", "seeds")
    tables = [file for name in p["methods"] if (file := Path("results/tune", f"{name}.csv")).is_file()]
    trials = {table: read_trials(table) for table in tables}
    data = data_digest(Prepared.read(Path("data/prepared"))) if tables else None
    total = 0
    for name in p["methods"]:
        for seed in add_results(name, p["seeds"], Path("results"), study / "results"):
            print(f"added: {name} seed {seed}")
            total += 1
    add_coincidence(p["methods"], p["seeds"], Path("results"), study / "results")
    for table in tables:
        if any(row.data != data for row in trials[table]):
            print(f"left out: {table}, whose trials are of other data")
            continue
        (study / "results/tune").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table, study / "results/tune" / table.name)
    print(f"{study}: {total} seed{'' if total == 1 else 's'} added")


def check_same_study(here: dict[str, Any], there: dict[str, Any], study: Path) -> None:
    """Raise DataError, which names the first key that differs, unless a study has these data, recipe and networks.

    here, there: SECTIONS of params.yaml and of STUDY/params.yaml.
    """
    from pipeline.errors import DataError
    from pipeline.params.messages import one_line

    old, new = dict(leaves(there)), dict(leaves(here))
    for key in {**old, **new}:
        ours, its = (str(values.get(key, "absent")) for values in (new, old))
        if ours != its and key not in ELSEWHERE:
            words = f"{key} is {ours} in params.yaml, and {its} in {study / 'params.yaml'}"
            raise DataError(one_line(f"a study has one recipe, one chain and the same data for all seeds: {words}"))


def leaves(section: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested sections by dotted key."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


if __name__ == "__main__":
    command(main)

"""Add the results of this project to a study, which Git keeps."""

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
    may be run as often as methods end. A line names what is left out: methods whose results are of another recipe than
    params.yaml, because they have not run again since it was edited; seeds whose cost, history and test results do not
    belong together; and tables of trials on other data than data/prepared, or that do not begin with the trials that
    the study has. Reads results/eval, results/cost, results/train, results/predictions, results/tune and data/prepared.
    """
    from pipeline.data.prepared import Prepared
    from pipeline.errors import DataError
    from pipeline.evaluation.study import add_coincidence, add_results, add_trials
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
        recipe = recipe_of(name)
        for seed in add_results(name, p["seeds"], Path("results"), study / "results", recipe=recipe, log=say):
            print(f"added: {name} seed {seed}")
            total += 1
    add_coincidence(p["methods"], p["seeds"], Path("results"), study / "results")
    for table in tables:
        if any(row.data != data for row in trials[table]):
            print(f"left out: {table}, whose trials are of other data")
            continue
        if not add_trials(table, study / "results"):
            print(f"left out: {table}, which does not begin with the trials in {study / 'results/tune' / table.name}")
    print(f"{study}: {total} seed{'' if total == 1 else 's'} added")


def check_same_study(here: dict[str, Any], there: dict[str, Any], study: Path) -> None:
    """Raise DataError, which names the first key that differs, unless a study has these data, recipe and networks.

    here, there: SECTIONS of params.yaml and of STUDY/params.yaml.
    """
    from pipeline.errors import DataError
    from pipeline.evaluation.finished import difference
    from pipeline.params.messages import one_line

    if words := difference(here, there, study / "params.yaml", but=ELSEWHERE):
        raise DataError(one_line(f"a study has one recipe, one chain and the same data for all seeds: {words}"))


def recipe_of(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What params.yaml says of a method: the parameters of its stage `distill`, and the architectures of its guides."""
    from pipeline.params.load import load
    from pipeline.params.rules import MEMBERS, NOTHING, assistants_of

    own = load("train", "student.arch", f"methods.{name}.is", f"methods.{name}.after", name)
    after, p = own[f"methods.{name}.after"], load("teacher", "assistants", "student")
    guides = {} if after in (NOTHING, MEMBERS) else {"teacher": p["teacher"].arch, **assistants_of(after, p.values)}
    return own.plain(), guides


def say(line: str) -> None:
    """Print a message that may hold text from a file."""
    from pipeline.params.messages import one_line

    print(one_line(line))


if __name__ == "__main__":
    command(main)

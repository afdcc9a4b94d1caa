"""Run the study: for each dataset and level of noise, tune the methods, train all seeds, and keep the results.

Each cell is one run of the pipeline. A cell that is finished is not run again, and one that was stopped goes on where
it was, because DVC, the checkpoint store and the search resume.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import ParamsError, UserError
from pipeline.params.yaml_file import read as read_yaml
from stages.command import command

HERE = Path(__file__).parent
PARAMS = Path("params.yaml")
SUMMARY = "summary.json"
KEYS = ("noise", "seeds", "methods", "datasets")  # of study.yaml
CHAINS = ("takd", "dgkd")
STAGE_OF = {  # the stage that writes the networks that a method starts from
    "data/prepared/classes.txt": "prepare",
    "models/teacher": "pretrain",
    "models/group": "group",
    "models/members": "members",
    **{f"models/{chain}/teacher": "pretrain" for chain in CHAINS},
}


@dataclass(frozen=True)
class Cell:
    """One dataset at one level of noise.

    name: of its folder of results, DATASET-NOISE.  overrides: what `dvc exp run -S` sets.
    """

    name: str
    overrides: tuple[str, ...]


def read_study(file: Path) -> dict[str, Any]:
    """The content of study.yaml. Raises ParamsError, which names the key, if it does not describe a study."""
    study = read_yaml(file)
    levels, seeds, methods, datasets = (study.get(key) for key in KEYS)
    for key, is_valid, expected in (
        ("noise", is_list(levels, str | float | int), "a list of values of data.label_noise"),
        ("seeds", is_list(seeds, int), "a list of seeds"),
        ("methods", is_list(methods, str), "a list of entries of methods"),
        ("datasets", isinstance(datasets, dict) and datasets, "a mapping of datasets to what -S sets"),
    ):
        if not is_valid:
            raise ParamsError(f"{file}: {key}: must be {expected}")
    for name, overrides in study["datasets"].items():
        if overrides != [] and not is_list(overrides, str):
            raise ParamsError(f"{file}: datasets.{name}: must be a list of KEY=VALUE")
    if unknown := [key for key in study if key not in KEYS]:
        raise ParamsError(f"{file}: {unknown[0]}: unknown key; the keys are {', '.join(KEYS)}")
    return study


def is_list(value: Any, types: Any) -> bool:
    """Whether a value is a list of these types, not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, types) for item in value)


def committed_params() -> bytes:
    """The committed params.yaml. Raises UserError outside a Git work tree that has one."""
    done = subprocess.run(["git", "show", f"HEAD:{PARAMS}"], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").partition("\n")[0]
        raise UserError(f"git has no committed {PARAMS} here ({reason}): run the study in a clone of the project")
    return done.stdout


def cells_of(study: dict[str, Any], roots: dict[str, str], all_methods: list[str]) -> list[Cell]:
    """The cells of a study.

    study: the content of study.yaml.  roots: data.root by dataset.  all_methods: those of params.yaml.
    Raises ParamsError if a dataset or a method does not exist.
    """
    if unknown := [*(roots.keys() - study["datasets"].keys()), *(set(study["methods"]) - set(all_methods))]:
        raise ParamsError(f"the study has no dataset, or params.yaml no method, of the name {unknown[0]!r}")
    left_out = tuple(f"~methods.{name}" for name in all_methods if name not in study["methods"])
    seeds = f"seeds=[{','.join(map(str, study['seeds']))}]"
    cells = []
    for dataset, overrides in study["datasets"].items():
        root = (f"data.root={roots[dataset]}",) if dataset in roots else ()
        for noise in study["noise"]:
            given = (*overrides, *root, f"data.label_noise={noise}", seeds, *left_out)
            cells.append(Cell(f"{dataset}-{noise}", given))
    return cells


def networks_of(methods: dict[str, Any]) -> list[str]:
    """The stages that the search of these entries of `methods` needs."""
    return sorted({stage_of(entry["after"]) for entry in methods.values()})


def stage_of(start: str) -> str:
    """The stage that writes the networks that a method starts from, e.g. chain@takd or assist-takd@ta1."""
    _, chain, *_ = path = Path(start).parts
    return STAGE_OF.get(start) or (f"assist-{chain}@{path[-1]}" if chain in CHAINS else f"chain@{path[-1]}")


def call(*arguments: str) -> None:
    """Run a command, whose output is shown. Raises UserError if it fails."""
    print("$", " ".join(["python", *arguments]), flush=True)
    if subprocess.run([sys.executable, *arguments], check=False).returncode:
        raise UserError(f"python {' '.join(arguments)} failed; run the study again once that is mended")


def run_cell(cell: Cell, folder: Path, jobs: int) -> None:
    """Run one cell in this working tree, whose params.yaml it replaces.

    folder: gets params.yaml after the search, tune/METHOD.csv, and at the end summary.json.
    """
    tuned = folder / PARAMS.name
    if tuned.exists():
        shutil.copyfile(tuned, PARAMS)
    else:
        PARAMS.write_bytes(committed_params())
        call("-m", "dvc", "exp", "run", "check", *(part for o in cell.overrides for part in ("-S", o)))
        call("-m", "dvc", "repro", *networks_of(read_yaml(PARAMS)["methods"]))
        call("-m", "stages.tune", "all", "--write", *(["--jobs", str(jobs)] if jobs > 1 else []))
        (folder / "tune").mkdir(parents=True, exist_ok=True)
        for name in read_yaml(PARAMS)["methods"]:
            if (table := Path(f"results/tune/{name}.csv")).is_file():  # a method may have nothing to search
                shutil.copyfile(table, folder / "tune" / table.name)
        shutil.copyfile(PARAMS, tuned.with_suffix(".partial"))
        tuned.with_suffix(".partial").replace(tuned)
    if jobs > 1:
        call("-m", "stages.parallel", "report", "--jobs", str(jobs))
    else:
        call("-m", "dvc", "repro", "report")
    shutil.copyfile(f"results/{SUMMARY}", folder / f"{SUMMARY}.partial")
    (folder / f"{SUMMARY}.partial").replace(folder / SUMMARY)


def main(
    root: Annotated[
        list[str] | None, typer.Option(metavar="DATASET=FOLDER", help="The folder of a dataset, its data.root.")
    ] = None,
    study: Annotated[Path, typer.Option(help="The file that describes the study.")] = HERE / "study.yaml",
    results: Annotated[Path, typer.Option(help="The folder of results.")] = HERE / "results",
    jobs: Annotated[int, typer.Option(help="Trainings at the same time.", min=1)] = 1,
) -> None:
    """Run every cell of the study that has no results yet, one after the other, and restore params.yaml at the end.

    Run it in a clone of its own: it replaces params.yaml and the outputs of the pipeline. If it is killed, the same
    command goes on.
    """
    roots = dict(part.split("=", 1) for part in root or [] if "=" in part)
    if len(roots) < len(root or []):
        raise ParamsError("--root: must be DATASET=FOLDER, once for each dataset")
    described, committed = read_study(study), committed_params()
    PARAMS.write_bytes(committed)
    all_methods = list(read_yaml(PARAMS)["methods"])
    for cell in cells_of(described, roots, all_methods):
        if (results / cell.name / SUMMARY).exists():
            print(f"{cell.name}: has results")
            continue
        print(f"{cell.name}: running")
        run_cell(cell, results / cell.name, jobs)
    PARAMS.write_bytes(committed)
    print("all cells have results; draw them by `python -m studies.false_knowledge.figure`")


if __name__ == "__main__":
    command(main)

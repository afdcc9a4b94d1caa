"""A study of Cooperative with learners of many kinds: `python studies/learners/run.py digits|breast_cancer FOLDER`.

It copies the project into FOLDER, writes its params.yaml, trains and evaluates the members and every pool, and prints
Markdown: accuracy before, with each pool, and trained on all data; the matrix |R(i to j)|; and how often the search
reached its target, and how far it moved the images of each kind. `--seeds N` and `--epochs N` shorten it. FOLDER may be
that of an earlier run, which is replaced, but not a project with a params.yaml of its own.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
MARK = "# Written by studies/learners/run.py, which replaces it.\n"  # the first line of params.yaml in FOLDER
POOLS = {
    "cooperative": "counterfactual",
    "cooperative_raw": "raw",
    "cooperative_random": "random",
    "cooperative_none": "none",
}
FOREST = {"arch": "sklearn/RandomForestClassifier", "options": {"n_estimators": 100}}
BOOSTED = {"arch": "sklearn/HistGradientBoostingClassifier", "options": {"max_iter": 50}}
SVM = {"arch": "sklearn/SVC", "options": {"probability": True}}
GROUPS = {
    "digits": {
        "forest": FOREST,
        "boosted": BOOSTED,
        "svm": SVM,
        "mlp": {"arch": "mlp_64_64"},
        "net_a": {"arch": "tiny_plain2_32"},
        "net_b": {"arch": "tiny_plain2_16"},
    },
    "breast_cancer": {
        "forest": {**FOREST, "lacks": [], "keeps": "1/4"},
        "boosted": {**BOOSTED, "lacks": [], "keeps": "2/4"},
        "svm": {**SVM, "lacks": [], "keeps": "3/4"},
        "mlp": {"arch": "mlp_64_64", "lacks": [], "keeps": "4/4"},
    },
}


def is_free(folder: Path) -> bool:
    """Whether a folder has no params.yaml but one that this command has written."""
    file = folder / "params.yaml"
    return not file.exists() or (file.is_file() and file.read_bytes().startswith(MARK.encode()))


def count(text: str) -> int:
    """A number of at least 1 on the command line. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def copy_project(folder: Path) -> None:
    """Copy the project's files without its params.yaml and its results."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True)
    if listed.returncode:
        sys.exit(f"error: git lists no files in {ROOT}: run the study in a clone of the project")
    for name in filter(None, listed.stdout.split("\0")):
        if name.split("/")[0] in ("pipeline", "stages", "data", "dvc.yaml") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())


def write_params(folder: Path, data: str, seeds: int, epochs: int) -> list[str]:
    """Write params.yaml, from that of the project. Returns the entries of methods that train a group."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["seeds"] = list(range(seeds))
    params["train"]["epochs"] = epochs
    params["data"]["source"] = data
    if data != "digits":
        params["train"]["lr"] = 0.02  # the networks have no BatchNorm
        for network in (params["teacher"], params["student"], *params["assistants"].values()):
            network["arch"] = "mlp_64_64"
    group = {name: {"lacks": "auto", "keeps": 1.0, **member} for name, member in GROUPS[data].items()}
    params["cooperative"]["members"] = group
    for name, pool in POOLS.items():
        if name not in params["methods"]:
            params["methods"][name] = {"is": "cooperative", "after": "models/members", "control": True}
            params[name] = {k: v for k, v in params["cooperative"].items() if k != "members"}
        params[name]["pool"] = pool
        if data == "breast_cancer":  # every member knows both classes
            params[name]["expertise"] = "instance"
    with (folder / "params.yaml").open("w") as file:
        file.write(MARK)
        yaml.dump(params, file)
    return list(POOLS)


def stage(folder: Path, *arguments: str) -> None:
    """Run one stage. Exits with one line if it fails, below its own."""
    command = [sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:]]
    if subprocess.run(command, cwd=folder, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode:
        sys.exit(f"error: `python {' '.join(command[1:])}` failed in {folder}")


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def report(folder: Path, methods: list[str]) -> str:
    """The tables of the study as Markdown."""
    evaluated = {m: json.loads((folder / "results/eval" / f"{m}.json").read_text()) for m in methods}
    members = evaluated["cooperative"]["members"]

    def top1(method: str, part: str, member: str) -> list[float]:
        return [seed[part][member]["last"]["top1"] for seed in evaluated[method]["seeds"].values()]

    columns = [("before", "cooperative", "before"), *((POOLS[m], m, "networks") for m in methods)]
    columns.append(("all data", "cooperative", "all_data"))
    lines = ["| member | " + " | ".join(name for name, *_ in columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {j} | " + " | ".join(spread(top1(m, part, j)) for _, m, part in columns) + " |" for j in members]
    group = [[mean(v) for v in zip(*(top1(m, part, j) for j in members))] for _, m, part in columns]
    lines.append("| mean | " + " | ".join(spread(values) for values in group) + " |")

    notes: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (folder / "results/train/cooperative/history.csv").open() as rows:
        for row in csv.DictReader(rows):
            if row["epoch"] == "0":
                notes[row["network"], row["term"]].append(float(row["value"]))
    lines += ["", "| taught, by teacher | " + " | ".join(members) + " |", "|---|" + "---:|" * len(members)]
    for j in members:
        sizes = (notes.get((j, f"qualified/{i}"), []) for i in members)
        lines.append(f"| {j} | " + " | ".join(f"{mean(v):.0f}" if v else "" for v in sizes) + " |")
    terms = ("taught", "success", "distance", "p_y/before", "p_y/after")
    lines += ["", "| taught | " + " | ".join(terms) + " |", "|---|" + "---:|" * len(terms)]
    for j in members:
        lines.append(f"| {j} | " + " | ".join(f"{mean(notes.get((j, t), [0.0])):.3f}" for t in terms) + " |")
    lines += ["", "| searched by evolution on | success | distance |", "|---|---:|---:|"]
    for i in members:
        found = [[v for j in members for v in notes.get((j, f"{term}/{i}"), [])] for term in ("success", "distance")]
        if found[0]:
            lines.append(f"| {i} | {mean(found[0]):.3f} | {mean(found[1]):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=GROUPS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=count, default=5)
    parser.add_argument("--epochs", type=count, default=40)
    arguments = parser.parse_args()
    if not is_free(arguments.folder):
        parser.error(f"{arguments.folder} has a params.yaml that this command has not written: name another folder")
    copy_project(arguments.folder)
    methods = write_params(arguments.folder, arguments.data, arguments.seeds, arguments.epochs)
    for name in ("check", "prepare", "members"):
        stage(arguments.folder, name)
    for name in methods:
        stage(arguments.folder, "distill", name)
        stage(arguments.folder, "evaluate", name)
    print(report(arguments.folder, methods))


if __name__ == "__main__":
    main()

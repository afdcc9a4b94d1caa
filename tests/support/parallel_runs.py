"""What `stages.parallel` must leave as `dvc repro` leaves it."""

import sys

from ruamel.yaml import YAML

COMMAND = [sys.executable, "-u", "-m", "stages.parallel"]


def results(project) -> dict[str, bytes]:
    """The weights, histories and metrics of a project; costs are times and differ."""
    names = [*project.folder.glob("models/**/*.safetensors"), *project.folder.glob("results/train/*/history.csv")]
    names += [*project.folder.glob("results/eval/*.json"), *project.folder.glob("results/predictions/*.parquet")]
    return {file.relative_to(project.folder).as_posix(): file.read_bytes() for file in sorted(names)}


TIMED = ("results/cost", "results/table.md", "results/report.html", "models/export")  # hold times, which differ


def locked(project) -> dict:
    """dvc.lock without the digests of what holds times."""
    stages = YAML(typ="safe", pure=True).load((project.folder / "dvc.lock").read_text())["stages"]
    for stage in stages.values():
        for out in (*stage.get("outs", []), *stage.get("deps", [])):
            if out["path"].startswith(TIMED):
                out.update(md5=None, size=None)
    return stages

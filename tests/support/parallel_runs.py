"""What `stages.parallel` must leave as `dvc repro` leaves it."""

import sys

from ruamel.yaml import YAML

COMMAND = [sys.executable, "-u", "-m", "stages.parallel"]


TRAINED = ("models/**/*.safetensors", "results/train/*/history.csv")
EVALUATED = ("results/eval/*.json", "results/predictions/*.parquet")


def results(project, evaluated: bool = True) -> dict[str, bytes]:
    """The weights, histories and, unless evaluated is False, metrics of a project; costs are times and differ."""
    patterns = (*TRAINED, *EVALUATED) if evaluated else TRAINED
    files = sorted(file for pattern in patterns for file in project.folder.glob(pattern))
    return {file.relative_to(project.folder).as_posix(): file.read_bytes() for file in files}


TIMED = ("results/cost", "results/table.md", "results/report.html", "models/export")  # hold times, which differ


def locked(project) -> dict:
    """dvc.lock without the digests of what holds times."""
    stages = YAML(typ="safe", pure=True).load((project.folder / "dvc.lock").read_text())["stages"]
    for stage in stages.values():
        for out in (*stage.get("outs", []), *stage.get("deps", [])):
            if out["path"].startswith(TIMED):
                out.update(md5=None, size=None)
    return stages

"""Gather what several methods start from: a whole chain, or the teacher and the architectures of a group."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    what: Annotated[str, typer.Argument(help="takd, dgkd: that chain up to LAST; group: teacher and architectures.")],
    last: Annotated[str, typer.Argument(help="The chain's last network: student.after.")] = "teacher",
) -> None:
    """Write models/cast/WHAT: the networks that methods start from, in one place that no chain's length changes.

    A chain's bundle is copied as it is. A group is the teacher with its weights and, for each of `assistants`, its
    architecture without weights: they are trained from scratch by the methods that use them.
    """
    source = Path("models", what, last) if what != "group" else Path("models/teacher")
    target = Path("models/cast", what)
    partial = target.with_name(f".{what}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    if what == "group":
        from pipeline.params.load import load

        p = load("assistants")
        networks = json.loads((partial / "networks.json").read_text())
        networks |= {name: {"arch": assistant.arch} for name, assistant in p["assistants"].items()}
        (partial / "networks.json").write_text(json.dumps(networks, indent=2) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)


if __name__ == "__main__":
    command(main)

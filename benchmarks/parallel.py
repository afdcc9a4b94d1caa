"""How close `stages.parallel` comes to the critical path: independent stages that only sleep, one worker for each.

python -m benchmarks.parallel --stages 8 --seconds 150
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from pipeline.parallel.cluster import connect
from pipeline.parallel.graph import read_graph
from pipeline.parallel.run import GraphRun


def create_project(folder: Path, stages: int, seconds: float) -> None:
    """A DVC project of a first stage, independent stages that sleep, and a last stage."""
    sleep = f"'{sys.executable}' -c 'import time; time.sleep({seconds})'"
    middle = {
        f"sleep-{k}": {"cmd": f"{sleep} && echo {k} > {k}.txt", "deps": ["first.txt"], "outs": [f"{k}.txt"]}
        for k in range(stages)
    }
    graph = {
        "first": {"cmd": "echo first > first.txt", "outs": ["first.txt"]},
        **middle,
        "last": {"cmd": "echo last > last.txt", "deps": [f"{k}.txt" for k in range(stages)], "outs": ["last.txt"]},
    }
    with (folder / "dvc.yaml").open("w") as out:
        YAML().dump({"stages": graph}, out)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)


def main(
    stages: Annotated[int, typer.Option(help="Independent stages, and workers.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="How long each of them sleeps.", min=1)] = 150.0,
) -> None:
    """Run the graph and print its time over that of one sleeping stage, which is the critical path."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create_project(folder, stages, seconds)
        with connect(None, jobs=stages, threads=1, jobs_per_gpu=1, memory_per_job=0.1) as cluster:
            run = GraphRun(
                cluster.client,
                folder,
                read_graph(folder, []),
                libraries=[],
                gpus=[],
                show=lambda progress: None,
            )
            begun = time.perf_counter()
            progress = run.run()
            total = time.perf_counter() - begun
    assert len(progress.done) == stages + 2, progress.failed
    print(f"{stages} stages of {seconds:g} s on {stages} workers: {total:.1f} s, {total / seconds:.3f} of one")


if __name__ == "__main__":
    typer.run(main)

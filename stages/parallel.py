"""Reproduce the pipeline with everything that is independent running at the same time."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    stages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STAGE]...", help="Stages of dvc.yaml, with what they need; without names, all."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Workers on this machine; without it one for each GPU, or for each physical core.", min=1),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Use a Dask cluster that runs already, tcp://HOST:PORT, whose workers see this folder."),
    ] = None,
    jobs_per_gpu: Annotated[int, typer.Option(help="Trainings that share a GPU.", min=1)] = 1,
    memory_per_job: Annotated[
        float | None,
        typer.Option(help="GiB that a training needs; without it, what the first one took.", min=0.01),
    ] = None,
) -> None:
    """Reproduce the pipeline like `dvc repro`, with all that is independent running at the same time.

    Independent stages, and the seeds of a stage, are run by the workers of a Dask cluster; DVC records each stage. The
    result is that of `dvc repro`, bit for bit. A stage that fails stops only those that need it. If this command, or a
    worker, is killed, the same command goes on from the checkpoints. Each stage's output is in runs/parallel.
    """
    from pipeline.errors import ParamsError, UserError
    from pipeline.parallel.cluster import connect, libraries_of
    from pipeline.parallel.graph import read_graph
    from pipeline.parallel.run import GraphRun
    from pipeline.parallel.screen import Screen
    from pipeline.params.load import FILE, runtime, validated
    from pipeline.params.yaml_file import read
    from pipeline.runtime.signals import Interrupted

    values = validated(read(FILE))
    threads = runtime().threads
    if runtime().num_processes > 1:
        raise ParamsError("runtime.num_processes: must be 1 for stages.parallel, which trains each seed in one process")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # dvc.yaml starts `python`
    nodes = read_graph(Path.cwd(), stages or [])
    with connect(
        scheduler, jobs=jobs, threads=threads, jobs_per_gpu=jobs_per_gpu, memory_per_job=memory_per_job
    ) as cluster:
        with Screen(cluster) as screen:
            run = GraphRun(
                cluster.client,
                Path.cwd(),
                nodes,
                libraries=libraries_of(values),
                gpus=cluster.gpus,
                show=screen.show,
            )
            try:
                progress = run.run()
            except KeyboardInterrupt:
                raise Interrupted("stopped: run the same command again to go on from the checkpoints") from None
    screen.summary(progress)
    if progress.failed:
        lines = [f"{name}: {line}" for name, errors in progress.failed.items() for line in errors]
        if progress.skipped:
            lines.append(f"not run, because they need what failed: {', '.join(progress.skipped)}")
        raise UserError("\n".join(lines))


if __name__ == "__main__":
    command(main)

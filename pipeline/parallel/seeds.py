"""Train the seeds of a stage on the workers of a Dask cluster.

`stages.parallel` starts DVC with the cluster's address in the environment. A training stage that finds seeds missing
from the checkpoint store then has the workers train them into the store, instead of training them itself.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError

ADDRESS = "GROUP_DISTILLATION_SCHEDULER"
PRIORITY = "GROUP_DISTILLATION_PRIORITY"
LIBRARIES = "GROUP_DISTILLATION_LIBRARIES"
GPUS = "GROUP_DISTILLATION_GPUS"


def on_cluster() -> bool:
    """Whether this stage is to leave the training of its seeds to a cluster."""
    return ADDRESS in os.environ


def train_on_cluster(command: Sequence[str], label: str, seeds: Sequence[int], threads: int) -> None:
    """Train seeds of a stage into the checkpoint store, each by a worker.

    command: the stage's module and arguments.  label: of the stage.  threads: of a training.
    Raises UserError with the lines of the seeds that failed, once the others have ended.
    """
    from distributed import Client

    from pipeline.parallel import worker

    failed: list[str] = []
    libraries, gpus = os.environ.get(LIBRARIES, "").split(), os.environ.get(GPUS, "").split()
    with Client(os.environ[ADDRESS], set_as_default=False, timeout=60) as client:
        resources = {"GPU": 1.0} if any("GPU" in w["resources"] for w in workers_of(client)) else {}
        futures = {}
        for seed in seeds:
            task = worker.Task(
                f"{label} seed {seed}",
                command[0],
                (*command[1:], "--seed", str(seed)),
                str(Path.cwd()),
                threads,
                tuple(libraries),
                tuple(map(int, gpus)),
            )
            futures[seed] = client.submit(
                worker.by_value(worker.run_task, task),
                key=f"{task.name} {os.getpid()}",
                priority=int(os.environ.get(PRIORITY, "0")),
                resources=resources,
                retries=3,
                pure=False,
            )
        for seed, future in futures.items():
            try:
                ended = future.result()
            except Exception as error:  # Dask hands on what a worker raised, and errors of its own
                failed.append(f"{label} seed {seed}: {error}")
                continue
            if ended[0]:
                failed += ended[1] or [f"{label} seed {seed} ended with status {ended[0]}"]
    if failed:
        raise UserError("\n".join(failed))


def workers_of(client) -> list[dict]:
    """What the scheduler knows of its workers."""
    return list(client.scheduler_info(n_workers=-1)["workers"].values())

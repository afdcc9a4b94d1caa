"""What a Dask worker runs: the training of a seed, or DVC for a stage.

Dask sends these functions by value, so a worker that others have started needs the project's folder and environment,
but not its code on the import path.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import dask.config
from distributed import get_worker

ATTRIBUTE = "group_distillation_server"  # of a worker: its fork server
LOGS = Path("runs/parallel")  # what the commands print
MEMORY = "group-distillation-memory"  # Dask's topic of the peak memory of each training, in MiB
TRIM = "MALLOC_TRIM_THRESHOLD_"  # a variable that Dask sets for its workers
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")  # what DVC says of another process
WAIT = 1.0  # seconds until DVC is asked again


class Task(NamedTuple):
    """A command of a stage, `python -m MODULE ARGUMENTS`, in the folder of a project.

    name: of the task, and of its file in LOGS.  threads: OpenMP threads.  libraries: to import once in a worker.
    gpus: indices of those that the workers share; empty leaves what a worker sees as it is.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    folder: str
    threads: int
    libraries: tuple[str, ...] = ()
    gpus: tuple[int, ...] = ()


class Ended(NamedTuple):
    """How a command ended.  errors: its messages."""

    status: int
    errors: list[str]


def by_value(function: Callable[..., Any], *arguments: Any) -> Callable[[], tuple]:
    """A call of a function of this module for `Client.submit`, which Dask sends with the code of this module."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return lambda: tuple(function(*arguments))  # a lambda, because Dask sends a named function by its name


def run_task(task: Task) -> Ended:
    """Run a command in a fork of this worker's server, which is started when it is first needed."""
    log = Path(task.folder) / LOGS / f"{task.name.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    server = server_of(task)
    request = {"module": task.module, "arguments": task.arguments, "folder": task.folder, "log": str(log)}
    try:
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
    except OSError:
        answer = ""
    if not answer:
        delattr(get_worker(), ATTRIBUTE)
        raise RuntimeError(f"the process that ran {task.name} was killed")  # Dask runs the task again
    ended = json.loads(answer)
    if ended["status"] < 0:
        raise RuntimeError(f"{task.name} was killed by {signal.Signals(-ended['status']).name}")  # Dask runs it again
    get_worker().log_event(MEMORY, ended["mib"])
    return Ended(ended["status"], errors_of(log.read_text(errors="replace")))


def server_of(task: Task) -> Any:
    """The fork server of this worker."""
    worker = get_worker()
    server = getattr(worker, ATTRIBUTE, None)
    if server is None or server.poll() is not None:
        threads = {"OMP_NUM_THREADS": str(task.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        # NVML says whether there is a GPU without initialising CUDA, which a fork could not use any more
        gpu = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        environment = {**own_environment(), **threads, **gpu}
        if task.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(task.gpus[int(worker.name) % len(task.gpus)])
        server = subprocess.Popen(
            [sys.executable, "-m", "pipeline.parallel.fork_server", *task.libraries],
            cwd=task.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        setattr(worker, ATTRIBUTE, server)
    return server


def own_environment() -> dict[str, str]:
    """This process's environment without the threshold by which Dask makes glibc return freed memory to the system.

    A training frees and requests the same memory in every step. With Dask's threshold, page faults took a third of the
    CPU time, and `keep_freed_memory` leaves alone what the environment says. A value of the user's own stays.
    """
    of_dask = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {k: v for k, v in os.environ.items() if k != TRIM or v != str(of_dask.get(TRIM))}


def run_dvc(
    stage: str,
    folder: str,
    environment: dict[str, str] | None = None,
    started: Callable[[subprocess.Popen], object] = lambda process: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Ended:
    """Let DVC run and record a stage, unless it is up to date or in DVC's cache.

    environment: variables besides those of this process.  started: is called with the process.
    stopped: whether not to wait any longer.
    Waits while another process has DVC's lock, or runs the same stage.
    """
    log = Path(folder) / LOGS / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with log.open("w") as out:
            process = subprocess.Popen(
                dvc_command(stage),
                cwd=folder,
                env={**own_environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=environment is not None,
            )
            started(process)
            status = process.wait()
        text = log.read_text(errors="replace")
        if status == 0 or stopped() or not any(words in text for words in BUSY):
            return Ended(status, errors_of(text))
        time.sleep(WAIT)


def dvc_command(stage: str) -> list[str]:
    """The command by which DVC runs and records one stage. It waits while another process has DVC's lock."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]


def errors_of(text: str) -> list[str]:
    """The messages among the lines of an output; DVC's own come last and only if there is no other."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return list(dict.fromkeys(own)) or [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]

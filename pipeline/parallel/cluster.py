"""The cluster of Dask workers: one on this machine, or one that runs already."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ParamsError, UserError, first_line
from pipeline.models.names import ZOO
from pipeline.parallel.worker import MEMORY

LEFT_FREE = 0.1  # of the memory of this machine
FIRST_GIB = 1.0  # assumed of a training until the first one has been measured


@dataclass
class Cluster:
    """A client of a cluster.

    local: the cluster on this machine, if it was started here.  jobs: workers that it may grow to.
    gpus: indices of the GPUs of this machine, each as often as jobs share it.  dashboard: its address.
    measured: whether the memory of a training is known.
    """

    client: Any
    local: Any = None
    jobs: int = 1
    gpus: list[int] = field(default_factory=list)
    dashboard: str | None = None
    measured: bool = False

    def fit(self) -> str | None:
        """Once the first training has ended, have as many workers as fit beside each other; a line if that is fewer."""
        if self.local is None or self.measured:
            return None
        events = self.client.get_events(MEMORY)
        if not events:
            return None
        self.measured = True
        return self.scale(max(mib for _, mib in events) / 1024)

    def scale(self, gib: float) -> str | None:
        """Have as many workers as fit if each takes so many GiB, at least one; a line if that is fewer than `jobs`."""
        running = len(self.client.scheduler_info(n_workers=-1)["workers"])
        workers = min(self.jobs, max(1, count_fitting(gib) + running))  # what is free does not count those that run
        if workers != running:
            self.local.scale(workers)
        return f"{workers} of {self.jobs} jobs fit into memory at {gib:.1f} GiB each" if workers < self.jobs else None


@contextmanager
def connect(
    address: str | None, *, jobs: int | None, threads: int, jobs_per_gpu: int, memory_per_job: float | None
) -> Iterator[Cluster]:
    """A cluster: the one at an address, or workers on this machine, which end with the context.

    jobs: workers; None is one for each GPU, or for each physical core that this process may use.
    threads: of a training, which takes as many cores.  memory_per_job: GiB; fewer workers start if they would not fit.
    Raises UserError if there is no scheduler at the address, or if a worker there has several threads.
    """
    import dask.config
    from distributed import Client, LocalCluster

    quiet = {
        "distributed.logging.distributed": "critical",
        "distributed.comm.timeouts.connect": "10s",
        "distributed.scheduler.allowed-failures": 10,  # a training resumes, so a killed worker costs little
    }
    with dask.config.set(quiet):
        if address is not None:
            try:
                client = Client(address, timeout=10, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise UserError(f"--scheduler: no Dask scheduler answers at {address} ({first_line(error)})") from None
            with client:
                for worker in client.scheduler_info(n_workers=-1)["workers"].values():
                    if worker["nthreads"] != 1:
                        raise UserError(
                            f"--scheduler: the worker {worker['name']} has {worker['nthreads']} threads, but a worker "
                            f"trains one network at a time: start it with --nthreads 1"
                        )
                yield Cluster(client, dashboard=client.dashboard_link)
            return
        gpus = [gpu for gpu in range(count_gpus()) for _ in range(jobs_per_gpu)]
        wanted = jobs or len(gpus) or max(1, physical_cores() // threads)
        fitting = count_fitting(memory_per_job or FIRST_GIB)
        if memory_per_job and not fitting:
            raise ParamsError(f"--memory-per-job: {memory_per_job:g} GiB do not fit into this machine's free memory")
        n_workers = max(1, min(wanted, fitting))
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
        with (
            LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,  # Dask would count only the worker, not its trainings
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            ) as local,
            Client(local, set_as_default=False) as client,
        ):
            yield Cluster(client, local, wanted, gpus, client.dashboard_link, measured=memory_per_job is not None)


def physical_cores() -> int:
    """Physical cores that this process may use."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def count_fitting(gib: float) -> int:
    """How many jobs of so many GiB fit into the memory that is free now."""
    import psutil

    return int(psutil.virtual_memory().available * (1 - LEFT_FREE) / 2**30 / gib)


def count_gpus() -> int:
    """GPUs that this process may use."""
    from pipeline.runtime.launch import may_have_gpu

    if not may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def libraries_of(values: dict[str, Any]) -> list[str]:
    """Libraries that the trainings need besides those of every stage: timm, unless all networks are of the zoo."""
    archs = [values["teacher"].arch, values["student"].arch, *(a.arch for a in values["assistants"].values())]
    for section in values.values():
        members = getattr(section, "members", None)
        if isinstance(members, dict):
            archs += [member.arch for member in members.values()]
    return [] if all(arch in ZOO for arch in archs) else ["timm"]

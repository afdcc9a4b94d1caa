"""Run the graph: every stage as soon as those that it needs are up to date, on the workers of a Dask cluster."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.parallel import worker
from pipeline.parallel.graph import Node
from pipeline.parallel.seeds import ADDRESS, GPUS, LIBRARIES, PRIORITY
from pipeline.parallel.worker import Ended
from pipeline.runtime.signals import SignalHandler

POLL = 0.25  # seconds between two looks at what runs


@dataclass
class Progress:
    """What a screen shows.  running: task -> when it began.  skipped: stages whose dependencies have failed."""

    total: int
    done: list[str] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """An estimate: the remaining stages take as long as the finished ones."""
        if not self.done:
            return None
        left = self.total - len(self.done) - len(self.failed) - len(self.skipped)
        return (time.monotonic() - self.begun) / len(self.done) * left


class GraphRun:
    """One run of the graph.

    client: of Dask.  root: folder of the project.  libraries: that a worker imports once.  gpus: see worker.Task.
    show: is called several times a second.
    """

    def __init__(
        self,
        client: Any,
        root: Path,
        nodes: dict[str, Node],
        *,
        libraries: list[str],
        gpus: list[int],
        show: Callable[[Progress], None],
    ):
        self.client, self.root, self.nodes, self.show = client, root, nodes, show
        self.environment = {
            ADDRESS: client.scheduler.address,
            LIBRARIES: " ".join(libraries),
            GPUS: " ".join(map(str, gpus)),
        }
        self.progress = Progress(len(nodes))
        self.processes: dict[str, subprocess.Popen] = {}
        self.stopping = False

    def run(self) -> Progress:
        """Run all stages. A stage that fails stops those that need it, and nothing else.

        Raises KeyboardInterrupt after Ctrl-C or SIGTERM, when what runs on this machine was told to end.
        """
        waiting = dict(self.nodes)
        futures: dict[Future[Ended], str] = {}
        pool = ThreadPoolExecutor(len(self.nodes))
        with SignalHandler() as stop:  # an exception that a signal raises within a callback of Dask would be lost
            try:
                while waiting or futures:
                    self.start_ready(waiting, futures, pool)
                    ended, _ = wait(futures, timeout=POLL, return_when=FIRST_COMPLETED)
                    for future in ended:
                        self.note_end(futures.pop(future), future.result())
                    if stop.received:
                        raise KeyboardInterrupt
                    self.show(self.progress)
            except BaseException:
                self.stop()
                raise
            finally:
                pool.shutdown(wait=not self.stopping, cancel_futures=True)
        return self.progress

    def start_ready(
        self, waiting: dict[str, Node], futures: dict[Future[Ended], str], pool: ThreadPoolExecutor
    ) -> None:
        """Start the waiting stages whose dependencies are up to date, and leave out those whose have failed."""
        progress = self.progress
        for name, node in list(waiting.items()):
            if node.needs & (progress.failed.keys() | set(progress.skipped)):
                progress.skipped.append(name)
                del waiting[name]
            elif node.needs <= set(progress.done):
                futures[pool.submit(self.run_stage, waiting.pop(name))] = name
                progress.running[name] = time.monotonic()

    def note_end(self, name: str, ended: Ended) -> None:
        """Note that a stage has ended."""
        self.progress.running.pop(name)
        if ended.status:
            self.progress.failed[name] = ended.errors or [f"it ended with status {ended.status}"]
        else:
            self.progress.done.append(name)

    def run_stage(self, node: Node) -> Ended:
        """Run a stage by DVC: by a worker, or here if it only waits for the workers that train its seeds."""
        try:
            if node.trains:
                return self.run_here(node)
            future = self.client.submit(
                worker.by_value(worker.run_dvc, node.name, str(self.root)),
                key=f"{node.name} {os.getpid()}",
                priority=len(node.below),
                retries=3,
                pure=False,
            )
            return Ended(*future.result())
        except Exception as error:  # whatever Dask raises ends this stage alone
            return Ended(1, [f"{node.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"])

    def run_here(self, node: Node) -> Ended:
        """Run a training stage by DVC in a process of this machine, which Ctrl-C reaches through `stop`."""
        environment = {**self.environment, PRIORITY: str(len(node.below))}
        remember = partial(self.processes.__setitem__, node.name)
        ended = worker.run_dvc(node.name, str(self.root), environment, remember, lambda: self.stopping)
        del self.processes[node.name]
        return ended

    def stop(self) -> None:
        """End what runs on this machine. Trainings write a checkpoint when their workers end."""
        self.stopping = True
        for process in list(self.processes.values()):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def running_tasks(client: Any) -> dict[str, list[str]]:
    """What runs on each worker, by its address."""
    return {address: [str(key).rpartition(" ")[0] for key in keys] for address, keys in client.processing().items()}

"""What `stages.parallel` shows: one screen in a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.parallel.cluster import Cluster
from pipeline.parallel.run import Progress, running_tasks

SECONDS_BETWEEN_LOOKS = 1.0


class Screen:
    """Shows a run until the context ends."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.printed = 0
        self.looked = 0.0
        self.begun: dict[str, float] = {}  # when each task of a worker was first seen

    def __enter__(self) -> "Screen":
        count = len(self.cluster.client.scheduler_info(n_workers=-1)["workers"])
        print(f"{count} worker{'s' if count != 1 else ''}; {self.cluster.dashboard or 'no dashboard'}")
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.stop()
        sys.stdout.flush()

    def show(self, progress: Progress) -> None:
        """Show what runs, what waits, and how much is done."""
        if time.monotonic() - self.looked < SECONDS_BETWEEN_LOOKS:
            return
        self.looked = time.monotonic()
        if line := self.cluster.fit():
            self.console.print(line)
        if not self.live:
            self.print_ended(progress)
            return
        self.live.update(self.picture(progress), refresh=True)

    def print_ended(self, progress: Progress) -> None:
        """Print a line for each stage that has ended since the last call."""
        for name in progress.done[self.printed :]:
            self.printed += 1
            left = progress.seconds_left
            rest = f" | {duration(left)} left" if left else ""
            print(f"{self.printed} of {progress.total}: {name}{rest}", flush=True)

    def picture(self, progress: Progress) -> Group:
        """The screen."""
        now = time.monotonic()
        tasks = running_tasks(self.cluster.client)
        self.begun = {task: self.begun.get(task, now) for names in tasks.values() for task in names}
        table = Table.grid(padding=(0, 2))
        for number, address in enumerate(sorted(tasks)):
            for task in tasks[address][:1] or ["idle"]:
                table.add_row(f"worker {number}", task, duration(now - self.begun[task]) if task in self.begun else "")
        ended = len(progress.done) + len(progress.failed) + len(progress.skipped)
        bar = Table.grid(padding=(0, 2))
        left = progress.seconds_left
        bar.add_row(
            ProgressBar(progress.total, ended, width=30),
            f"{ended} of {progress.total} stages",
            f"{progress.total - ended - len(progress.running)} waiting",
            f"{duration(left)} left" if left is not None else "",
        )
        failed = [Text(f"failed: {name}", style="red") for name in progress.failed]
        return Group(table, *failed, bar)

    def summary(self, progress: Progress) -> None:
        """Print the end of a run."""
        if not self.live:
            self.print_ended(progress)
        seconds = time.monotonic() - progress.begun
        print(f"{len(progress.done)} of {progress.total} stages are up to date after {duration(seconds)}")


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""Ctrl-C and SIGTERM: the run stops at the next step, with a checkpoint."""

import os
import signal
import time
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.core.world import Processes


class Interrupted(UserError):
    """The run was asked to stop and has stopped."""

    exit_code = 130


class Interruption:
    """While held, a first signal is remembered, and one that comes more than two seconds later kills at once: whoever
    stops all processes of a group may well reach one of them twice. It may be held again meanwhile.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.asked: signal.Signals | None = None
        self.depth, self.at = 0, 0.0

    def __enter__(self) -> "Interruption":
        if self.depth == 0:
            self.before = {s: signal.getsignal(s) for s in self.signals}
            for s in self.signals:
                signal.signal(s, self.remember)
        self.depth += 1
        return self

    def __exit__(self, *_) -> None:
        self.depth -= 1
        if self.depth == 0:
            for s, handler in self.before.items():
                signal.signal(s, handler)

    def remember(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked, self.at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self.at > 2:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def obey(self, saved: bool) -> None:
        """Stop now if a signal has come."""
        if self.asked:
            how = "run the same command again to go on from the checkpoint" if saved else "nothing was saved"
            raise Interrupted(f"stopped by {self.asked.name}: {how}")


class Asking:
    """Whether some process of a run wants something of all. Asking makes them wait for each other, so they do it after
    each `seconds` at the latest and, where steps are short, after each `steps` only.
    """

    def __init__(self, world: "Processes", seconds: float = 2.0, steps: int = 16):
        self.world, self.seconds, self.steps = world, seconds, steps
        self.count, self.due = 0, 1
        self.since = time.perf_counter()

    def __call__(self, asked: bool) -> bool:
        """Once a step, on every rank."""
        if self.world.size == 1:
            return asked
        self.count += 1
        if self.count < self.due:
            return False
        pace = (time.perf_counter() - self.since) / self.count
        some, pace = self.world.largest(float(asked), pace)
        self.due = max(1, min(self.steps, int(self.seconds / pace)))
        self.count, self.since = 0, time.perf_counter()
        return some > 0

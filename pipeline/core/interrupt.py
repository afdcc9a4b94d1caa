"""Ctrl-C and SIGTERM: the run stops at the next step, with a checkpoint."""

import signal
from types import FrameType

from pipeline.errors import UserError


class Interrupted(UserError):
    """The run was asked to stop and has stopped."""

    exit_code = 130


class Interruption:
    """While held, a first signal is remembered and a second one kills at once."""

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.asked: signal.Signals | None = None

    def __enter__(self) -> "Interruption":
        self.before = {s: signal.getsignal(s) for s in self.signals}
        for s in self.signals:
            signal.signal(s, self.remember)
        return self

    def __exit__(self, *_) -> None:
        for s, handler in self.before.items():
            signal.signal(s, handler)

    def remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        for s in self.signals:
            signal.signal(s, signal.SIG_DFL)

    def obey(self, saved: bool) -> None:
        """Stop now if a signal has come."""
        if self.asked:
            how = "run the same command again to go on from the checkpoint" if saved else "nothing was saved"
            raise Interrupted(f"stopped by {self.asked.name}: {how}")

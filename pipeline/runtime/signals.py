"""Ctrl-C and SIGTERM: the run stops after the current step, with a checkpoint."""

import os
import signal
import time
from types import FrameType

from pipeline.errors import UserError

GRACE = 2.0  # seconds within which a second signal counts as the same request


class Interrupted(UserError):
    """The run was asked to stop and has stopped."""

    exit_code = 130


class SignalHandler:
    """Within its context the first signal is remembered, and a later one kills the process at once.

    A signal within two seconds of the first is ignored: whoever stops all processes of a group may reach one of them
    twice. The context may be entered again while it is active.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.received: signal.Signals | None = None
        self.depth, self.received_at = 0, 0.0

    def __enter__(self) -> "SignalHandler":
        if self.depth == 0:
            self.previous = {s: signal.getsignal(s) for s in self.signals}
            for s in self.signals:
                signal.signal(s, self.handle)
        self.depth += 1
        return self

    def __exit__(self, *_) -> None:
        self.depth -= 1
        if self.depth == 0:
            for s, handler in self.previous.items():
                signal.signal(s, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; pass on one that comes after the grace period."""
        if self.received is None:
            self.received, self.received_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self.received_at > GRACE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def raise_if_received(self, *, saved: bool) -> None:
        """Raise Interrupted if a signal has arrived.  saved: whether there is a checkpoint, for the message."""
        if self.received:
            advice = "run the same command again to resume from the checkpoint" if saved else "nothing was saved"
            raise Interrupted(f"stopped by {self.received.name}: {advice}")

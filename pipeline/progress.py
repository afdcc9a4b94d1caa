"""The progress display of a run: two live lines in a terminal, lines of text elsewhere. It decides no number."""

import atexit
import sys
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.core.interface import Leg

LOSSES = ("ce", "kd", "kl", "intensive", "private", "group")
SECONDS_BETWEEN_LINES = 20.0  # of a leg's epochs, where there is no terminal
SHORTEST_BAR = 10  # columns of a terminal
WIDEST_TIME = len("99 min left")


class Tracker(Protocol):
    """Where the history of a run is sent while it trains."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Keep the values of one epoch.  step: the epoch, from 1, counted over all legs of the run."""
        ...


class Progress:
    """Progress of one run.

    label: names the run, e.g. "distill-orc seed 0".  quiet: print and track nothing.
    lines: print lines instead of the live display.  tracker: receives the history of every epoch.
    clock: seconds from an arbitrary moment.
    """

    def __init__(
        self,
        label: str,
        *,
        console: Console | None = None,
        quiet: bool = False,
        lines: bool = False,
        tracker: Tracker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.label, self.quiet, self.tracker, self.clock = label, quiet, tracker, clock
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.lines = lines or quiet or not self.console.is_terminal or self.console.is_dumb_terminal
        self.live: Live | None = None
        self.resumes_at: tuple[int, int] | None = None  # epoch and step within the next leg
        self.epochs_of_leg: dict[int, int] = {}
        self.description, self.details = "", ""
        self.started, self.steps, self.steps_before, self.total = clock(), 0, 0, 0
        self.last_line: float | None = None  # None: the leg has no line yet

    def for_independent_leg(self) -> "Progress":
        """Progress of a leg that this rank trains alone: a quiet rank prints lines, since the display is rank 0's."""
        if self.quiet and self.label:
            return Progress(self.label, lines=True, tracker=self.tracker, clock=self.clock)
        return self

    def log(self, line: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self.console.print(line, markup=False)

    def resumed(self, leg: int, epoch: int, step: int) -> None:
        """Report where a run resumes: the next leg begins there."""
        self.resumes_at = epoch, step
        self.log(f"{self.label}: resuming from checkpoint: leg {leg}, epoch {epoch}, step {step}")

    def begin_leg(self, leg: Leg, *, n_steps: int) -> None:
        """Show a new leg.  n_steps: of one epoch."""
        self.close()
        epoch, step = self.resumes_at or (1, 0)
        self.resumes_at = None
        self.started, self.steps, self.last_line = self.clock(), 0, None
        self.steps_before, self.total = max(epoch - 1, 0) * n_steps + step, (leg.epochs or 0) * n_steps
        self.description, self.details = describe(leg), f"epoch {epoch}/{leg.epochs}"
        if not self.lines:
            self.live = Live(
                get_renderable=lambda: self.screen(self.console.width), console=self.console, transient=True
            )
            self.live.start()
            atexit.register(self.close)  # an error may end the run before its leg

    def step(self) -> None:
        """Count a step."""
        self.steps += 1

    def epoch(self, epoch: int, leg: Leg, rows: Iterable[tuple[int, int, str, str, float]]) -> None:
        """Show the losses and the validation accuracy of each learner, and how often it was promoted.

        rows: history rows of the epoch: leg, epoch, network, term, value. They go to the tracker, too.
        """
        rows = list(rows)
        self.track(epoch, leg, rows)
        numbers = Numbers(leg, rows)
        is_last = epoch == leg.epochs
        self.details = f"epoch {epoch}/{leg.epochs} | {numbers.accuracies_first()}"
        line = f"{self.label}: epoch {epoch}/{leg.epochs} | {numbers.by_network()}"
        if self.live is None:
            now = self.clock()
            if is_last or self.last_line is None or now - self.last_line >= SECONDS_BETWEEN_LINES:
                self.last_line = now
                self.log(f"{line} | {self.rate():.0f} steps/s | {self.time_left()}")
        elif is_last:
            self.close()
            self.log(line)

    def track(self, epoch: int, leg: Leg, rows: list[tuple[int, int, str, str, float]]) -> None:
        """Send the rows of an epoch to the tracker, under its number in the run.

        An earlier leg that this process has not seen, because the run was resumed after it or because another rank
        trains it, counts as many epochs as this leg.
        """
        if self.tracker is None or self.quiet or not rows:
            return
        number, length = rows[0][0], leg.epochs or 0
        self.epochs_of_leg[number] = length
        before = sum(self.epochs_of_leg.get(k, length) for k in range(number))
        self.tracker.log({f"{network}/{term}": value for _, _, network, term, value in rows}, step=before + epoch)

    def rate(self) -> float:
        """Steps per second since the leg began, or since the run was resumed; 0 if unknown."""
        elapsed = self.clock() - self.started
        return self.steps / elapsed if elapsed > 0 else 0.0

    def time_left(self) -> str:
        """An estimate of the time to the end of the leg."""
        remaining, rate = self.total - self.steps_before - self.steps, self.rate()
        if remaining <= 0:
            return "0 s left"
        return f"{duration(remaining / rate)} left" if rate else "-- left"

    def screen(self, width: int) -> Group:
        """The two lines of the live display.  width: columns of the terminal.

        The first has the run and its leg, the bar, the steps and the time left; the second the epoch and its numbers.
        """
        done = self.steps_before + self.steps
        count = f"{done:>{len(str(self.total))}}/{self.total}"
        name = Text.assemble((self.label, "bold"), " ", self.description, no_wrap=True)
        name.truncate(max(width - SHORTEST_BAR - len(count) - WIDEST_TIME - 3, 1), overflow="ellipsis")
        grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False, expand=True)
        grid.add_column(width=name.cell_len, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(width=len(count), no_wrap=True)
        grid.add_column(width=WIDEST_TIME, no_wrap=True)
        grid.add_row(name, ProgressBar(total=self.total, completed=done), Text(count), Text(self.time_left()))
        return Group(grid, Text(cut(self.details, width), no_wrap=True, overflow="ellipsis"))

    def close(self) -> None:
        """Remove the live display."""
        if self.live:
            self.live.stop()
            self.live = None
            atexit.unregister(self.close)


class Numbers:
    """The numbers of an epoch as text, for the learners of a leg.  rows: as in `Progress.epoch`."""

    def __init__(self, leg: Leg, rows: Iterable[tuple[int, int, str, str, float]]):
        self.learners = leg.learners
        self.value = {(network, term): v for _, _, network, term, v in rows}

    def losses(self, learner: str) -> str:
        """Each term of a learner's loss."""
        return " ".join(f"{term} {v:.3f}" for (n, term), v in self.value.items() if n == learner and is_loss(term))

    def accuracy(self, learner: str) -> str:
        """The validation accuracy of a learner."""
        return f"{self.value[learner, 'validation/top1']:.1f}%"

    def promoted(self, learner: str) -> str:
        """How often a learner was promoted; empty where there is no promotion."""
        key = (learner, "promoted")
        return f"promoted {self.value[key]:.0%}" if key in self.value else ""

    def by_network(self) -> str:
        """All numbers of one learner, then those of the next."""
        return " | ".join(
            words(name, self.losses(name), "val", self.accuracy(name), self.promoted(name)) for name in self.learners
        )

    def accuracies_first(self) -> str:
        """The accuracies of all learners, then the losses, so that a line which is cut still has the accuracies."""
        accuracies = words("val", *(f"{name} {self.accuracy(name)}" for name in self.learners))
        losses = [words(name, self.losses(name), self.promoted(name)) for name in self.learners]
        return " | ".join([accuracies, *(text for name, text in zip(self.learners, losses) if text != name)])


def describe(leg: Leg) -> str:
    """The networks of a leg: learners <- guides."""
    guides = f" <- {', '.join(leg.guides)}" if leg.guides else ""
    return ", ".join(leg.learners) + guides


def is_loss(term: str) -> bool:
    """Whether a term of the history is part of a loss."""
    return term.split("/")[0] in LOSSES


def words(*parts: str) -> str:
    """The parts that are not empty, separated by spaces."""
    return " ".join(part for part in parts if part)


def cut(text: str, width: int) -> str:
    """The text if it fits into the width, else its first words and an ellipsis, so that no number is cut."""
    if len(text) <= width:
        return text
    return f"{text[: width - 1].rpartition(' ')[0]} …"


def duration(seconds: float) -> str:
    """A rounded duration: "12 s", "3 min" or "1.7 h"."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"

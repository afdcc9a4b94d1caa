"""The progress display of a run: a bar in a terminal, one line an epoch elsewhere. It decides no number."""

import sys
import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.core.interface import Leg

LOSSES = ("ce", "kd", "kl", "intensive", "private", "group")


class Progress:
    """Progress of one run.

    label: names the run, e.g. "distill-orc seed 0".  quiet: print nothing.  lines: print lines instead of a bar.
    """

    def __init__(self, label: str, *, console: Console | None = None, quiet: bool = False, lines: bool = False):
        self.label, self.quiet = label, quiet
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.lines = lines or quiet or not self.console.is_terminal
        self.bar: Bar | None = None
        self.summary = ""

    def for_independent_leg(self) -> "Progress":
        """Progress of a leg that this rank trains alone: a quiet rank prints lines, since the bar is rank 0's."""
        return Progress(self.label, lines=True) if self.quiet and self.label else self

    def log(self, line: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self.console.print(line, markup=False)

    def resumed(self, leg: int, epoch: int, step: int) -> None:
        """Report where a run resumes."""
        self.log(f"{self.label}: resuming from checkpoint: leg {leg}, epoch {epoch}, step {step}")

    def begin_leg(self, leg: Leg, *, n_steps: int) -> None:
        """Show a new bar.  n_steps: of one epoch."""
        self.started, self.steps = time.perf_counter(), 0
        self.close()
        if not self.lines:
            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[summary]}"),
                console=self.console,
                transient=True,
            )
            total = (leg.epochs or 0) * n_steps
            self.task = self.bar.add_task(f"{self.label} {describe(leg)}", total=total, summary="")
            self.bar.start()

    def step(self) -> None:
        """Count a step."""
        self.steps += 1
        if self.bar:
            rate = self.steps / (time.perf_counter() - self.started)
            self.bar.update(self.task, advance=1, summary=f"{rate:.0f} steps/s {self.summary}")

    def epoch(self, epoch: int, leg: Leg, rows: Iterable[tuple[int, int, str, str, float]]) -> None:
        """Show the losses and the validation accuracy of each learner, and how often it was promoted.

        rows: history rows of the epoch: leg, epoch, network, term, value.
        """
        value = {(network, term): v for _, _, network, term, v in rows}
        parts = []
        for name in leg.learners:
            losses = [f"{term} {v:.3f}" for (n, term), v in value.items() if n == name and is_loss(term)]
            part = f"{name} {' '.join(losses)} val {value[name, 'validation/top1']:.1f}%"
            if (name, "promoted") in value:
                part += f" promoted {value[name, 'promoted']:.0%}"
            parts.append(part)
        self.summary = f"epoch {epoch}/{leg.epochs} | {' | '.join(parts)}"
        if self.bar is None:
            rate = self.steps / (time.perf_counter() - self.started)
            self.log(f"{self.label}: {self.summary} | {rate:.0f} steps/s")
        elif epoch == leg.epochs:
            self.close()
            self.log(f"{self.label}: {self.summary}")

    def close(self) -> None:
        """Remove the bar."""
        if self.bar:
            self.bar.stop()
            self.bar = None


def describe(leg: Leg) -> str:
    """The networks of a leg: learners <- guides."""
    guides = f" <- {', '.join(leg.guides)}" if leg.guides else ""
    return ", ".join(leg.learners) + guides


def is_loss(term: str) -> bool:
    """Whether a term of the history is part of a loss."""
    return term.split("/")[0] in LOSSES

"""What a person sees of a run: a bar in a terminal, one line an epoch elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.core.history import Row
from pipeline.core.vocabulary import Leg


class Progress:
    """Progress of one run. `label` says which, e.g. "orc seed 0". quiet: says nothing. lines: has no bar."""

    def __init__(self, label: str, *, console: Console | None = None, quiet: bool = False, lines: bool = False):
        self.label, self.quiet = label, quiet
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.lines = lines or quiet or not self.console.is_terminal
        self.bar: Bar | None = None
        self.said = ""

    def apart(self) -> "Progress":
        """Of what this process trains by itself: a quiet one gets lines, for the bar is another's."""
        return Progress(self.label, lines=True) if self.quiet and self.label else self

    def say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(line, markup=False)

    def resumed(self, leg: int, epoch: int, step: int) -> None:
        self.say(f"{self.label}: going on from the checkpoint at leg {leg}, epoch {epoch}, step {step}")

    def leg(self, number: int, leg: Leg, epochs: int, n_steps: int) -> None:
        self.clock, self.done = time.perf_counter(), 0
        self.close()
        if not self.lines:
            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[said]}"),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task(f"{self.label} {name_of(leg)}", total=epochs * n_steps, said="")
            self.bar.start()

    def step(self) -> None:
        self.done += 1
        if self.bar:
            rate = self.done / (time.perf_counter() - self.clock)
            self.bar.update(self.task, advance=1, said=f"{rate:.0f} steps/s {self.said}")

    def epoch(self, number: int, epoch: int, epochs: int, leg: Leg, rows: list[Row]) -> None:
        """The epoch's losses and validation accuracy of each learner, and who was promoted how often."""
        value = {(network, term): v for _, _, network, term, v in rows}
        parts = []
        for name in leg.learners:
            losses = [f"{term} {v:.3f}" for (n, term), v in value.items() if n == name and is_loss(term)]
            part = f"{name} {' '.join(losses)} val {value[name, 'validation/top1']:.1f}%"
            if (name, "promoted") in value:
                part += f" promoted {value[name, 'promoted']:.0%}"
            parts.append(part)
        self.said = f"epoch {epoch}/{epochs} | {' | '.join(parts)}"
        if self.bar is None:
            rate = self.done / (time.perf_counter() - self.clock)
            self.say(f"{self.label}: {self.said} | {rate:.0f} steps/s")
        elif epoch == epochs:
            self.close()
            self.say(f"{self.label}: {self.said}")

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def name_of(leg: Leg) -> str:
    """learners <- guides."""
    guides = f" <- {', '.join(leg.guides)}" if leg.guides else ""
    return ", ".join(leg.learners) + guides


def is_loss(term: str) -> bool:
    return term.split("/")[0] in ("ce", "kd", "kl", "intensive", "private", "group")

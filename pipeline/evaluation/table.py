"""The comparison as tables, for the terminal and as Markdown.

The module formats numbers and computes none beyond means. It reads no file.
"""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

from pipeline.evaluation.comparison import REFERENCE, Outcome, compare_to_reference

WIDTH = 118  # columns of the terminal that every table fits into
HEADER = (
    "method",
    "test top-1 (%)",
    "best val. (%)",
    f"vs {REFERENCE} (pp)",
    "verdict",
    "parameters",
    "train (s)",
)
GROUP_HEADER = ("method", "test top-1, mean of members (%)", "members", "parameters", "train (s)")


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text. The first column is left-aligned, all others are right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """Return the table as Markdown, under its title in bold."""
        lines = [f"**{self.title}**", "", self.line(self.header)]
        lines.append(self.line(("---", *("---:" for _ in self.header[1:]))))
        return "\n".join([*lines, *(self.line(row) for row in self.rows)]) + "\n"

    @staticmethod
    def line(cells: tuple[str, ...]) -> str:
        """Return one row in Markdown."""
        return "| " + " | ".join(cells) + " |"

    def print(self, console: Console) -> None:
        """Print the table to a terminal."""
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for k, name in enumerate(self.header):
            table.add_column(name, justify="right" if k else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def tables(outcomes: list[Outcome]) -> list[Table]:
    """Return the tables of methods, controls and groups, without those that have no rows.

    Groups have a table of their own because their members train on fewer classes than a student does, so their
    accuracy cannot be compared with a student's.
    """
    comparisons = compare_to_reference(outcomes)

    def row(o: Outcome) -> tuple[str, ...]:
        comparison = comparisons.get(o.name)
        difference, verdict = "", "reference" if o.name == REFERENCE else ""
        if comparison:
            difference, verdict = f"{comparison.difference:+.2f}", comparison.verdict
        best = o.top1("best").values()
        numbers = (f"{sum(best) / len(best):.2f}", difference, verdict, f"{o.parameters:,}", f"{o.seconds:.1f}")
        return (o.name, format_top1(o), *numbers)

    students = [o for o in outcomes if o.student]
    uncertainty = describe_uncertainty(outcomes)
    parts = [
        Table(f"Methods: same student, {uncertainty}", HEADER, [row(o) for o in students if not o.control]),
        Table("Controls", HEADER, [row(o) for o in students if o.control]),
        group_table([o for o in outcomes if not o.student], uncertainty),
    ]
    return [part for part in parts if part.rows]


def format_top1(o: Outcome) -> str:
    """Return the test top-1 as "mean ± sd" over seeds, or with its interval for a single seed."""
    accuracy = o.accuracy
    if accuracy.sd is None:
        return f"{accuracy.mean:.2f} [{accuracy.low:.1f}, {accuracy.high:.1f}]"
    return f"{accuracy.mean:.2f} ± {accuracy.sd:.2f}"


def describe_uncertainty(outcomes: list[Outcome]) -> str:
    """Return what the numbers after an accuracy mean, for a table's title."""
    n = len(outcomes[0].seeds)
    images = f"{outcomes[0].n_images} test images"
    return f"n=1 seed, 95 % interval over {images}" if n == 1 else f"mean ± sd of n={n} seeds, {images}"


def group_table(outcomes: list[Outcome], uncertainty: str) -> Table:
    """Return the table of groups, between their members' accuracy before cooperation and with all training data."""
    rows = []
    for o in outcomes[:1]:
        for part, label in (("before", "before cooperation"), ("all_data", "trained on all data")):
            values = list(o.top1(part=part).values())
            rows.append((label, f"{sum(values) / len(values):.2f}", str(len(o.members)), f"{o.parameters:,}", ""))
    after = [(o.name, format_top1(o), str(len(o.members)), f"{o.parameters:,}", f"{o.seconds:.1f}") for o in outcomes]
    title = f"Cooperative: each member lacks some classes, {uncertainty}"
    return Table(title, GROUP_HEADER, [*rows[:1], *after, *rows[1:]])

"""The comparison as tables: for a terminal and as Markdown."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

from pipeline.evaluation.comparison import Outcome, against_reference


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", self.line(self.header)]
        lines.append(self.line(("---", *("---:" for _ in self.header[1:]))))
        return "\n".join([*lines, *(self.line(row) for row in self.rows)]) + "\n"

    @staticmethod
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cells) + " |"

    def show(self, console: Console) -> None:
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for k, name in enumerate(self.header):
            table.add_column(name, justify="right" if k else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def tables(outcomes: list[Outcome]) -> list[Table]:
    """The methods, the controls, and Cooperative's members, who miss classes that the others saw."""
    comparisons = against_reference(outcomes)
    header = ("method", "test top-1 %", "best on val. %", "vs kd, points", "verdict", "parameters", "seconds")

    def row(o: Outcome) -> tuple[str, ...]:
        comparison = comparisons.get(o.name)
        difference, verdict = "", "reference" if o.name == "kd" else ""
        if comparison:
            difference, verdict = f"{comparison.difference:+.2f}", comparison.verdict
        best = o.top1("best").values()
        numbers = (f"{sum(best) / len(best):.2f}", difference, verdict, f"{o.parameters:,}", f"{o.seconds:.1f}")
        return (o.name, top1(o), *numbers)

    students = [o for o in outcomes if o.student]
    noise = noise_of(outcomes)
    parts = [
        Table(f"Methods: the same student, {noise}", header, [row(o) for o in students if not o.is_control]),
        Table("Controls", header, [row(o) for o in students if o.is_control]),
        cooperative([o for o in outcomes if not o.student], noise),
    ]
    return [part for part in parts if part.rows]


def top1(o: Outcome) -> str:
    s = o.spread
    return f"{s.mean:.2f} [{s.low:.1f}, {s.high:.1f}]" if s.sd is None else f"{s.mean:.2f} ± {s.sd:.2f}"


def noise_of(outcomes: list[Outcome]) -> str:
    n = len(outcomes[0].seeds)
    images = f"{outcomes[0].n_images} test images"
    return f"n=1 seed, 95 % interval over {images}" if n == 1 else f"mean ± sd of n={n} seeds, {images}"


def cooperative(outcomes: list[Outcome], noise: str) -> Table:
    header = ("members' mean test top-1 %", "top-1 %", "members", "parameters", "seconds")
    rows = []
    for o in outcomes[:1]:
        for part, label in (("before", "before cooperation"), ("all_data", "trained on all data")):
            values = list(o.top1(part=part).values())
            rows.append((label, f"{sum(values) / len(values):.2f}", str(len(o.members)), f"{o.parameters:,}", ""))
    after = [(o.name, top1(o), str(len(o.members)), f"{o.parameters:,}", f"{o.seconds:.1f}") for o in outcomes]
    return Table(f"Cooperative: its members miss classes, {noise}", header, [*rows[:1], *after, *rows[1:]])

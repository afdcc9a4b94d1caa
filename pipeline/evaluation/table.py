"""The comparison as tables, for the terminal and as Markdown.

The module formats numbers and computes none beyond means. It reads no file.
"""

import math
from dataclasses import dataclass
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table as RichTable

from pipeline.evaluation.comparison import MARGIN, compare_to_controls, compare_to_reference, no_comparison
from pipeline.evaluation.outcomes import Outcome
from pipeline.evaluation.statistics import Comparison

WIDTH = 118  # columns of the terminal that every table fits into
VERDICT = "verdict"
BEST = "test, best on val. (%)"  # test top-1 of the weights that are best on validation
GROUP_TOP1 = "test top-1, mean of members (%)"
BROKEN = (VERDICT, GROUP_TOP1, "vs ")  # columns whose text is broken into lines where a table is too wide
COSTS = {"cost given a teacher": "given_teacher", "cost from nothing": "from_nothing"}
"""Columns of what a student takes (pipeline.evaluation.outcomes.Outcome.forward_equivalents)."""
GROUP_HEADER = ("method", GROUP_TOP1, "members", "parameters", *COSTS, "train (s)")
WIDTHS = {BEST: 8, **dict.fromkeys(COSTS, 7)}  # of columns in the terminal, where their names take three lines
FALSE_KNOWLEDGE = {  # header -> key of `Outcome.training`
    "teachers err (%)": "teacher_errors",
    "passed on (%)": "passed_on",
    "same by scratch (%)": "by_scratch",
    "wrong labels learnt (%)": "memorised",
}
TUNING_HEADER = ("method", "trials", "reported parameters (%)", "best trial (%)", "best parameters")
NONE = "-"  # the cell of a number that does not exist


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text. The first column is left-aligned, all others are right-aligned.

    Attributes:
        title: The title.
        header: The names of the columns.
        rows: The cells.
        detail: Whether the page shows the table below its figures.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    detail: bool = False

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
            wraps = name in WIDTHS or name.startswith(BROKEN)
            table.add_column(name, justify="right" if k else "left", no_wrap=not wraps, width=WIDTHS.get(name))
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def tables(outcomes: list[Outcome], reference: str, margin: float = MARGIN) -> list[Table]:
    """Return the tables of methods, controls, groups, methods against their controls, and tuning, without empty ones.

    Groups have a table of their own because their members train on fewer classes than a student does, so their
    accuracy cannot be compared with a student's. Without a reference, students have no column of differences, and a
    column of verdicts only if one of them diverged.

    Args:
        outcomes: The outcomes of all methods.
        reference: The method to compare with, `report.reference` of params.yaml.
        margin: Differences below it, in percentage points, are equivalent: `report.margin`.
    """
    comparisons = compare_to_reference(outcomes, reference, margin)
    compared = no_comparison(outcomes, reference) is None
    students = [o for o in outcomes if o.student]
    judged = compared or any(o.diverged for o in students)
    difference = f"vs {reference} (pp)"
    header = ["method", "test top-1 (%)", BEST, difference, VERDICT, "parameters", *COSTS, "train (s)"]
    header = tuple(c for c in header if (c != difference or compared) and (c != VERDICT or judged))

    def row(o: Outcome) -> tuple[str, ...]:
        if not o.seeds:
            cells = {"test top-1 (%)": "diverged", VERDICT: o.where_diverged}
        else:
            best = o.top1("best").values()
            cells = {
                "test top-1 (%)": format_top1(o),
                BEST: f"{sum(best) / len(best):.2f}",
                difference: "",
                VERDICT: "",
                "parameters": f"{o.parameters:,}",
                **format_costs(o),
                "train (s)": f"{o.seconds:.1f}",
            }
            if comparison := comparisons.get(o.name):
                cells |= {difference: format_difference(comparison), VERDICT: comparison.verdict}
            elif compared:
                cells[VERDICT] = "reference" if o.name == reference else "no common seed"
            if o.diverged:
                cells[VERDICT] = "; ".join(filter(None, (cells[VERDICT], describe_diverged(o))))
        return tuple({"method": o.name, **cells}.get(column, NONE) for column in header)

    uncertainty = describe_uncertainty(outcomes)
    parts = [
        Table(f"Methods: same student, {uncertainty}", header, [row(o) for o in students if not o.control]),
        Table("Controls", header, [row(o) for o in students if o.control]),
        group_table([o for o in outcomes if not o.student], uncertainty),
        control_table(outcomes, reference, margin),
        false_knowledge_table(students),
        tuning_table(outcomes),
    ]
    return [part for part in parts if part.rows]


def markdown(parts: list[Table], notes: list[str]) -> str:
    """Return tables as Markdown, with a list of notes below them.

    Args:
        parts: The tables.
        notes: The notes (pipeline.evaluation.notes).
    """
    listed = "".join(f"- {note}\n" for note in notes)
    return "\n".join([*(part.markdown() for part in parts), *([listed] if listed else [])])


def format_top1(o: Outcome) -> str:
    """Return the test top-1 as "mean ± sd" over seeds, or with its interval for a single seed."""
    accuracy = o.accuracy
    if accuracy.sd is None:
        return f"{accuracy.mean:.2f} [{accuracy.low:.1f}, {accuracy.high:.1f}]"
    return f"{accuracy.mean:.2f} ± {accuracy.sd:.2f}"


def format_costs(o: Outcome) -> dict[str, str]:
    """Return the cells of the columns COSTS."""
    return {column: format_count(o.forward_equivalents[key]) for column, key in COSTS.items()}


def format_count(value: float) -> str:
    """Return a number of at least 1, or 0, with three significant digits and an SI prefix, e.g. "1.23 M"."""
    prefixes = ("", " k", " M", " G", " T", " P", " E")
    rounded = float(f"{value:.3g}")
    if rounded < 1:
        return f"{rounded:g}"
    k = min(int(math.log10(rounded) // 3), len(prefixes) - 1)
    return f"{rounded / 1000**k:#.3g}".removesuffix(".") + prefixes[k]


def format_difference(c: Comparison) -> str:
    """Return a difference with its 95 % interval."""
    return f"{c.difference:+.2f} [{c.low:+.1f}, {c.high:+.1f}]"


def describe_diverged(o: Outcome) -> str:
    """Return how many seeds of a method diverged."""
    return f"{len(o.diverged)} of {o.n_seeds} seeds diverged"


def describe_uncertainty(outcomes: list[Outcome]) -> str:
    """Return what the numbers after an accuracy mean, for a table's title."""
    n = outcomes[0].n_seeds
    images = f"{outcomes[0].n_images} test images"
    return f"n=1 seed, 95 % interval over {images}" if n == 1 else f"mean ± sd of n={n} seeds, {images}"


def control_table(outcomes: list[Outcome], reference: str, margin: float) -> Table:
    """Return the table of methods against the controls that they name, without the reference."""
    rows = [
        (name, control, format_difference(c), c.verdict)
        for (name, control), c in compare_to_controls(outcomes, reference, margin).items()
    ]
    return Table("Against the control that a method names", ("method", "control", "difference (pp)", VERDICT), rows)


def false_knowledge_table(students: list[Outcome]) -> Table:
    """Return the table of what students took over on training images (pipeline.evaluation.false_knowledge).

    It has no rows if no teacher errs and no label is wrong. Without wrong labels it has no rows of methods without
    teachers. A column without any value is left out.
    """
    noise = any(share for o in students for share in o.training("wrong_labels").values())
    shown = [o for o in students if o.training("teacher_errors") or (noise and o.training("memorised"))]
    if not noise and not any(share for o in shown for share in o.training("teacher_errors").values()):
        shown = []
    columns = {k: v for k, v in FALSE_KNOWLEDGE.items() if any(o.training(v) for o in shown)}
    rows = [(o.name, *(format_shares(o.training(key)) for key in columns.values())) for o in shown]
    n = int(next(iter(shown[0].training("images").values()))) if shown else 0
    return Table(
        f"False knowledge, on {n:,} training images with their true labels", ("method", *columns), rows, detail=True
    )


def format_shares(shares: dict[int, float]) -> str:
    """Return fractions of seeds in percent: "mean ± sd", or the value of a single seed."""
    values = [100 * share for share in shares.values()]
    if not values:
        return NONE
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def tuning_table(outcomes: list[Outcome]) -> Table:
    """Return how many sets of parameters each method tried on validation; no row if none did."""
    tuned = any(o.tuning for o in outcomes)
    title = "Tuning: parameters tried on validation, mean of the seeds of a trial"
    return Table(title, TUNING_HEADER, [tuning_row(o) for o in outcomes if tuned], detail=True)


def tuning_row(o: Outcome) -> tuple[str, ...]:
    """Return the row of one method."""
    if o.tuning is None:
        return (o.name, "0", NONE, NONE, "not tuned")
    rows = (o.tuning.reported, o.tuning.best)
    values = [NONE if row is None or row.validation is None else f"{row.validation:.2f}" for row in rows]
    return (o.name, str(o.tuning.trials), *values, "adopted" if o.tuning.adopted else "not adopted")


def group_table(outcomes: list[Outcome], uncertainty: str) -> Table:
    """Return the table of groups, between their members' accuracy before cooperation and with all training data."""
    rows = []
    for o in [o for o in outcomes if o.seeds][:1]:
        for part, label in (("before", "before cooperation"), ("all_data", "trained on all data")):
            values = list(o.top1(part=part).values())
            cells = (label, f"{sum(values) / len(values):.2f}", str(len(o.members)), f"{o.parameters:,}")
            rows.append((*cells, *("" for _ in GROUP_HEADER[len(cells) :])))
    after = [group_row(o) for o in outcomes]
    title = f"Cooperative: each member sees a part of the images, {uncertainty}"
    return Table(title, GROUP_HEADER, [*rows[:1], *after, *rows[1:]])


def group_row(o: Outcome) -> tuple[str, ...]:
    """Return the row of one group."""
    if not o.seeds:
        cells = (o.name, f"diverged: {o.where_diverged}", str(len(o.members)))
        return (*cells, *(NONE for _ in GROUP_HEADER[len(cells) :]))
    top1 = f"{format_top1(o)}, {describe_diverged(o)}" if o.diverged else format_top1(o)
    costs = format_costs(o).values()
    return (o.name, top1, str(len(o.members)), f"{o.parameters:,}", *costs, f"{o.seconds:.1f}")

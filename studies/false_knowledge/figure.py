"""Draw the results of the study: a table and a figure of false knowledge and accuracy over label noise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import DataError
from stages.command import command

HERE = Path(__file__).parent
DRAWN = {  # column of results.csv -> axis of the figure and header of the table
    "excess": "passed on beyond coincidence (pp)",
    "top1": "test top-1 (%)",
}
SHARES = {"passed_on": "teachers' errors passed on (%)", "teacher_errors": "teachers err on the training images (%)"}
COLUMNS: tuple[str, ...] = (
    "dataset",
    "noise",
    "method",
    "seed",
    "top1",
    "teacher_errors",
    "passed_on",
    "by_scratch",
    "memorised",
    "excess",
)


def rows_of(results: Path) -> list[tuple[Any, ...]]:
    """One row of COLUMNS for each dataset, noise, method and seed, with percentages or None.

    `excess` is `passed_on` less what the student of `scratch` has in common with the same teachers, in points.
    `scratch` has no teacher. Its `passed_on` is that of `kd` by coincidence: the share of the teacher's errors on which
    the student without a teacher gives the same wrong class.
    Raises DataError, which names the file, if one is damaged or not in a folder of that name, or if there are none.
    """
    rows = []
    for file in sorted(results.glob("*/summary.json")):
        dataset, _, noise = file.parent.name.rpartition("-")
        level = level_of(noise)
        if not dataset or level is None:
            raise DataError(f"{file.parent}: the name of the folder is not DATASET-NOISE, such as digits-0.2")
        try:
            rows += rows_of_cell(dataset, level, json.loads(file.read_text()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{file} is damaged: remove it and run `python -m studies.false_knowledge.run` again"
            ) from None
    if not rows:
        raise DataError(f"{results} has no results: run `python -m studies.false_knowledge.run` first")
    return rows


def level_of(noise: str) -> float | None:
    """The share of wrong labels that the end of a folder's name says; None if it says none."""
    try:
        level = 0.0 if noise == "none" else float(noise)
    except ValueError:
        return None
    return level if 0 <= level < 1 else None


def rows_of_cell(dataset: str, level: float, summary: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of one dataset at one level of noise.  summary: the content of summary.json."""
    rows = []
    for method, of_method in summary.items():
        for seed, values in of_method.get("seeds", {}).items():
            source = summary.get("kd", {}).get("seeds", {}).get(seed, {})
            passed_on = source.get("passed_on_by_scratch") if method == "scratch" else values.get("passed_on")
            shares = (values.get("teacher_errors"), passed_on, values.get("passed_on_by_scratch"))
            percent = [None if v is None else 100 * float(v) for v in (*shares, values.get("memorised"))]
            excess = None if percent[1] is None or percent[2] is None else percent[1] - percent[2]
            rows.append((dataset, level, method, int(seed), float(values["top1"]), *percent, excess))
    return rows


def mean_and_interval(values: list[float]) -> tuple[float, float, float]:
    """The mean over seeds and its 95 % interval (Student's t); without an interval for a single seed."""
    from pipeline.evaluation.statistics import estimate

    found = estimate(values, (values[0], values[0]))
    return found.mean, found.low, found.high


def values_of(rows: list[tuple[Any, ...]], measure: str, **where: Any) -> list[float]:
    """A measure of the rows whose columns have the given values, without those that lack it."""
    chosen = (dict(zip(COLUMNS, row)) for row in rows)
    found = [row[measure] for row in chosen if all(row[key] == value for key, value in where.items())]
    return [value for value in found if value is not None]


def unique(rows: list[tuple[Any, ...]], column: str) -> list[Any]:
    """The values of a column, in the order of the rows."""
    return list(dict.fromkeys(row[COLUMNS.index(column)] for row in rows))


def table(rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table for each dataset: each measure of each method, by noise, as mean and 95 % interval."""
    levels = sorted(unique(rows, "noise"))
    parts = []
    for dataset in unique(rows, "dataset"):
        n = len({row[3] for row in rows if row[0] == dataset})
        for measure, title in (DRAWN | SHARES).items():
            parts += [f"**{dataset}: {title}, mean and 95 % interval of n={n} seeds, by label noise**", ""]
            parts += ["| method | " + " | ".join(f"{level:g}" for level in levels) + " |"]
            parts += ["| --- |" + " ---: |" * len(levels)]
            for method in unique(rows, "method"):
                found = [values_of(rows, measure, dataset=dataset, method=method, noise=level) for level in levels]
                if any(found):
                    cells = [cell(values, bounded=measure != "excess") for values in found]
                    parts.append(f"| {method} | {' | '.join(cells)} |")
            parts.append("")
    return "\n".join(parts)


def cell(values: list[float], bounded: bool = True) -> str:
    """A mean with its interval, or "-" without values.  bounded: they are percentages, at least 0 and at most 100."""
    if not values:
        return "-"
    mean, low, high = mean_and_interval(values)
    if bounded:
        low, high = max(low, 0.0), min(high, 100.0)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]" if len(values) > 1 else f"{mean:.1f}"


def figure(rows: list[tuple[Any, ...]], file: Path) -> None:
    """Write the figure: a row for each dataset, a column for each measure, a line with intervals for each method."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from pipeline.evaluation.page.figures import COLORS, DASHES, MARKERS, STYLE, color

    datasets, levels = unique(rows, "dataset"), sorted(unique(rows, "noise"))
    methods = unique(rows, "method")
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(9.5, 3.3 * len(datasets)), layout="constrained")
        axes = drawn.subplots(len(datasets), len(DRAWN), squeeze=False)
        for row, dataset in enumerate(datasets):
            for column, (measure, title) in enumerate(DRAWN.items()):
                pair = axes[row][column]
                for k, method in enumerate(methods):
                    draw = line(rows, levels, measure, dataset, method)
                    look = {
                        "color": color(k),
                        "marker": MARKERS[k % len(MARKERS)],
                        "linestyle": DASHES[k // len(COLORS)],
                    }
                    draw(pair, 0.004 * (k - len(methods) / 2), look)
                if measure == "excess":
                    pair.axhline(0, color="grey", lw=0.8)
                pair.set_title(dataset)
                pair.set_xlabel("label noise")
                pair.set_ylabel(title)
        handles, names = axes[0][-1].get_legend_handles_labels()
        drawn.legend(handles, names, loc="outside right center")
        drawn.savefig(file, metadata={"Date": None, "Creator": None})


def line(
    rows: list[tuple[Any, ...]], levels: list[float], measure: str, dataset: str, method: str
) -> Callable[[Any, float, dict[str, Any]], None]:
    """What draws the line of a method into axes, shifted along x so that intervals do not hide each other."""
    found = {level: values_of(rows, measure, dataset=dataset, method=method, noise=level) for level in levels}
    points = [(level, *mean_and_interval(values)) for level, values in found.items() if values]

    def draw(axes: Any, shift: float, look: dict[str, Any]) -> None:
        if points:
            at, means, low, high = zip(*points)
            errors = [[m - a for m, a in zip(means, low)], [b - m for m, b in zip(means, high)]]
            x = [level + shift for level in at]
            axes.errorbar(x, means, errors, label=method, markersize=4, capsize=2, lw=1.2, **look)

    return draw


def main(results: Annotated[Path, typer.Option(help="The folder of results.")] = HERE / "results") -> None:
    """Read RESULTS/DATASET-NOISE/summary.json; write results.csv, table.md and figure.svg beside them."""
    import polars as pl

    rows = rows_of(results)
    columns = {name: [row[k] for row in rows] for k, name in enumerate(COLUMNS)}
    pl.DataFrame(columns).write_csv(results / "results.csv")
    (results / "table.md").write_text(table(rows))
    figure(rows, results / "figure.svg")
    print(table(rows))


if __name__ == "__main__":
    command(main)

"""Plots that compare many methods: intervals, points with their names, and small multiples.

Like figures.py, the module knows how to draw, but neither methods nor files. Names stand beside what they name, so no
plot needs a legend of many colors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from pipeline.evaluation.page.figures import INK, SIZE, STYLE, color, plot, to_svg

COLUMNS = 3  # of small multiples
ROW = 0.23  # inches of a row of intervals
PANEL = 1.15  # inches of the height of a panel


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, and the values that it summarises.

    Attributes:
        mean: The mean.
        low: The lower end of its interval.
        high: The upper end.
        values: The single values, e.g. one for each seed.
        hollow: Whether the marker is hollow, which sets controls apart.
    """

    mean: float
    low: float
    high: float
    values: Sequence[float] = ()
    hollow: bool = False


@dataclass(frozen=True)
class Curve:
    """One panel of small multiples.

    Attributes:
        x: The x values.
        y: The y values.
        counts: Heights of bars behind the curve, relative to the largest, at `bars_at`; none if empty.
        bars_at: The middle of each bar.
    """

    x: Sequence[float]
    y: Sequence[float]
    counts: Sequence[float] = field(default=())
    bars_at: Sequence[float] = field(default=())


def intervals(
    rows: Mapping[str, Interval],
    label: str,
    x: str,
    band: tuple[float, float] | None = None,
    line: float | None = None,
) -> str:
    """Draw one row per name: its mean, its interval and its values.

    Args:
        rows: What to draw, from top to bottom.
        label: The text alternative.
        x: The label of the x axis.
        band: A range of x to shade, e.g. the interval of the reference.
        line: Where to draw a vertical line, e.g. at zero.
    """

    def draw(axes: Any) -> None:
        if band is not None:
            axes.axvspan(*band, color=INK, alpha=0.18, linewidth=0)
        if line is not None:
            axes.axvline(line, color=INK, linewidth=1)
        for k, row in enumerate(rows.values()):
            shade = color(1 if row.hollow else 0)
            axes.plot([row.low, row.high], [k, k], color=shade, linewidth=1.6, solid_capstyle="butt")
            axes.plot(row.values, [k] * len(row.values), "|", color=INK, markersize=7, markeredgewidth=0.8)
            fill = "none" if row.hollow else shade
            axes.plot([row.mean], [k], "s" if row.hollow else "o", color=shade, markerfacecolor=fill, markersize=5)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(x)

    return plot(draw, label, (SIZE[0], 0.75 + ROW * len(rows)))


def named_points(points: Mapping[str, tuple[float, float]], label: str, x: str, y: str, unit: str = "") -> str:
    """Draw one point per name over a logarithmic x axis, with the names in a column beside the axes.

    Args:
        points: Maps a name to its x and y values.
        label: The text alternative.
        x: The label of the x axis, whose ticks have SI prefixes before `unit`.
        y: The label of the y axis.
        unit: The unit of x.
    """

    def draw(axes: Any) -> None:
        at, values = zip(*points.values())
        axes.scatter(at, values, color=color(0), s=20, zorder=3)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=5))
        axes.xaxis.set_major_formatter(EngFormatter(unit))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.08)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high)
        heights = spread([(v - low) / (high - low) for v in values], 0.062)
        for name, height in zip(points, heights):
            axes.annotate(
                name,
                points[name],
                xytext=(1.06, height),
                textcoords="axes fraction",
                va="center",
                fontsize=8,
                arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "alpha": 0.7, "shrinkB": 3},
            )
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    return plot(draw, label, (SIZE[0] * 0.8, max(SIZE[1], 0.8 + 0.19 * len(points))))


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart until neighbors differ by at least `gap`, in their order, around where they were."""
    order = np.argsort(heights, kind="stable")
    placed: list[float] = []
    for k in order:
        placed.append(max(heights[k], placed[-1] + gap) if placed else heights[k])
    shift = float(np.mean(placed) - np.mean(heights)) if placed else 0.0
    moved = [0.0] * len(heights)
    for k, height in zip(order, placed):
        moved[int(k)] = height - shift
    return moved


def small_multiples(
    panels: Mapping[str, Curve], label: str, x: str, y: str, *, against: Curve | None = None, diagonal: bool = False
) -> str:
    """Draw one small panel per name, all with the same axes.

    Args:
        panels: What to draw in each.
        label: The text alternative.
        x: The label of the x axes.
        y: The label of the y axes.
        against: A curve that every panel repeats in gray.
        diagonal: Whether to draw the diagonal from (0, 0) to (1, 1); otherwise x are whole numbers, such as epochs.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE | {"font.size": 8}):
        figure = Figure(figsize=(SIZE[0], PANEL * rows + 0.55), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (name, curve) in zip(grid, panels.items()):
            if diagonal:
                axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=0.8)
            if against is not None:
                axes.plot(against.x, against.y, color=INK, linewidth=1.6, alpha=0.55)
            if len(curve.counts):
                heights = np.asarray(curve.counts) / max(1, max(curve.counts))
                width = 0.8 / len(heights)
                axes.bar(curve.bars_at, heights, width=width, color=INK, alpha=0.3)
            axes.plot(curve.x, curve.y, color=color(0), linewidth=1.2, marker="." if diagonal else "", markersize=4)
            axes.set_title(name, fontsize=8, pad=2)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[max(0, len(panels) - columns) : len(panels)]:
            axes.tick_params(labelbottom=True)
        if not diagonal:
            grid[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=4))
        figure.supxlabel(x, fontsize=8, color=INK)
        figure.supylabel(y, fontsize=8, color=INK)
        return to_svg(figure, label)

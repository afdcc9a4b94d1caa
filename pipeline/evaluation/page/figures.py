"""Plots as inline SVG, drawn by Matplotlib.

The module knows how to draw, but neither methods nor files. Axes and text have the page's own ink and transparent
backgrounds, so they are legible in light and dark mode and in print. Lines differ by dashes and areas by hatches, not
by color alone. Text stays text, and the same data gives the same bytes.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#808080"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "group-distillation",
    "text.parse_math": False,
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
SIZE = (4.4, 3.1)  # inches
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: safe for color blindness
MARKERS = "osD^vP*Xhd<>"
DASHES = ("-", "--", ":", "-.")
HATCHES = ("", "//", "..", "xx", "--", "oo")
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Maps a name to the x and the y values of its line or points."""


def to_svg(figure: Figure, label: str) -> str:
    """Return a figure as SVG markup for inlining in HTML.

    Identifiers are prefixed with the label, so that figures with different labels do not share any on one page.

    Args:
        figure: The figure to convert.
        label: The text alternative for screen readers. It must be unique on the page.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    markup = out.getvalue()
    markup = markup[markup.index("<svg") :]
    opening, rest = markup.split(">", 1)
    opening = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    prefix = re.sub(r"\W+", "-", label)
    rest = rest.replace(INK, "currentColor")
    for k, shade in enumerate(COLORS):
        rest = rest.replace(shade, f"var(--c{k}, {shade})")  # the page has lighter ones in the dark scheme
    rest = re.sub(r'(id="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", rest)
    return f'{opening} role="img" aria-label="{html.escape(label)}">{rest}'


def standalone(markup: str) -> str:
    """Return the markup of `to_svg` as an image of its own, whose ink is legible on light and on dark ground."""
    markup = re.sub(r"var\(--c\d+, (#\w+)\)", r"\1", markup.replace("currentColor", INK))
    return re.sub(r'viewBox="0 0 (\S+) (\S+)"', r'width="\1pt" height="\2pt" \g<0>', markup, count=1)


def plot(draw: Callable[[Any], None], label: str, size: tuple[float, float] = SIZE) -> str:
    """Return the SVG of a figure with a single pair of axes, which ``draw`` fills."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        draw(figure.add_subplot())
        return to_svg(figure, label)


def lines(series: Series, label: str, x: str, y: str) -> str:
    """Draw one line per name over whole numbers, such as epochs."""

    def draw(axes: Any) -> None:
        for k, (name, (at, values)) in enumerate(series.items()):
            axes.plot(at, values, label=name, color=color(k), linewidth=1.3, linestyle=DASHES[k % len(DASHES)])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        legend_above(axes)

    return plot(draw, label)


def stacked_areas(series: Series, label: str, x: str, y: str) -> str:
    """Draw shares of a whole over whole numbers, stacked on each other. All series have the x values of the first."""

    def draw(axes: Any) -> None:
        at = next(iter(series.values()))[0]
        shades = [color(k) for k in range(len(series))]
        areas = axes.stackplot(at, [v for _, v in series.values()], labels=list(series), colors=shades, alpha=0.8)
        for k, area in enumerate(areas):
            area.set_hatch(HATCHES[k % len(HATCHES)])
            area.set_edgecolor("white")
            area.set_linewidth(0)
        axes.set_xlim(at[0], max(at[-1], at[0] + 1))
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        legend_above(axes)

    return plot(draw, label)


def bars(values: Mapping[str, float], label: str, y: str, expected: float | None = None) -> str:
    """Draw one bar per name, and a dashed line at the expected value."""

    def draw(axes: Any) -> None:
        axes.bar(list(values), list(values.values()), color=color(0))
        if expected is not None:
            axes.axhline(expected, color=INK, linestyle="--", linewidth=1)
        axes.set_ylabel(y)
        if len(values) > 4:
            axes.tick_params(axis="x", rotation=30)
            for text in axes.get_xticklabels():
                text.set_horizontalalignment("right")

    return plot(draw, label)


def heatmap(values: np.ndarray, names: Sequence[str], label: str, x: str, y: str) -> str:
    """Draw a matrix of counts [K, K], with tick labels up to K = 20 and numbers in the cells up to K = 12."""

    def draw(axes: Any) -> None:
        image = axes.imshow(values, cmap="viridis")
        axes.figure.colorbar(image, ax=axes, fraction=0.046).outline.set_visible(False)
        axes.grid(visible=False)
        if len(names) <= 20:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        if len(names) <= 12:
            middle = (values.max() + values.min()) / 2
            for row in range(len(names)):
                for column in range(len(names)):
                    ink = "black" if values[row, column] > middle else "white"
                    text = f"{values[row, column]:.0f}"
                    axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7)
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    return plot(draw, label, (4.4, 4.0))


def image_pairs(before: np.ndarray, after: np.ndarray, label: str) -> str:
    """Draw three rows of images: x, x', and x' - x scaled to the largest absolute difference around mid-gray.

    Args:
        before: The images x, [N, H, W, C_in] uint8, C_in = 1 or 3.
        after: The images x', of the same shape and type.
        label: The text alternative.
    """
    difference = after.astype(int) - before.astype(int)
    largest = max(1, int(np.abs(difference).max()))
    rows = (before, after, (128 + 127 * difference / largest).astype(np.uint8))
    with mpl.rc_context(STYLE):
        n = len(before)
        figure = Figure(figsize=(0.6 * n + 0.7, 2.0))
        grid = figure.subplots(3, n, squeeze=False)
        for row, (images, name) in enumerate(zip(rows, ("x", "x'", "x' - x"))):
            for k in range(n):
                axes = grid[row][k]
                gray = images.shape[-1] == 1
                axes.imshow(images[k][..., 0] if gray else images[k], cmap="gray" if gray else None, vmin=0, vmax=255)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.grid(visible=False)
                if k == 0:
                    axes.set_ylabel(name, rotation=0, ha="right", va="center")
        return to_svg(figure, label)


def legend_above(axes: Any) -> None:
    """Put the legend above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=2.4)


def color(k: int) -> str:
    """Return the k-th color of the palette, which repeats after six."""
    return COLORS[k % len(COLORS)]

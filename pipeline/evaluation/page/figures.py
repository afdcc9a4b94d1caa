"""Figures as SVG, drawn by matplotlib: colours that are read on white and on black, text that stays text."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

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
SIZE = (4.4, 3.1)
MARKS = "osD^vP*Xhd<>"
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def svg(figure: Figure, label: str) -> str:
    """The figure's markup, to be put into a page. label: what a screen reader says."""
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    markup = out.getvalue()
    markup = markup[markup.index("<svg") :]
    opening, rest = markup.split(">", 1)
    opening = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    ids = re.sub(r"\W+", "-", label)
    rest = re.sub(r'(id="|url\(#|xlink:href="#)', rf"\g<1>{ids}-", rest)
    return f'{opening} role="img" aria-label="{escaped(label)}">{rest}'


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def drawn(draw, label: str, size: tuple[float, float] = SIZE) -> str:
    """A figure with one pair of axes that `draw` fills."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        draw(figure.add_subplot())
        return svg(figure, label)


def curves(series: Series, label: str, x: str, y: str) -> str:
    """Lines, each with its name."""

    def draw(axes: Any) -> None:
        for k, (name, (at, values)) in enumerate(series.items()):
            axes.plot(at, values, label=name, color=colour(k), linewidth=1.3, linestyle="-" if k < 10 else "--")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend(ncols=2 if len(series) > 5 else 1)

    return drawn(draw, label)


def shares(series: Series, label: str, x: str, y: str) -> str:
    """Parts of a whole over time."""

    def draw(axes: Any) -> None:
        at = next(iter(series.values()))[0]
        axes.stackplot(at, [v for _, v in series.values()], labels=list(series), colors=[colour(k) for k in range(20)])
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend(loc="lower left")

    return drawn(draw, label)


def points(series: Series, label: str, x: str, y: str, unit: str = "") -> str:
    """A scatter on a logarithmic cost, each group of points with its name; `unit` gets a prefix (k, m, µ)."""

    def draw(axes: Any) -> None:
        for k, (name, (at, values)) in enumerate(series.items()):
            axes.scatter(at, values, label=name, color=colour(k), marker=MARKS[k % len(MARKS)], s=26)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.xaxis.set_major_formatter(EngFormatter(unit))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend(ncols=2 if len(series) > 5 else 1)

    return drawn(draw, label)


def bars(values: Mapping[str, float], label: str, y: str, expected: float | None = None) -> str:
    """A bar for each name; a line at what is expected."""

    def draw(axes: Any) -> None:
        axes.bar(list(values), list(values.values()), color=[colour(k) for k in range(len(values))])
        if expected is not None:
            axes.axhline(expected, color=INK, linestyle="--", linewidth=1)
        axes.set_ylabel(y)
        axes.tick_params(axis="x", rotation=30 if len(values) > 4 else 0)

    return drawn(draw, label)


def matrix(values: np.ndarray, names: Sequence[str], label: str, x: str, y: str) -> str:
    """A square of counts, written where there is room for them."""

    def draw(axes: Any) -> None:
        shown = axes.imshow(values, cmap="viridis")
        axes.figure.colorbar(shown, ax=axes, fraction=0.046).outline.set_visible(False)
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

    return drawn(draw, label, (4.4, 4.0))


def reliability(bins: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str) -> str:
    """Accuracy by confidence, beside the diagonal of a calibrated network."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1)
        for k, (name, (confidence, accuracy)) in enumerate(bins.items()):
            axes.plot(confidence, accuracy, label=name, color=colour(k), marker=".", linewidth=1)
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        axes.legend(ncols=2 if len(bins) > 5 else 1)

    return drawn(draw, label)


def pictures(before: np.ndarray, after: np.ndarray, label: str) -> str:
    """Rows of images: before, after, and their difference about grey.  [n, H, W, D] uint8 each."""
    gap = after.astype(int) - before.astype(int)
    reach = max(1, int(np.abs(gap).max()))
    rows = (before, after, (128 + 127 * gap / reach).astype(np.uint8))
    with mpl.rc_context(STYLE):
        n = len(before)
        figure = Figure(figsize=(0.6 * n + 0.7, 2.0))
        grid = figure.subplots(3, n, squeeze=False)
        for row, (images, name) in enumerate(zip(rows, ("x", "x'", "x' - x"))):
            for k in range(n):
                axes = grid[row][k]
                grey = images.shape[-1] == 1
                axes.imshow(images[k][..., 0] if grey else images[k], cmap="gray" if grey else None, vmin=0, vmax=255)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.grid(visible=False)
                if k == 0:
                    axes.set_ylabel(name, rotation=0, ha="right", va="center")
        return svg(figure, label)


def colour(k: int) -> Any:
    return mpl.colormaps["tab10"](k % 10)

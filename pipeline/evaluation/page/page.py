"""The report as one self-contained HTML page, and the data of DVC's plots.

The module reads results/ and decides which figures appear. It does not compute metrics, and the page needs neither a
script nor a network connection.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader

from pipeline.evaluation import metrics
from pipeline.evaluation.comparison import MARGIN, no_comparison
from pipeline.evaluation.outcomes import Outcome, train_file
from pipeline.evaluation.page import errors, figures
from pipeline.evaluation.page.history import History
from pipeline.evaluation.page.method_figures import METHOD_FIGURES, CaptionedFigure
from pipeline.evaluation.predictions import read_logits
from pipeline.evaluation.table import tables

TEMPLATES = Environment(
    loader=PackageLoader("pipeline.evaluation.page", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


class Results:
    """Everything that the page reads. Figures show the first seed that ended, and no method without one.

    Args:
        results: The folder results/.
        outcomes: The outcomes of all methods, at least one.
        reference: The method to compare with, `report.reference` of params.yaml.
        margin: Percentage points of an equivalent accuracy, `report.margin`.
    """

    def __init__(self, results: Path, outcomes: list[Outcome], reference: str, margin: float = MARGIN):
        self.results, self.outcomes, self.reference, self.margin = results, outcomes, reference, margin
        self.classes = outcomes[0].classes
        self.ended = [o for o in outcomes if o.seeds]
        self.students = [o for o in self.ended if o.student]
        self.seeds = {o.name: next(iter(o.seeds)) for o in self.ended}
        files = {o.name: train_file(results, o, "history.csv") for o in self.ended}
        self.histories = {name: History(file, self.seeds[name]) for name, file in files.items()}

    def logits(self, o: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Return the student's logits on the test split [N, C] and the labels [N], of the seed that figures show."""
        file, seed = self.results / "predictions" / f"{o.name}.parquet", self.seeds[o.name]
        z, y = read_logits(file, seed, str(o.student), o.correct()[seed][0], len(self.classes))
        return z, y

    @property
    def representative(self) -> Outcome | None:
        """The method whose errors are shown: the reference, else the first that trains a student, if it ended."""
        return next((o for o in self.students if o.name == self.reference), next(iter(self.students), None))

    @property
    def shown_seeds(self) -> str:
        """The seeds that figures show, e.g. "seed 0 (orc: seed 1)"; empty if all methods diverged."""
        if not self.seeds:
            return ""
        usual = Counter(self.seeds.values()).most_common(1)[0][0]
        others = ", ".join(f"{name}: seed {seed}" for name, seed in self.seeds.items() if seed != usual)
        return f"seed {usual} ({others})" if others else f"seed {usual}"


def render(results: Results, parameters: dict[str, Any], *, notes: list[str], images: np.ndarray | None) -> str:
    """Return the HTML of the page.

    Names from the data and from params.yaml are untrusted: the template, the figures' labels and Matplotlib escape
    them.

    Args:
        results: What the page shows.
        parameters: The parameters to print, besides each method's own section.
        notes: The lines below the tables (pipeline.evaluation.notes).
        images: The test images, [N, H, W, C_in] uint8, or None if they are not in memory.

    Raises:
        DataError: If a file is missing or damaged, or if the images are not those that were evaluated.
    """
    sections = [("Accuracy and cost", list(overview(results)))]
    sections += [(o.name, list(method_section(results, o))) for o in results.ended]
    cost = results.outcomes[0].cost
    method_parameters = {o.name: o.cost["parameters"].get(o.name) for o in results.outcomes}
    return TEMPLATES.get_template("page.html.j2").render(
        tables=tables(results.outcomes, results.reference, results.margin),
        notes=notes,
        sections=[(name, section) for name, section in sections if section],
        errors=described_errors(results, images),
        reference=None if no_comparison(results.outcomes, results.reference) else results.reference,
        environment=json.dumps(cost["environment"], indent=2),
        parameters=json.dumps({**parameters, **method_parameters}, indent=2, default=str),
        seeds=results.shown_seeds,
    )


def described_errors(results: Results, images: np.ndarray | None) -> dict[str, Any] | None:
    """Return the name, tables and wrongly classified images of the representative method, or None without one."""
    if (o := results.representative) is None:
        return None
    z, y = results.logits(o)
    return {
        "method": o.name,
        "seed": results.seeds[o.name],
        "tables": [table(z, y, results.classes) for table in (errors.class_table, errors.confusion_table)],
        "n_wrong": int((z.argmax(1) != y).sum()),
        "mistakes": [] if images is None else errors.mistakes(z, y, results.classes, images),
    }


def method_section(results: Results, o: Outcome) -> Iterator[CaptionedFigure]:
    """Yield the figures of one method, none if its implementation has no entry in METHOD_FIGURES."""
    if o.kind in METHOD_FIGURES:
        yield from METHOD_FIGURES[o.kind](o, results.histories[o.name], results.results)


def overview(results: Results) -> Iterator[CaptionedFigure]:
    """Yield the figures that compare all methods."""
    for key, unit, cost in (("macs", "", "MACs"), ("latency_ms", "s", "latency")):
        points = accuracy_by_cost(results, key)
        if points:
            title = "multiply-accumulate operations (MACs)" if key == "macs" else "latency for one image"
            figure = figures.scatter(points, f"test accuracy by {cost}", title, "test top-1 (%)", unit)
            yield (f"Test top-1 of each network by {title}.", figure)
    if not results.students:
        return
    curves = {o.name: results.histories[o.name].of(str(o.student), "validation/top1") for o in results.students}
    figure = figures.lines(curves, "learning curves", "epoch", "validation top-1 (%)")
    yield (f"Learning curves of the student (validation, {results.shown_seeds}).", figure)
    methods = [o for o in results.students if not o.control] or results.students
    bins = {o.name: metrics.reliability_curve(*results.logits(o)) for o in methods}
    figure = figures.reliability_diagram(bins, "reliability diagram")
    yield ("Reliability diagram (test). Below the diagonal: overconfident.", figure)
    if (o := results.representative) is not None:
        counts = metrics.confusion(*results.logits(o))
        figure = figures.heatmap(counts, results.classes, f"confusion matrix of {o.name}", "prediction", "label")
        yield (f"Confusion matrix of {o.name} (test).", figure)


def accuracy_by_cost(results: Results, key: str) -> figures.Series:
    """Return the cost and the test top-1 (percent) of every student and guide whose cost is known.

    Args:
        results: The results to read.
        key: The cost, "macs" (operations per image) or "latency_ms" (returned in seconds, for one image).
    """
    points: dict[str, tuple[list[float], list[float]]] = {}
    for o in results.ended:
        result = o.seeds[results.seeds[o.name]]
        student = {o.student: result["networks"][o.student]} if o.student else {}
        for name, tested in {**student, **result.get("guides", {})}.items():
            cost = o.cost["networks"].get(name, {}).get(key)
            label = o.name if name == o.student else name
            if cost and label not in points:
                cost = cost["1"] / 1e3 if isinstance(cost, dict) else cost
                points[label] = ([cost], [tested["last"]["top1"]])
    return points


def write_curves(results: Results, file: Path) -> None:
    """Write the student's validation accuracy by method and epoch, for `dvc plots`.

    The columns are method, epoch and top1 (percent). A method that diverged in all seeds has no rows.
    """
    curves = [
        results.histories[o.name].curve(str(o.student)).select(pl.lit(o.name).alias("method"), "epoch", "top1")
        for o in results.students
    ]
    header = pl.DataFrame(schema={"method": pl.String, "epoch": pl.Int64, "top1": pl.Float64})
    pl.concat([header, *curves]).write_csv(file)


def write_confusion(results: Results, file: Path) -> None:
    """Write how many test images of each label got each prediction, for `dvc plots`.

    The columns are label, prediction and images. Pairs without an image have no row; without a student, the file holds
    only its header.
    """
    o = results.representative
    names = np.array(results.classes)
    z, y = results.logits(o) if o else (np.zeros((0, len(names))), np.zeros(0, int))
    counts = metrics.confusion(z, y)
    label, prediction = counts.nonzero()
    table = {"label": names[label], "prediction": names[prediction], "images": counts[label, prediction]}
    pl.DataFrame(table).write_csv(file)

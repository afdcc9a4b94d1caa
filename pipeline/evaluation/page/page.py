"""The report as one self-contained HTML page, and the data of DVC's plots.

The module reads results/ and decides which figures appear. It does not compute metrics, and the page needs neither a
script nor a network connection.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader

from pipeline.evaluation import metrics
from pipeline.evaluation.comparison import REFERENCE, Outcome, train_file
from pipeline.evaluation.page import figures
from pipeline.evaluation.page.history import History
from pipeline.evaluation.page.method_figures import METHOD_FIGURES, CaptionedFigure
from pipeline.evaluation.predictions import read_logits
from pipeline.evaluation.table import tables

TEMPLATES = Environment(
    loader=PackageLoader("pipeline.evaluation.page", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


class Results:
    """Everything that the page reads. Figures show the first seed only.

    Args:
        results: The folder results/.
        outcomes: The outcomes of all methods, at least one.
    """

    def __init__(self, results: Path, outcomes: list[Outcome]):
        self.results, self.outcomes, self.classes = results, outcomes, outcomes[0].classes
        self.seed = next(iter(outcomes[0].seeds))
        self.histories = {o.name: History(train_file(results, o, "history.csv"), self.seed) for o in outcomes}
        self.students = [o for o in outcomes if o.student]

    def logits(self, o: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Return the student's logits on the test split [N, C] and the labels [N], of the first seed."""
        file = self.results / "predictions" / f"{o.name}.parquet"
        z, y = read_logits(file, self.seed, str(o.student), o.correct()[self.seed], len(self.classes))
        return z, y

    @property
    def representative(self) -> Outcome | None:
        """The method whose confusion is shown: kd, else the first that trains a student."""
        return next((o for o in self.students if o.name == REFERENCE), next(iter(self.students), None))


def render(results: Results, parameters: dict[str, Any]) -> str:
    """Return the HTML of the page.

    Names from the data and from params.yaml are untrusted: the template, the figures' labels and Matplotlib escape
    them.

    Args:
        results: What the page shows.
        parameters: The parameters to print, besides each method's own section.
    """
    sections = [("Accuracy and cost", list(overview(results)))]
    sections += [(o.name, section) for o in results.outcomes if (section := list(method_section(results, o)))]
    cost = results.outcomes[0].cost
    method_parameters = {o.name: o.cost["parameters"].get(o.name) for o in results.outcomes}
    return TEMPLATES.get_template("page.html.j2").render(
        tables=tables(results.outcomes),
        sections=sections,
        reference=REFERENCE,
        environment=json.dumps(cost["environment"], indent=2),
        parameters=json.dumps({**parameters, **method_parameters}, indent=2, default=str),
        seed=results.seed,
    )


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
    yield (f"Learning curves of the student (validation, seed {results.seed}).", figure)
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
    for o in results.outcomes:
        result = o.seeds[results.seed]
        student = {o.student: result["networks"][o.student]} if o.student else {}
        for name, tested in {**student, **result.get("guides", {})}.items():
            cost = o.cost["networks"].get(name, {}).get(key)
            label = o.name if name == o.student else name
            if cost and label not in points:
                cost = cost["1"] / 1e3 if isinstance(cost, dict) else cost
                points[label] = ([cost], [tested["last"]["top1"]])
    return points


def write_curves(results: Results, folder: Path) -> None:
    """Write the student's validation accuracy by epoch to METHOD.csv, for `dvc plots`. Replaces the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for o in results.students:
        results.histories[o.name].curve(str(o.student)).write_csv(folder / f"{o.name}.csv")


def write_confusion(results: Results, file: Path) -> None:
    """Write the label and the prediction of every test image, for `dvc plots`. Only the header without a student."""
    o = results.representative
    names = np.array(results.classes)
    z, y = results.logits(o) if o else (np.zeros((0, len(names))), np.zeros(0, int))
    pl.DataFrame({"label": names[y], "prediction": names[z.argmax(1)]}).write_csv(file)

"""The report as one self-contained HTML page, and the data of DVC's plots.

The module reads results/ and decides which figures appear. It does not compute metrics, and the page needs neither a
script nor a network connection.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader

from pipeline.evaluation import metrics
from pipeline.evaluation.comparison import no_comparison
from pipeline.evaluation.outcomes import Outcome
from pipeline.evaluation.page import errors, figures
from pipeline.evaluation.page.method_figures import METHOD_FIGURES, CaptionedFigure
from pipeline.evaluation.page.overview import accuracy_figures, overview
from pipeline.evaluation.page.results import Results
from pipeline.evaluation.table import tables
from pipeline.storage.atomic import replace_file

TEMPLATES = Environment(
    loader=PackageLoader("pipeline.evaluation.page", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


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
    """Return the errors of the representative method, or None without one or without predictions."""
    if (o := results.representative) is None or not results.has_predictions:
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


def write_picture(results: Results, file: Path) -> None:
    """Write the test accuracy of every method as an SVG file, for documents. Without a student, there is none."""
    for _, markup in accuracy_figures(results):
        replace_file(file, [figures.standalone(markup).encode()])


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

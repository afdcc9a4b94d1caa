"""The report as one self-contained page."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader

from pipeline.evaluation import metrics
from pipeline.evaluation.comparison import Outcome
from pipeline.evaluation.page import figures
from pipeline.evaluation.page.history import History
from pipeline.evaluation.page.stories import STORIES, Shown
from pipeline.evaluation.table import tables

TEMPLATES = Environment(
    loader=PackageLoader("pipeline.evaluation.page", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


class Results:
    """What the page reads besides the outcomes. seed: the first, which curves and matrices are of."""

    def __init__(self, results: Path, outcomes: list[Outcome], classes: list[str]):
        self.results, self.outcomes, self.classes = results, outcomes, classes
        self.seed = next(iter(outcomes[0].seeds))
        self.histories = {o.name: History(results / "train" / o.name / "history.csv", self.seed) for o in outcomes}
        self.students = [o for o in outcomes if o.student]

    def logits(self, o: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """The student's logits [N, C] on the test split, and the labels."""
        table = pl.read_parquet(self.results / "predictions" / f"{o.name}.parquet")
        own = table.filter((pl.col("seed") == self.seed) & (pl.col("network") == o.student))
        return own["logits"].to_numpy(), own["label"].to_numpy()


def render(results: Results, parameters: dict[str, Any]) -> str:
    """The page's HTML. Every name that comes from data or parameters is escaped by the template or by matplotlib."""
    sections = [("Accuracy and cost", list(overview(results)))]
    sections += [(o.name, shown) for o in results.outcomes if (shown := list(story(results, o)))]
    cost = results.outcomes[0].cost
    own = {o.name: o.cost["parameters"].get(o.name) for o in results.outcomes}
    return TEMPLATES.get_template("page.html.j2").render(
        tables=tables(results.outcomes),
        sections=sections,
        environment=json.dumps(cost["environment"], indent=2),
        parameters=json.dumps({**parameters, **own}, indent=2, default=str),
        seed=results.seed,
    )


def story(results: Results, o: Outcome) -> Iterator[Shown]:
    if o.kind in STORIES:
        yield from STORIES[o.kind](o, results.histories[o.name], results.results)


def overview(results: Results) -> Iterator[Shown]:
    """Figures of all methods together."""
    for kind, unit, what in (("macs", "", "multiply-adds"), ("latency_ms", "s", "latency of one image")):
        points = costs(results, kind)
        if points:
            drawn = figures.points(points, f"accuracy against {what}", what, "test top-1, %", unit)
            yield (f"Test top-1 against {what} of every network.", drawn)
    if not results.students:
        return
    curves = {o.name: results.histories[o.name].of(str(o.student), "validation/top1") for o in results.students}
    caption = f"The student on validation, seed {results.seed}."
    yield (caption, figures.curves(curves, "learning curves", "epoch", "validation top-1, %"))
    main = [o for o in results.students if not o.is_control] or results.students
    bins = {o.name: calibration(*results.logits(o)) for o in main}
    yield ("Reliability on the test split: below the line is too sure.", figures.reliability(bins, "reliability"))
    chosen = next((o for o in results.students if o.name == "kd"), results.students[0])
    counts = metrics.confusion(*results.logits(chosen))
    label = f"confusion of {chosen.name}"
    yield (f"Confusion of {chosen.name}.", figures.matrix(counts, results.classes, label, "prediction", "label"))


def costs(results: Results, kind: str) -> figures.Series:
    """Method or guide -> cost (multiply-adds, or seconds of one image) and accuracy of its networks."""
    points: dict[str, tuple[list[float], list[float]]] = {}
    for o in results.outcomes:
        result = o.seeds[results.seed]
        named = {o.student: result["networks"][o.student]} if o.student else {}
        for name, tested in {**named, **result.get("guides", {})}.items():
            cost = o.cost["networks"].get(name, {}).get(kind)
            group = o.name if name == o.student else name
            if cost and group not in points:
                cost = cost["1"] / 1e3 if isinstance(cost, dict) else cost
                points[group] = ([cost], [tested["last"]["top1"]])
    return points


def calibration(z: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean confidence and accuracy of each bin that has images."""
    p = np.exp(metrics.log_softmax(z))
    confidence, right = p.max(1), z.argmax(1) == y
    bin_of = np.clip(np.ceil(confidence * metrics.BINS).astype(int) - 1, 0, metrics.BINS - 1)
    filled = np.unique(bin_of)
    return (
        [float(confidence[bin_of == b].mean()) for b in filled],
        [float(right[bin_of == b].mean()) for b in filled],
    )


def write_curves(results: Results, folder: Path) -> None:
    """METHOD.csv with epoch and top1 on validation, for `dvc plots`, in place of what is in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for o in results.students:
        results.histories[o.name].curve(str(o.student)).write_csv(folder / f"{o.name}.csv")


def write_confusion(results: Results, file: Path) -> None:
    """label and prediction of every test image by kd, else by the first method, for `dvc plots`."""
    chosen = next((o for o in results.students if o.name == "kd"), None) or (results.students or [None])[0]
    names = np.array(results.classes)
    z, y = results.logits(chosen) if chosen else (np.zeros((0, len(names))), np.zeros(0, int))
    pl.DataFrame({"label": names[y], "prediction": names[z.argmax(1)]}).write_csv(file)

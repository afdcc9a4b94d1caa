"""Figures about the inner workings of single methods, as pairs of a caption and SVG markup.

The module knows the history's terms of ORC, DGKD and Cooperative. A method without an entry in METHOD_FIGURES has no
section on the page.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import first_line
from pipeline.evaluation.outcomes import Outcome, train_file
from pipeline.evaluation.page import figures, panels
from pipeline.evaluation.page.history import History
from pipeline.evaluation.page.panels import Interval
from pipeline.storage.documents import damaged

CaptionedFigure = tuple[str, str]
"""The caption and the SVG markup of a figure."""
MAX_IMAGE_FIGURES = 3
MAX_CLASSES = 12  # bars of the feedback by class
LONGEST = 14  # characters of a class below a bar
SHEETS = "sheets.npz"


def orc(o: Outcome, history: History, results: Path) -> Iterator[CaptionedFigure]:
    """Yield ORC's temporary teachers, teachings, pivot accuracy and feedback."""
    students = history.networks("promoted")
    if len(students) > 1:
        promoted = {s: history.of(s, "promoted") for s in students}
        yield (
            "Temporary teacher: share of each epoch's batches in which a student is promoted. It gets private teaching "
            "in these batches, and group teaching in the others.",
            figures.stacked_areas(promoted, f"{o.name}: temporary teachers", "epoch", "share of batches"),
        )
    epochs, top1 = history.of("pivot", "validation/top1")
    if epochs:
        confidence = history.of("pivot", "validation/confidence")[1]
        teacher = validation_of_teacher(o)
        at_0 = ([], []) if teacher is None else ([0], [teacher])
        series = {
            "top-1": ([*at_0[0], *epochs], [*at_0[1], *top1]),
            "mean confidence": (epochs, [100 * v for v in confidence]),
        }
        where = "" if teacher is None else "; at epoch 0 it is the teacher"
        yield (
            f"Pivot (validation){where}. Intensive teaching should not lower its accuracy.",
            figures.lines(series, f"{o.name}: pivot", "epoch", "%"),
        )
    feedback = {term: value for (_, term), value in history.means("feedback/").items()}
    if feedback:
        most = sorted(feedback, key=lambda term: -feedback[term])[:MAX_CLASSES]
        which = f", the {MAX_CLASSES} most frequent" if len(feedback) > MAX_CLASSES else ""
        feedback = by_class_name(o, {term: value for term, value in feedback.items() if term in most})
        yield (
            f"Feedback: mean number of images per batch returned to the pivot, by class{which}.",
            figures.bars(feedback, f"{o.name}: feedback by class", "images per batch"),
        )


def validation_of_teacher(o: Outcome) -> float | None:
    """Return the teacher's validation accuracy in the first seed (percent), with the last weights, or None."""
    teacher = next(iter(o.seeds.values()))["guides"].get("teacher")
    return teacher["validation"]["last"] if teacher and teacher["validation"] else None


def by_class_name(o: Outcome, values: dict[str, float]) -> dict[str, float]:
    """Return values by class number as values by class name, shortened to what fits below a bar."""
    named: dict[str, float] = {}
    for number, value in values.items():
        name = o.classes[int(number)]
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
        named[number if short in named else short] = value
    return named


def dgkd(o: Outcome, history: History, results: Path) -> Iterator[CaptionedFigure]:
    """Yield DGKD's guide survival rates and distillation losses."""
    survived = {guide: value for (_, guide), value in history.means("survived/").items()}
    if survived and min(survived.values()) < 1:  # otherwise every bar is one
        section = o.cost["parameters"].get(o.name) or {}
        survival = None if section.get("drop") == "one" else section.get("survival")
        dashed = "" if survival is None else " Dashed: the survival probability."
        yield (
            f"Guide survival: share of batches in which each guide is kept.{dashed}",
            figures.bars(survived, f"{o.name}: guide survival", "share of batches", survival),
        )
    guides = [term for (_, term) in history.means("kd/")]
    if guides and o.student:
        series = {g: history.of(o.student, f"kd/{g}") for g in guides}
        yield (
            "Distillation loss towards each guide.",
            figures.lines(series, f"{o.name}: distillation losses", "epoch", "loss"),
        )


def cooperative(o: Outcome, history: History, results: Path) -> Iterator[CaptionedFigure]:
    """Yield Cooperative's teaching opportunities, counterfactual statistics and example counterfactuals."""
    members = o.members
    counts = np.zeros((len(members), len(members)))
    for (student, teacher), value in history.means("qualified/").items():
        if student in members and teacher in members:
            counts[members.index(teacher), members.index(student)] = value
    section = o.cost["parameters"].get(o.name) or {}
    if counts.any():
        by_class = section.get("expertise") == "class"
        which = ", of classes in which only i is an expert" if by_class else " and member j does not"
        yield (
            f"|R(i to j)|: images that member i classifies correctly{which}.",
            figures.heatmap(counts, members, f"{o.name}: teaching opportunities", "student j", "teacher i"),
        )
    p_y = history.means("p_y/")
    moved = {
        member: Interval(p_y[member, "after"], p_y[member, "before"], p_y[member, "after"])
        for member in members
        if p_y.get((member, "before"), 0.0) != p_y.get((member, "after"), 0.0)
    }
    if moved:
        label = "mean probability of the label"
        whose = "the member" if section.get("counterfactual_of") == "student" else "their teachers"
        yield (
            f"Counterfactuals for a member: {label} by {whose}, from the original to the counterfactual (dot).",
            panels.intervals(moved, f"{o.name}: probability of the label", label),
        )
    for term, what in (
        ("success", "share within the tolerance of the target"),
        ("distance", "distance to the original"),
    ):
        values = {network: value for (network, rest), value in history.means(term).items() if not rest}
        if values and set(values.values()) != {1.0}:
            yield (f"Counterfactuals: {what}.", figures.bars(values, f"{o.name}: {term}", what))
    if SHEETS in o.cost["sha256"]:
        for name, (before, after) in read_sheets(train_file(results, o.name, o.cost, SHEETS)).items():
            yield (
                f"Counterfactuals that teach {name}: original x, counterfactual x', and difference x' - x.",
                figures.image_pairs(before, after, f"{o.name}: counterfactuals of {name}"),
            )


def read_sheets(file: Path) -> dict[str, np.ndarray]:
    """Return the first MAX_IMAGE_FIGURES pairs of images in sheets.npz, [2, N, H, W, C_in] uint8 by name.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as sheets:
            pairs = {name: sheets[name] for name in list(sheets)[:MAX_IMAGE_FIGURES]}
    except Exception as error:  # a damaged archive raises many types
        raise damaged(file, first_line(error)) from None
    for name, pair in pairs.items():
        if pair.dtype != np.uint8 or pair.ndim != 5 or len(pair) != 2 or pair.size == 0 or pair.shape[-1] not in (1, 3):
            raise damaged(file, f"{name} does not hold pairs of images")
    return pairs


METHOD_FIGURES: dict[str, Callable[[Outcome, History, Path], Iterator[CaptionedFigure]]] = {
    "orc": orc,
    "dgkd": dgkd,
    "cooperative": cooperative,
}
"""Maps a module of pipeline/methods to the function that yields its figures."""

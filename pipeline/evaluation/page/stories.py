"""What a person wants to see inside each method: pairs of a caption and a figure."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.evaluation.comparison import Outcome
from pipeline.evaluation.page import figures
from pipeline.evaluation.page.history import History

Shown = tuple[str, str]  # caption, markup


def orc(o: Outcome, history: History, results: Path) -> Iterator[Shown]:
    """Who was temporary teacher, what became of the pivot, which teachings happened, what was fed back."""
    students = history.networks("promoted")
    if len(students) > 1:
        promoted = {s: history.of(s, "promoted") for s in students}
        yield (
            "Who was the temporary teacher: each student's share of an epoch's batches.",
            figures.shares(promoted, f"{o.name}: temporary teachers", "epoch", "share of batches"),
        )
        means = {s: float(np.mean(values)) for s, (_, values) in promoted.items()}
        fired = {f"private {s}": v for s, v in means.items()} | {f"group {s}": 1 - v for s, v in means.items()}
        if history.of("pivot", "intensive")[0]:
            fired = {"intensive": 1.0} | fired
        yield (
            "How often each teaching fired, as a share of all batches.",
            figures.bars(fired, f"{o.name}: teachings", "share of batches"),
        )
    if history.of("pivot", "validation/top1")[0]:
        epochs, top1 = history.of("pivot", "validation/top1")
        confident = history.of("pivot", "validation/confidence")[1]
        series = {"top-1": (epochs, top1), "mean confidence": (epochs, [100 * v for v in confident])}
        yield (
            "The pivot on validation: intensive teaching should not make it worse.",
            figures.curves(series, f"{o.name}: pivot", "epoch", "%"),
        )
    feedback = {term: value for (_, term), value in history.terms("feedback/").items()}
    if feedback:
        yield (
            "Feedback: how many images of each class a batch feeds back to the pivot.",
            figures.bars(feedback, f"{o.name}: feedback by class", "images in a batch"),
        )


def dgkd(o: Outcome, history: History, results: Path) -> Iterator[Shown]:
    """How often each guide survived, and what each term cost."""
    survived = {guide: value for (_, guide), value in history.terms("survived/").items()}
    if survived:
        yield (
            "How often each guide was kept.",
            figures.bars(survived, f"{o.name}: survival", "share of batches", o.cost["parameters"][o.name]["survival"]),
        )
    guides = [term for (_, term) in history.terms("kd/")]
    if guides and o.student:
        series = {g: history.of(o.student, f"kd/{g}") for g in guides}
        yield ("The term of each guide.", figures.curves(series, f"{o.name}: terms", "epoch", "loss"))


def cooperative(o: Outcome, history: History, results: Path) -> Iterator[Shown]:
    """Who could teach whom, how far images were moved, and some of them."""
    members = o.members
    counts = np.zeros((len(members), len(members)))
    for (student, teacher), value in history.terms("qualified/").items():
        if student in members and teacher in members:
            counts[members.index(teacher), members.index(student)] = value
    if counts.any():
        label = f"{o.name}: who can teach whom"
        yield (
            "|R(i to j)|: images that i has right and j has wrong.",
            figures.matrix(counts, members, label, "student j", "teacher i"),
        )
    for term, what in (("success", "share that reached the target"), ("distance", "distance moved")):
        values = {network: value for (network, rest), value in history.terms(term).items() if not rest}
        if values:
            yield (f"Counterfactuals: {what}.", figures.bars(values, f"{o.name}: {term}", what))
    file = results / "train" / o.name / "sheets.npz"
    if file.exists():
        with np.load(file) as sheets:
            for name in list(sheets)[:3]:
                before, after = sheets[name]
                label = f"{o.name}: counterfactuals of {name}"
                yield (
                    f"Counterfactuals that teach {name}: x, x', and the difference.",
                    figures.pictures(before, after, label),
                )


STORIES = {"orc": orc, "dgkd": dgkd, "cooperative": cooperative}

"""The lines below the tables: what a reader has to know about the comparison, and warnings about a small test split.

The module formats text from outcomes and labels. It reads no file.
"""

from collections.abc import Sequence
from math import isclose

import numpy as np

from pipeline.evaluation.comparison import no_comparison
from pipeline.evaluation.loss_weights import differing, matching
from pipeline.evaluation.outcomes import Outcome

COST = (
    "cost: multiply-adds of all training that a student (or a group) needs, in forward passes of the student on one "
    "image; given a teacher, the training of the teacher is left out; train (s) is the time of the last run alone"
)
FEW_IMAGES = 100  # test images below which a warning appears
FEW_OF_A_CLASS = 5  # test images of a class below which a warning appears
SAME_LOSS = 1e-4  # relative difference of the test NLL of the same weights on two processors, at most

NO_FALSE_KNOWLEDGE = "no teacher errs on the training images, so there is no false knowledge that a student could learn"


def notes(outcomes: list[Outcome], reference: str, labels: np.ndarray | None, teacher_per_seed: bool) -> list[str]:
    """Return one line for each note on the results, for the terminal, results/table.md and the page.

    Args:
        outcomes: The outcomes of all methods, at least one.
        reference: The method to compare with, `report.reference` of params.yaml.
        labels: The labels of the test split, [N] int64; None where they are not kept.
        teacher_per_seed: Whether a teacher and a chain of assistants were trained for each seed.
    """
    missing = no_comparison(outcomes, reference)
    return [
        *([missing] if missing else []),
        *(note for o in outcomes if (note := divergence_note(o))),
        *(note for o in outcomes if (note := weights_note(o, outcomes))),
        *([other] if (other := other_teachers(outcomes, reference)) else []),
        *([teacher_note(teacher_per_seed)] if outcomes[0].n_seeds > 1 else []),
        *([COST] if any(o.seeds for o in outcomes) else []),
        *([NO_FALSE_KNOWLEDGE] if teachers_never_err(outcomes) else []),
        *([] if labels is None else split_warnings(labels, len(outcomes[0].classes))),
        tuning_note(outcomes),
    ]


def teachers_never_err(outcomes: list[Outcome]) -> bool:
    """Return whether teachers were measured on training images and none of them made an error."""
    shares = [share for o in outcomes for share in o.training("teacher_errors").values()]
    return bool(shares) and not any(shares)


def teacher_note(per_seed: bool) -> str:
    """Return whether the spread over seeds contains that of the teacher."""
    if per_seed:
        return "each seed has its own teacher and assistants, so that the spread contains theirs"
    return "all seeds have the same teacher, so that the spread does not contain the teacher's"


def other_teachers(outcomes: list[Outcome], reference: str) -> str | None:
    """Return which methods have another teacher than the reference in the same seed, or None if none has.

    Seeds from several machines can have teachers of their own. If the reference has no teacher, methods are compared
    with the first that has one.

    Args:
        outcomes: The outcomes of all methods.
        reference: The method to compare with.
    """
    teachers = {o.name: found for o in outcomes if (found := teacher_losses(o))}
    base = reference if reference in teachers else next(iter(teachers), reference)
    differing: dict[str, list[int]] = {}
    for name, losses in teachers.items():
        common = [seed for seed in losses if seed in teachers[base]]
        if seeds := [seed for seed in common if not isclose(losses[seed], teachers[base][seed], rel_tol=SAME_LOSS)]:
            differing[name] = seeds
    if not differing:
        return None
    who = listed([f"{name} ({'seed' if len(s) == 1 else 'seeds'} {listed(s)})" for name, s in differing.items()])
    has, its = ("has", "its") if len(differing) == 1 else ("have", "their")
    return f"warning: {who} {has} another teacher than {base}, so that {its} differences contain those of teachers"


def teacher_losses(o: Outcome) -> dict[int, float]:
    """Return the teacher's NLL on the test split, by seed, for a student that learnt from its networks.

    DML's results have a teacher, too, from which nothing is learnt; they have no false knowledge.
    """
    taught = {seed: r for seed, r in o.seeds.items() if r.get("false_knowledge") is not None}
    teachers = {seed: r.get("guides", {}).get("teacher") for seed, r in taught.items()}
    return {seed: teacher["last"]["nll"] for seed, teacher in teachers.items() if teacher}


def listed(parts: Sequence[object]) -> str:
    """Return "a", "a and b", or "a, b and c"."""
    return " and ".join(filter(None, (", ".join(map(str, parts[:-1])), str(parts[-1]))))


def tuning_note(outcomes: list[Outcome]) -> str:
    """Return whether the methods had the same chance to choose their parameters, which a comparison presupposes."""
    trials = [o.tuning.trials if o.tuning else 0 for o in outcomes]
    if not any(trials):
        return "not tuned: every method has the parameters that params.yaml gives it"
    unused = [o.name for o in outcomes if o.tuning and not o.tuning.adopted]
    low, high = min(trials), max(trials)
    budget = f"{low} trials" if low == high else f"different numbers of trials, {low} to {high}"
    rest = f"; the best parameters of {', '.join(unused)} are not adopted" if unused else ""
    return f"tuned on validation: the methods had {budget}{rest}"


def weights_note(o: Outcome, outcomes: list[Outcome]) -> str | None:
    """Return which loss weights of a control differ from those of its method, or None if they are the same."""
    method = next((other for other in outcomes if other.name == o.weights_of), None)
    if method is None or not o.seeds or not method.seeds:
        return None
    try:
        wanted = matching(o.kind, method.kind, method.section, method.others, len(o.classes))
    except KeyError as error:  # of an older version
        return (
            f"warning: the results of {method.name} lack its parameter {error.args[0]}, so that its loss weights are "
            f"not compared with those of {o.name}"
        )
    if not wanted:
        return f"warning: {o.name} cannot have the loss weights of {method.name}"
    wrong = differing(o.section, wanted)
    has = ", ".join(f"{key} {o.section.get(key)} instead of {value}" for key, value in wrong.items())
    return f"warning: {o.name} does not have the loss weights of {method.name}: {has}" if wrong else None


def divergence_note(o: Outcome) -> str | None:
    """Return which seeds of a method diverged and where the first of them did, or None if all ended."""
    if not o.diverged:
        return None
    (first, where), n = next(iter(o.diverged.items())), len(o.diverged)
    which = f"seed {first}" if n == 1 else f"{n} of {o.n_seeds} seeds"
    at = f"{where['term']} of {o.where_diverged}"
    return f"diverged: {which} of {o.name} ({at if n == 1 else f'seed {first}: {at}'})"


def split_warnings(labels: np.ndarray, n_classes: int) -> list[str]:
    """Return a warning if the test split has few images, and one if a class has few.

    Args:
        labels: The labels of the test split, [N] int64, at least one.
        n_classes: Number of classes.
    """
    n, found = len(labels), []
    if n < FEW_IMAGES:
        images = "1 image" if n == 1 else f"only {n} images"
        found.append(
            f"warning: the test split has {images}: one image is {100 / n:.1f} percentage points of accuracy, "
            "so that small differences between methods cannot be shown"
        )
    sizes = np.bincount(labels, minlength=n_classes)
    few = int((sizes < FEW_OF_A_CLASS).sum())
    if few:
        found.append(
            f"warning: the test split has fewer than {FEW_OF_A_CLASS} images of {few} of {n_classes} classes "
            f"(the smallest has {sizes.min()}): accuracies of these classes say little"
        )
    return found

"""The loss weights of a method, and the parameters that give a control the same ones.

The module reads parameters as plain data, so that the report needs no torch. It reads no file. The equations are those
of pipeline/methods; tests compare the weights with a step of each method.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

KD_KINDS = ("kd", "multiteacher")  # with the parameters ce_weight and kd_weight
OWN = ("beta", "lam", "normalise")  # of the kinds that have other ones
PIVOT = "pivot"
TOLERANCE = 1e-3  # relative: params.yaml has weights of three or four digits
DIGITS = 6


def loss_weights(
    kind: str, section: Mapping[str, Any], others: Sequence[str], n_classes: int
) -> tuple[float, float] | None:
    """Return the weight of cross-entropy and the total weight of the KD terms in the loss of the student.

    In ORC they are those of a student that is not promoted, if not all are. Where DGKD drops guides at random, they are
    means over batches.

    Args:
        kind: The method's file in pipeline/methods.
        section: The method's parameters, as params.yaml has them.
        others: Names of the networks beside the student: the guides of DGKD, the pivot and the other students of ORC.
        n_classes: Number of classes.

    Returns:
        The two weights, or None if no KD has the same ones.

    Raises:
        KeyError: If the section lacks a parameter.
    """
    if kind == "multiteacher" and section["weights"] == "filter":
        return None  # the weights of an image sum to at most kd_weight
    if kind in KD_KINDS:
        return section["ce_weight"], section["kd_weight"]
    if kind == "takd":
        return 1 - section["lam"], section["lam"]
    if kind == "orc":
        return weights_of_orc(section, n_students=1 + len([name for name in others if name != PIVOT]))
    return weights_of_dgkd(section, others, n_classes) if kind == "dgkd" else None


def weights_of_orc(section: Mapping[str, Any], *, n_students: int) -> tuple[float, float]:
    """Return the weights of cross-entropy and KD of a student in ORC.

    Args:
        section: The parameters.
        n_students: Number of students.
    """
    all_promoted = section["promoted"] >= n_students
    if not section["teachings"]["private" if all_promoted else "group"]:
        return 1.0, 0.0
    one_term = all_promoted or section["normalise"] == "mean" or section["guidance"] == "ensemble"
    return 1 - section["beta"], section["beta"] * (1 if one_term else section["promoted"] + 1)


def weights_of_dgkd(section: Mapping[str, Any], guides: Sequence[str], n_classes: int) -> tuple[float, float]:
    """Return the weights of cross-entropy and KD of a student in DGKD.

    Args:
        section: The parameters.
        guides: The names of the guides, at least one.
        n_classes: Number of classes.
    """
    lam = {g: section["lam"][g] if isinstance(section["lam"], Mapping) else section["lam"] for g in guides}
    ce = sum(1 - weight for weight in lam.values())
    kd = sum(weight * kept(guide, section, guides) for guide, weight in lam.items())
    n = len(guides)
    ce_parts, kd_parts = {"sum": (1, 1), "mean": (n, n), "released": (n, n_classes)}[section["normalise"]]
    return ce / ce_parts, kd / kd_parts


def kept(guide: str, section: Mapping[str, Any], guides: Sequence[str]) -> float:
    """Return the share of the batches in which DGKD keeps a guide."""
    if guide == "teacher" and not section["drop_teacher"]:
        return 1.0
    if section["drop"] == "bernoulli":
        return section["survival"]
    droppable = [g for g in guides if g != "teacher" or section["drop_teacher"]]
    return 1 - 1 / len(droppable) if len(guides) > 1 else 1.0


def matching(
    control: str, kind: str, section: Mapping[str, Any], others: Sequence[str], n_classes: int
) -> dict[str, Any]:
    """Return the parameters that give a control the loss weights of a method.

    Args:
        control: The control's file in pipeline/methods.
        kind: That of the method.
        section: The method's parameters, as params.yaml has them.
        others: Names of the networks beside its student.
        n_classes: Number of classes.

    Returns:
        Maps the control's parameters to their values. It is empty if the control cannot have these weights.

    Raises:
        KeyError: If the section lacks a parameter.
    """
    if control in KD_KINDS:
        weights = loss_weights(kind, section, others, n_classes)
        return dict(zip(("ce_weight", "kd_weight"), (round(w, DIGITS) for w in weights))) if weights else {}
    return {key: section[key] for key in OWN if key in section} if control == kind else {}


def differing(section: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the wanted parameters that a section does not have."""
    return {key: value for key, value in wanted.items() if not same(section.get(key), value)}


def same(a: Any, b: Any) -> bool:
    """Return whether two values of a parameter are the same up to TOLERANCE."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-9)
    return a == b

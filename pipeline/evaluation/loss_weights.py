"""The loss weights of a method, and the parameters that give a control the same ones.

The module reads parameters as plain data. It reads no file.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

KD_KINDS = ("kd", "multiteacher")  # with the parameters ce_weight and kd_weight
OWN = ("beta", "lam", "normalise")  # of the kinds that have other ones
TOLERANCE = 1e-3  # relative: params.yaml has weights of three or four digits
DIGITS = 6


def loss_weights(kind: str, section: Mapping[str, Any], guides: Sequence[str]) -> tuple[float, float] | None:
    """Return the weight of cross-entropy and the total weight of the KD terms in the loss of the student.

    In ORC they are those of a student that is not promoted. Where DGKD drops guides at random, they are means over
    batches.

    Args:
        kind: The method's file in pipeline/methods.
        section: The method's parameters, as params.yaml has them.
        guides: Names of the networks that guide the student. Only DGKD reads them.

    Returns:
        The two weights, or None if no KD has the same ones.
    """
    if kind in KD_KINDS:
        return section["ce_weight"], section["kd_weight"]
    if kind == "takd":
        return 1 - section["lam"], section["lam"]
    if kind == "orc":
        if not section["teachings"]["group"]:
            return 1.0, 0.0
        one_term = section["normalise"] == "mean" or section["guidance"] == "ensemble"
        return 1 - section["beta"], section["beta"] * (1 if one_term else section["promoted"] + 1)
    if kind == "dgkd" and section["normalise"] != "released" and guides:
        lam = [section["lam"][g] if isinstance(section["lam"], Mapping) else section["lam"] for g in guides]
        parts = len(guides) if section["normalise"] == "mean" else 1
        kd = sum(weight * kept(guide, section, guides) for guide, weight in zip(guides, lam))
        return sum(1 - weight for weight in lam) / parts, kd / parts
    return None


def kept(guide: str, section: Mapping[str, Any], guides: Sequence[str]) -> float:
    """Return the share of the batches in which DGKD keeps a guide."""
    if guide == "teacher" and not section["drop_teacher"]:
        return 1.0
    if section["drop"] == "bernoulli":
        return section["survival"]
    droppable = [g for g in guides if g != "teacher" or section["drop_teacher"]]
    return 1 - 1 / len(droppable) if len(guides) > 1 else 1.0


def matching(control: str, kind: str, section: Mapping[str, Any], guides: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that give a control the loss weights of a method.

    Args:
        control: The control's file in pipeline/methods.
        kind: That of the method.
        section: The method's parameters, as params.yaml has them.
        guides: Names of the networks that guide its student.

    Returns:
        Maps the control's parameters to their values. It is empty if the control cannot have these weights.
    """
    if control in KD_KINDS:
        weights = loss_weights(kind, section, guides)
        return dict(zip(("ce_weight", "kd_weight"), (round(w, DIGITS) for w in weights))) if weights else {}
    return {key: section[key] for key in OWN if key in section} if control == kind else {}


def differing(section: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the wanted parameters that a section does not have."""

    def same(a: Any, b: Any) -> bool:
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-9) if numbers else a == b

    return {key: value for key, value in wanted.items() if not same(section.get(key), value)}

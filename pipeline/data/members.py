"""The training images of each member of a cooperative group: it lacks whole classes and keeps a part of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.core.randomness import hash64
from pipeline.errors import ParamsError

KEY = "params.yaml: cooperative.members"


@dataclass(frozen=True)
class Member:
    """A member of the group.

    arch: its architecture.  lacks: labels of the classes that it never sees.  keeps: of every other class, a fraction
    of the images, or "i/n" for shard i of n.  options, copies: of an estimator, as in `interface.Network`.
    """

    arch: str
    lacks: tuple[int, ...]
    keeps: float | str
    options: dict[str, Any] = field(default_factory=dict)
    copies: int = 0


def members_of(section: Any, classes: Sequence[str], student_arch: str) -> dict[str, Member]:
    """Return the members that params.yaml defines, with classes resolved to labels.

    section: the value of `cooperative.members`: either `auto: K`, for K members of the student's architecture, of which
    the k-th lacks class k; or a mapping from names to `arch`, `lacks` and `keeps`. Without `lacks` (auto), the k-th
    member lacks class k modulo the number of classes.  classes: names by label.
    Raises ParamsError if a member lacks a class that the data do not have, or lacks every class.
    """
    auto = getattr(section, "auto", None)
    if auto is not None:
        if auto > len(classes):
            raise ParamsError(f"{KEY}.auto: {auto} members cannot each lack a different one of {len(classes)} classes")
        return {f"m{k}": Member(student_arch, (k,), 1.0) for k in range(auto)}
    members = {}
    for k, (name, spec) in enumerate(section.items()):
        named = [k % len(classes)] if spec.lacks is None else spec.lacks
        lacks = tuple(label_of(c, classes, f"{KEY}.{name}.lacks") for c in named)
        if len(set(lacks)) == len(classes):
            raise ParamsError(f"{KEY}.{name}.lacks: it lists every class: leave at least one to learn")
        members[name] = Member(spec.arch, lacks, spec.keeps, dict(spec.options), spec.copies)
    return members


def oracles(members: dict[str, Member]) -> dict[str, str]:
    """For each member the name of its oracle, the same learner trained on all images: all/ARCH.

    A second kind of options of an estimator is all/ARCH-2.
    """
    kinds: dict[str, list[tuple[dict[str, Any], int]]] = {}
    names = {}
    for name, member in members.items():
        of_arch, kind = kinds.setdefault(member.arch, []), (member.options, member.copies)
        if kind not in of_arch:
            of_arch.append(kind)
        number = of_arch.index(kind) + 1
        names[name] = f"all/{member.arch}" + (f"-{number}" if number > 1 else "")
    return names


def label_of(label_or_name: int | str, classes: Sequence[str], key: str) -> int:
    """The label of a class given by its label or its name. Raises ParamsError, which names `key`, if there is none."""
    if isinstance(label_or_name, int) and 0 <= label_or_name < len(classes):
        return label_or_name
    if isinstance(label_or_name, str) and label_or_name in classes:
        return list(classes).index(label_or_name)
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    raise ParamsError(f"{key}: the data have no class {label_or_name!r}; their {len(classes)} classes are {shown}")


def visible_rows(name: str, member: Member, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the training rows that a member sees, ascending.

    These are rows of all classes except those that it lacks. A fraction `keeps` is drawn from each class independently
    for each member. With `keeps` = "i/n", the member gets shard i of n; the shards of members with the same n are
    disjoint.
    labels: [N], of all training images.
    Raises ParamsError if the member sees no image.
    """
    kept = []
    for label in sorted(set(labels.tolist()) - set(member.lacks)):
        rows = np.flatnonzero(labels == label)
        if isinstance(member.keeps, str):
            i, n = (int(part) for part in member.keeps.split("/"))
            draw = np.random.default_rng(abs(hash64(seed, "shards", n, label)))
            kept.append(np.array_split(draw.permutation(rows), n)[i - 1])
        elif member.keeps < 1:
            draw = np.random.default_rng(abs(hash64(seed, "keeps", name, label)))
            kept.append(draw.permutation(rows)[: max(1, round(member.keeps * len(rows)))])
        else:
            kept.append(rows)
    if not kept:
        raise ParamsError(f"{KEY}.{name}.lacks: no training image is left: the other classes have none")
    seen = np.sort(np.concatenate(kept))
    if not len(seen):
        raise ParamsError(f"{KEY}.{name}.keeps: shard {member.keeps} has no training image: the classes are too small")
    return seen

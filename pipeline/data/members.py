"""Which images each member of a cooperative group has: whole classes lacking, and a part of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.counters import hash64
from pipeline.errors import ParamsError

KEY = "params.yaml: cooperative.members"


@dataclass(frozen=True)
class Member:
    """One member: its architecture, the labels it lacks, and what it keeps of the rest."""

    arch: str
    lacks: tuple[int, ...]
    keeps: float | str


def members_of(section: Any, classes: Sequence[str], student_arch: str) -> dict[str, Member]:
    """The members that params.yaml asks for, with classes resolved to labels.

    section: the value of cooperative.members, either auto: K (K members of the student's architecture, the k-th
    lacking class k) or name -> arch, lacks, keeps.  Raises ParamsError for a class that the data do not have.
    """
    auto = getattr(section, "auto", None)
    if auto is not None:
        if auto > len(classes):
            raise ParamsError(f"{KEY}.auto: {auto} members cannot lack one each of {len(classes)} classes")
        return {f"m{k}": Member(student_arch, (k,), 1.0) for k in range(auto)}
    members = {}
    for name, spec in section.items():
        lacks = tuple(label_of(wanted, classes, f"{KEY}.{name}.lacks") for wanted in spec.lacks)
        if len(set(lacks)) == len(classes):
            raise ParamsError(f"{KEY}.{name}.lacks: every class is lacking, nothing is left to learn")
        members[name] = Member(spec.arch, lacks, spec.keeps)
    return members


def label_of(wanted: int | str, classes: Sequence[str], key: str) -> int:
    """The label of a class given by its label or its name."""
    if isinstance(wanted, int) and 0 <= wanted < len(classes):
        return wanted
    if isinstance(wanted, str) and wanted in classes:
        return list(classes).index(wanted)
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    raise ParamsError(f"{key}: the data have no class {wanted!r}; their {len(classes)} classes are {shown}")


def rows_of(name: str, member: Member, labels: np.ndarray, seed: int) -> np.ndarray:
    """The training rows that a member sees, ascending.

    Every class but those it lacks; of each, the fraction `keeps` (drawn for each member), or shard i of n ("i/n",
    disjoint between the members that name the same n).
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
    return np.sort(np.concatenate(kept))

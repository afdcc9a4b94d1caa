"""Rules about members of a group that are estimators of scikit-learn."""

from collections.abc import Iterator
from typing import Any

from pipeline.estimators.catalog import complaint, is_estimator
from pipeline.params.group import Cooperative, CooperativeControl, MembersByRule
from pipeline.params.messages import shown


def estimators(values: dict[str, Any], networks: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Estimators where a network is needed, and those that do not exist or cannot be members.

    networks: the key and the architecture of every network and member.
    """
    for key, arch in networks:
        if is_estimator(arch) and not key.startswith("cooperative.members."):
            yield f"{key}: {shown(arch)} is an estimator of scikit-learn, which only cooperative.members can have"
    for name, member in members(values["cooperative"]).items():
        key = f"cooperative.members.{name}"
        if not is_estimator(member.arch):
            if member.options:
                yield f"{key}.options: only an estimator of scikit-learn has options, got {shown(member.options)}"
            if member.copies:
                yield f"{key}.copies: only for estimators of scikit-learn; networks see other views in each epoch"
        elif (wrong := complaint(member.arch, member.options)) is not None:
            yield f"{key}.{wrong[0]}: {wrong[1]}"
    yield from searches(values)


def searches(values: dict[str, Any]) -> Iterator[str]:
    """A search by gradient among members that have none."""
    trees = [name for name, member in members(values["cooperative"]).items() if is_estimator(member.arch)]
    for section in values["methods"]:
        if isinstance(values[section], CooperativeControl) and values[section].search == "gradient" and trees:
            yield f"{section}.search: gradient requires networks, but the member {trees[0]} is an estimator; use auto"


def members(section: Cooperative) -> dict[str, Any]:
    """The members of the group by name; none if they are given by a rule, which makes networks."""
    return {} if isinstance(section.members, MembersByRule) else section.members

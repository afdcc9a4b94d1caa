"""The sections of Cooperative: the members of its group, and how they teach each other."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from pipeline.params.search import Search
from pipeline.params.sections import ARCH, Section, doc
from pipeline.params.value_types import (
    MOST_SHARDS,
    Arch,
    Auto,
    Count,
    CountOrZero,
    Fraction,
    Name,
    NotNegative,
    Option,
    Positive,
    Shard,
    Text,
)


class Member(Section):
    """A member of a cooperative group."""

    arch: Arch = doc(f"{ARCH}, or a classifier of scikit-learn by its class, as in sklearn/RandomForestClassifier")
    options: Annotated[dict[Name, Option], Field(max_length=100)] = Field(
        default_factory=dict, description="arguments of an estimator of scikit-learn; optional, default `{}`"
    )
    copies: int = Field(
        default=0,
        description="augmented views of each image that an estimator is fitted to, besides the image; optional, "
        "default `0`",
        ge=0,
        le=1000,
    )
    lacks: Auto[Annotated[list[CountOrZero | Text], Field(max_length=50_000)]] = doc(
        "classes without training images, by label or by name; auto: for the k-th member class k, from 0, and after "
        "the last class the first one again"
    )
    keeps: Annotated[float, Field(gt=0, le=1)] | Shard = doc(
        f"fraction of the images of the other classes, or shard i/n of them; n is at most {MOST_SHARDS}"
    )


class MembersByRule(Section):
    """Members that are made by a rule instead of a list."""

    auto: int = doc("number of members with the architecture of the student; member k lacks class k", ge=2, le=1000)


def kind_of_members(value: Any) -> str:
    """Whether members are given by rule or by name. No key of theirs is one of these words with a space."""
    if isinstance(value, dict):
        return "by rule" if "auto" in value and not isinstance(value["auto"], dict) else "by name"
    return "by rule" if isinstance(value, MembersByRule) else "by name"


class CooperativeControl(Section):
    """Cooperative distillation among the members of the section `cooperative`."""

    starts_from = "members"
    expertise: Annotated[Literal["instance", "class"], Search(choices=("instance", "class"), control=True)] = doc(
        "whether a member is an expert in instances or in classes"
    )
    class_recall: float = doc("for expertise class: the recall from which a member is an expert", gt=0, le=1)
    source: Annotated[Literal["pooled", "own"], Search(choices=("pooled", "own"), control=True)] = doc(
        "teach on the images of all members, or on the images of the teacher"
    )
    teachers: Literal["certain", "all"] = doc(
        "an image is taught by the qualified member that is most certain of its label, or by all qualified members, "
        "each with its own counterfactual, of which equal ones join once"
    )
    alpha: Annotated[Fraction, Search(0.1, 1.0)] = doc("how far the target moves from f(x) to the label")
    search: Literal["auto", "gradient", "evolution"] = doc(
        "how x' is found: by Adam on the pixels, or by an evolution strategy, which needs no gradient; auto: evolution "
        "for estimators of scikit-learn, gradient for networks"
    )
    steps: Count = doc("maximum number of Adam steps on the pixels, or of generations of the evolution strategy")
    step_size: Positive = doc(
        "learning rate of Adam, in normalised pixels; the evolution strategy starts with steps of ten times that"
    )
    proximity: Annotated[NotNegative, Search(1e-6, 1e-2, log=True, off=0.0)] = doc("weight of the distance |x' - x|_1")
    tolerance: NotNegative = doc("stop when every class of f(x') is this close to the target")
    counterfactual_of: Literal["teacher", "student"] = doc("whose f to use: f_i of the teacher or f_j of the student")
    pool: Literal["counterfactual", "raw", "noise", "random", "none"] = doc("images that join the training set")


class Cooperative(CooperativeControl):
    """Cooperative distillation."""

    stage_keys = frozenset({"members"})
    members: Annotated[
        Annotated[MembersByRule, Tag("by rule")]
        | Annotated[dict[Name, Member], Tag("by name"), Field(min_length=2, max_length=1000)],
        Discriminator(kind_of_members),
    ] = doc("name -> arch, lacks, keeps; or auto: K for K members")

"""The schema of results/eval/METHOD.json, which `evaluate` writes.

`report` and `export` read results/eval/METHOD.json and results/cost/METHOD.json by this module.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.storage.documents import Document, damaged, read_json
from pipeline.storage.records import Count, Divergence, MethodCost, NetworkName, Percent, Positive, SeedName, Validation

Fraction = Annotated[float, Field(ge=0, le=1)]


class Metrics(Document):
    """The test metrics of a network (pipeline.evaluation.metrics.summary)."""

    top1: Percent
    top5: Percent
    error1: Percent
    error5: Percent
    nll: Annotated[float, Field(ge=0)]
    ece: Fraction


class TestedNetwork(Document):
    """A network with the metrics of its last and, where they are tested, its best weights."""

    arch: str
    parameters: Count
    last: Metrics
    best: Metrics | None = None
    validation: Validation | None


class TrainingErrors(Document):
    """What a student took over on training images (pipeline.evaluation.false_knowledge), as fractions.

    images: number of images measured.  wrong_labels: of the images, by label noise.  memorised: of the wrong labels, by
    the student.  teacher_errors: of the images; None without a teacher.  passed_on: of the teachers' errors.
    """

    images: Positive
    wrong_labels: Fraction
    memorised: Fraction | None
    teacher_errors: Fraction | None
    passed_on: Fraction | None


class TestedSeed(Document):
    """The results of one seed.

    guides, per_class, agreement, false_knowledge and training belong to a student; before and all_data to a group.
    right: whether each prediction is correct, as hexadecimal digits.
    """

    networks: Annotated[dict[NetworkName, TestedNetwork], Field(min_length=1)]
    guides: dict[NetworkName, TestedNetwork] = Field(default_factory=dict)
    per_class: list[Fraction | None] = Field(default_factory=list)
    agreement: Fraction | None = None
    false_knowledge: Fraction | None = None
    training: TrainingErrors | None = None
    before: dict[NetworkName, TestedNetwork] = Field(default_factory=dict)
    all_data: dict[NetworkName, TestedNetwork] = Field(default_factory=dict)
    right: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]


class EvaluationDocument(Document):
    """results/eval/METHOD.json.  A seed is in seeds if it ended, and in diverged if it diverged."""

    method: str
    is_: str = Field(alias="is")
    student: NetworkName | None
    members: list[NetworkName]
    classes: Annotated[list[str], Field(min_length=1)]
    n_images: Positive
    seeds: dict[SeedName, TestedSeed]
    diverged: dict[SeedName, Divergence] = Field(default_factory=dict)


def read_evaluation(file: Path) -> dict[str, Any]:
    """Return the content of results/eval/METHOD.json, as plain data. It has the key diverged, which may be empty.

    Args:
        file: The file to read.

    Raises:
        DataError: If it is missing or damaged, if it has no seed or one both as ended and as diverged, or if the
            networks that it names were not tested.
    """
    content = {"diverged": {}} | read_json(file, EvaluationDocument)
    final = [content["student"]] if content["student"] else content["members"]
    if not final:
        raise damaged(file, "it names neither a student nor members")
    if not content["seeds"] and not content["diverged"]:
        raise damaged(file, "it has no seed")
    if both := sorted(content["seeds"].keys() & content["diverged"].keys()):
        raise damaged(file, f"seed {both[0]} is in both seeds and diverged")
    for seed, result in content["seeds"].items():
        parts = ("networks", "before", "all_data") if "before" in result else ("networks",)
        untested = [f"{part} of {name}" for part in parts for name in final if name not in result.get(part, {})]
        untested += [f"best of {name}" for name in final if not untested and not result["networks"][name].get("best")]
        if untested:
            raise damaged(file, f"seeds.{seed} lacks the {untested[0]}")
        if len(result["right"]) != 2 * -(-content["n_images"] * len(final) // 8):
            raise damaged(file, f"seeds.{seed}.right does not have one bit for each prediction")
    return content


def read_cost(file: Path) -> dict[str, Any]:
    """The content of results/cost/METHOD.json, as plain data. Raises DataError if it is missing or damaged."""
    return read_json(file, MethodCost)

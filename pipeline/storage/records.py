"""The schemas of the documents about trained networks: networks.json and run.json of a bundle, and costs."""

from typing import Annotated, Any

from pydantic import Field

from pipeline.storage.documents import Document

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
NotNegative = Annotated[float, Field(ge=0)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
"""A file in the folder of the document, so that a document cannot name a file elsewhere."""
NetworkName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)]
TrainingName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=300)]
"""A training in the cost of a network (pipeline.training.cost), STAGE/seed-N/PART."""
SeedName = Annotated[str, Field(pattern=r"^[0-9]{1,19}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Validation(Document):
    """Validation top-1 in percent of the last and the best weights, and the epoch of the best."""

    last: Percent
    best: Percent
    best_epoch: Count


class NetworkDocument(Document):
    """A network in networks.json (pipeline.storage.bundle.Record).

    cost: the multiply-adds of each training that it needed (pipeline.training.cost).
    """

    arch: str
    options: dict[str, Any] = Field(default_factory=dict)
    copies: Count = 0
    num_classes: Positive | None = None
    in_chans: Positive | None = None
    image_size: tuple[Positive, Positive] | None = None
    parameters: Count | None = None
    validation: Validation | None = None
    weights: FileName | None = None
    best: FileName | None = None
    sees: FileName | None = None
    sha256: dict[FileName, Digest] = Field(default_factory=dict)
    cost: dict[TrainingName, Count] | None = None


Networks = dict[NetworkName, NetworkDocument]
"""networks.json."""


class RunDocument(Document):
    """run.json: what one seed trained, and where it started from.

    student: None for a group.  guides: networks that did not learn.  teachers: networks of the bundle from which the
    student learnt: guides, or networks that learnt from there on, such as ORC's pivot.
    after: the folder of networks, such as models/teacher. It is not the bundle of the seed in it, whose path changes
    with teacher.per_seed although the bundle does not.
    """

    method: str
    is_: str = Field(alias="is")
    student: NetworkName | None
    members: list[NetworkName]
    guides: list[NetworkName]
    teachers: list[NetworkName] = Field(default_factory=list)
    after: str | None
    seed: Count


class Divergence(Document):
    """Where a seed diverged: the first network and loss term that were not finite, and the step of that batch."""

    network: NetworkName
    term: str
    leg: Count
    epoch: Count
    step: Count


class DivergedDocument(Divergence):
    """models/students/METHOD/seed-N/diverged.json, which replaces the bundle of a seed that diverged."""

    method: str
    is_: str = Field(alias="is")
    student: NetworkName | None
    members: list[NetworkName]
    seed: Count


class ForwardEquivalents(Document):
    """What it took to get a student, or a group, in forward passes of the student (pipeline.training.cost).

    given_teacher: without what the center teacher had taken.  from_nothing: with it.
    """

    given_teacher: NotNegative
    from_nothing: NotNegative


class SeedCost(Document):
    """The cost of one seed: training time in seconds, optimizer steps, speed, and forward passes of the student.

    forward_equivalents_per_step: of the seed's own run, for each image of a batch.
    """

    seconds: NotNegative
    steps: Count
    images_per_second: NotNegative | None
    forward_equivalents_per_step: NotNegative | None
    forward_equivalents: ForwardEquivalents


class NetworkCost(Document):
    """The cost of one network: parameters, multiply-adds for an image, and latency in milliseconds by batch size.

    An estimator has the size of its file in bytes instead, and the seconds of its fit; it has no multiply-adds.
    """

    parameters: Count
    macs: Count | None
    latency_ms: dict[str, NotNegative]
    bytes: Count | None = None
    fit_seconds: NotNegative | None = None


class LatencyDocument(Document):
    """The latency of a network in milliseconds by batch size, as the store keeps it."""

    latency_ms: dict[str, NotNegative]


class Environment(Document):
    """What decides the last bits of a result besides parameters, data and code."""

    world_size: Positive
    threads: Positive
    device: str
    precision: str
    versions: dict[str, str]


class RunCost(SeedCost):
    """cost.json of one trained seed, in the checkpoint store."""

    networks: dict[NetworkName, NetworkCost]
    environment: Environment


class MethodCost(Document):
    """results/cost/METHOD.json.  sha256: the digests of the files in results/train/METHOD."""

    seeds: dict[SeedName, SeedCost]
    networks: dict[NetworkName, NetworkCost]
    environment: Environment
    parameters: dict[str, Any]
    sha256: dict[FileName, Digest]

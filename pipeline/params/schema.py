"""Every parameter: its name, type, bounds and meaning. There are no defaults: every key is in params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.params.group import Cooperative, CooperativeControl
from pipeline.params.search import Search
from pipeline.params.sections import (
    Assistant,
    Data,
    Entry,
    Export,
    Report,
    Runtime,
    Section,
    Student,
    Teacher,
    Train,
    Tune,
    doc,
)
from pipeline.params.value_types import (
    Auto,
    Count,
    CountOrZero,
    Fraction,
    Group,
    Name,
    NotNegative,
    Seed,
    Temperature,
)

STANDARDISE = "standardise the logits of teacher and student over the classes before the temperature (LS, CVPR 2024)"
Mode = Literal["train", "eval"]
SearchedTemperature = Annotated[Temperature, Search(1.0, 8.0, log=True, control=True)]
SearchedCEWeight = Annotated[NotNegative, Search(0.1, 2.0, log=True, off=0.0)]
SearchedKDWeight = Annotated[NotNegative, Search(0.5, 8.0, log=True, off=0.0)]


class Scratch(Section):
    """Training without a teacher."""

    ce_weight: Annotated[NotNegative, Search(0.5, 8.0, log=True)] = doc(
        "weight of cross-entropy; for SGD the size of a loss is a learning rate"
    )
    label_smoothing: Annotated[float, Search(0.0, 0.3)] = doc(
        "weight of the uniform distribution in the target", ge=0, lt=1
    )


class KD(Section):
    """Distillation from one teacher."""

    starts_from = "teacher"
    temperature: SearchedTemperature = doc("softmax temperature tau")
    standardise: bool = doc(STANDARDISE)
    ce_weight: SearchedCEWeight = doc("weight of cross-entropy")
    kd_weight: SearchedKDWeight = doc("weight of the KD term")
    label_smoothing: float = doc("weight of the uniform distribution in cross-entropy's target", ge=0, lt=1)


class DKD(Section):
    """Decoupled distillation."""

    starts_from = "teacher"
    temperature: SearchedTemperature = doc("softmax temperature tau")
    standardise: bool = doc(STANDARDISE)
    alpha: Annotated[NotNegative, Search(0.25, 4.0, log=True, off=0.0)] = doc(
        "weight of the KL of the target class against all others (TCKD)"
    )
    beta: Annotated[NotNegative, Search(0.25, 8.0, log=True, off=0.0)] = doc(
        "weight of the KL of the other classes among themselves (NCKD)"
    )
    warmup_epochs: CountOrZero = doc("epochs in which both terms grow linearly to their weight; 0: none")


class DIST(Section):
    """Distillation by correlation."""

    starts_from = "teacher"
    temperature: SearchedTemperature = doc("softmax temperature tau")
    beta: Annotated[NotNegative, Search(0.25, 4.0, log=True, off=0.0)] = doc(
        "weight of the inter-class relation, over the classes of an image"
    )
    gamma: Annotated[NotNegative, Search(0.25, 4.0, log=True, off=0.0)] = doc(
        "weight of the intra-class relation, over the images of a batch"
    )


class WTTM(Section):
    """Transformed teacher matching, weighted or not."""

    starts_from = "teacher"
    gamma: Annotated[float, Search(0.1, 1.0, log=True)] = doc(
        "exponent of the teacher's probabilities: a temperature 1 / gamma", ge=0.001, le=1000
    )
    beta: Annotated[NotNegative, Search(0.5, 50.0, log=True, off=0.0)] = doc("weight of the KD term")
    u: bool = doc("weigh each image by U, the sum of the teacher's probabilities to the power gamma (WTTM); false: TTM")


class MultiTeacher(Section):
    """Distillation from several teachers, each with a weight for each image."""

    starts_from = "chain"
    temperature: SearchedTemperature = doc("softmax temperature tau")
    standardise: bool = doc(STANDARDISE)
    weights: Literal["average", "entropy", "confidence", "filter"] = doc(
        "weight of a teacher for an image: equal (AVER), larger for a prediction of lower entropy (EBKD), larger for a "
        "lower cross-entropy (CA-MKD), or equal but zero where the student is surer of the label (ClassroomKD's filter)"
    )
    ce_weight: SearchedCEWeight = doc("weight of cross-entropy")
    kd_weight: SearchedKDWeight = doc("weight of the sum of the KD terms")
    label_smoothing: float = doc("weight of the uniform distribution in cross-entropy's target", ge=0, lt=1)


class TAKD(Section):
    """Distillation from the predecessor in the chain."""

    starts_from = "chain"
    temperature: SearchedTemperature = doc("softmax temperature tau")
    standardise: bool = doc(STANDARDISE)
    lam: Annotated[Fraction, Search(0.1, 1.0)] = doc("weight lambda of the KD term; cross-entropy has 1 - lam")


class DGKD(Section):
    """Distillation from all earlier networks of the chain."""

    starts_from = "chain"
    temperature: SearchedTemperature = doc("softmax temperature tau")
    standardise: bool = doc(STANDARDISE)
    lam: Annotated[Fraction | Annotated[dict[Name, Fraction], Field(max_length=101)], Search(0.1, 1.0)] = doc(
        "weight lambda: one number, or one for each guide (lambda_1..lambda_n)"
    )
    normalise: Annotated[Literal["sum", "mean", "released"], Search(choices=("sum", "mean"))] = doc(
        "sum: the equation of the paper; mean: divide it by the number of guides; released: the loss of the published "
        "code, which weights cross-entropy by 1 - lambda and divides each KL divergence by the number of classes"
    )
    drop: Literal["bernoulli", "one"] = doc(
        "bernoulli: drop each guide at random; one: drop exactly one in each batch, as the published code does; the "
        "only guide of a network is kept"
    )
    survival: Annotated[Fraction, Search(0.3, 0.95, off=1.0, needs=(("drop", "bernoulli"),))] = doc(
        "for drop bernoulli: probability p that a guide is kept for a batch, b_i ~ Bernoulli(p); 1 is plain DGKD"
    )
    drop_teacher: bool = doc("drop the teacher at random too, as the published code does")


class DML(Section):
    """Mutual learning of peers."""

    temperature: SearchedTemperature = doc("softmax temperature tau; 1 in the paper")
    standardise: bool = doc(STANDARDISE)
    weight: Annotated[NotNegative, Search(0.1, 10.0, log=True, off=0.0)] = doc(
        "weight of the mean KL divergence to the other peers; 1 in the paper"
    )
    teaching_mode: Mode = doc(
        "mode in which a peer teaches: BatchNorm with the statistics of the batch, or running ones"
    )
    peers: Auto[Group] = doc("peers of the student, name -> architecture; auto: those of the assistants")


class SwitOKD(Section):
    """Online distillation with a teacher that pauses while it is too far ahead."""

    starts_from = "teacher"
    temperature: SearchedTemperature = doc("softmax temperature tau of the KL terms; 1 in the paper")
    standardise: bool = doc(STANDARDISE)
    weight: Annotated[NotNegative, Search(0.1, 10.0, log=True, off=0.0)] = doc("weight of the KL terms; 1 in the paper")
    pause: bool = doc("pause the teacher while it is too far ahead; false: mutual learning")


class Teachings(Section):
    """Which of ORC's three teachings are on."""

    intensive: bool = doc("the pivot learns from mixup with feedback (L_1); if false it stays frozen")
    private: bool = doc("the temporary teacher learns from the pivot (L_P); if false from cross-entropy alone")
    group: bool = doc("the others learn from temporary teacher and pivot (L_T); if false from cross-entropy alone")


INTENSIVE = ("teachings.intensive", True)
MIXUP = ("feedback_only", False)


class ORC(Section):
    """Online role change."""

    starts_from = "teacher"
    beta: Annotated[Fraction, Search(0.3, 0.95)] = doc("weight beta of the KD terms; cross-entropy has 1 - beta")
    temperature: SearchedTemperature = doc("softmax temperature tau")
    standardise: bool = doc(STANDARDISE)
    normalise: Literal["sum", "mean"] = doc("whether group teaching (L_T) sums its KD terms or takes their mean")
    mixup_alpha: Annotated[float, Search(0.1, 1.0, log=True, control=True, needs=(INTENSIVE, MIXUP))] = doc(
        "the mixing weight is drawn from Beta(mixup_alpha, mixup_alpha)", ge=0.001, le=1000
    )
    feedback_only: bool = doc("the pivot learns from the feedback images alone, without mixup, as in an ablation")
    pivot_lr_scale: Annotated[NotNegative, Search(0.001, 0.1, log=True, control=True, off=0.0, needs=(INTENSIVE,))] = (
        doc("factor of the learning rate of the pivot")
    )
    pivot_statistics: Literal["mixtures", "teacher"] = doc(
        "BatchNorm's running statistics of the pivot follow the mixtures that it learns from, or stay the teacher's"
    )
    promoted: Count = doc("number k of temporary teachers in each batch; 1 in the paper")
    elect: Literal["batch", "ema"] = doc(
        "the students with the lowest cross-entropy are promoted: on this batch, or by its exponential moving average"
    )
    elect_momentum: float = doc("for elect ema: weight of the average so far; this batch has 1 - momentum", ge=0, lt=1)
    feedback: Literal["loss", "errors", "softmax"] = doc(
        "feedback images are drawn in proportion to the students' mean loss, to their errors, or to the softmax over "
        "the batch of their mean loss"
    )
    teachings: Teachings = doc("which teachings are on, as in the ablation of the paper")
    guidance: Literal["individual", "ensemble"] = doc("one KD term for each teacher, or one for their mean logits")
    teaching_mode: Mode = doc(
        "mode in which a temporary teacher teaches: BatchNorm with the statistics of the batch, or running ones"
    )
    init: Literal["scratch", "assistants"] = doc(
        "the other students start from random weights, or from the trained assistants of the same names; assistants "
        "requires that the method starts from a chain, such as models/chains/dgkd"
    )
    group: Auto[Group] = doc("the other students, name -> architecture; auto: those of the assistants")


FIXED: dict[str, Any] = {
    "data": Data,
    "train": Train,
    "teacher": Teacher,
    "assistants": Annotated[dict[Name, Assistant], Field(max_length=100)],
    "student": Student,
    "seeds": Annotated[list[Seed], Field(min_length=1, max_length=1000)],
    "methods": Annotated[dict[Name, Entry], Field(min_length=1, max_length=500)],
    "export": Export,
    "report": Report,
    "tune": Tune,
    "runtime": Runtime,
}
KINDS: dict[str, type[Section]] = {
    "scratch": Scratch,
    "kd": KD,
    "dml": DML,
    "takd": TAKD,
    "dgkd": DGKD,
    "dkd": DKD,
    "dist": DIST,
    "wttm": WTTM,
    "multiteacher": MultiTeacher,
    "switokd": SwitOKD,
    "orc": ORC,
    "cooperative": Cooperative,
}
"""The schema of each method's section. A new method adds its line here and its file to pipeline/methods; a parameter
that `stages.tune` is to search has a `Search` beside its type."""


def schema_of(section: str, kind: str) -> type[Section]:
    """The schema of a method's section. Controls of Cooperative share the members of the section `cooperative`."""
    return CooperativeControl if kind == "cooperative" and section != "cooperative" else KINDS[kind]

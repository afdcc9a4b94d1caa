"""One instance of every method, with settings that exercise all of it, for properties that hold for each method."""

from dataclasses import replace

from pipeline.core.interface import Network
from pipeline.estimators.file import to_bytes
from pipeline.estimators.module import create, fit, rows_of
from pipeline.methods.cooperative import Cooperative
from pipeline.methods.dgkd import DGKD
from pipeline.methods.dist import DIST
from pipeline.methods.dkd import DKD
from pipeline.methods.dml import DML
from pipeline.methods.kd import KD
from pipeline.methods.multiteacher import MultiTeacher
from pipeline.methods.orc import ORC
from pipeline.methods.scratch import Scratch
from pipeline.methods.switokd import SwitOKD
from pipeline.methods.takd import TAKD
from pipeline.methods.wttm import WTTM

SCRATCH = Scratch(ce_weight=1.0, label_smoothing=0.0)
KD_ = KD(temperature=4.0, standardise=False, ce_weight=0.1, kd_weight=0.9, label_smoothing=0.0)
AVERAGE = MultiTeacher(
    temperature=4.0, standardise=False, weights="average", ce_weight=0.1, kd_weight=0.9, label_smoothing=0.0
)
TAKD_ = TAKD(temperature=4.0, standardise=False, lam=0.9)
DGKD_ = DGKD(
    temperature=4.0, standardise=False, lam=0.9, normalise="sum", drop="bernoulli", survival=1.0, drop_teacher=False
)
DKD_ = DKD(temperature=4.0, standardise=True, alpha=1.0, beta=8.0, warmup_epochs=3)  # longer than a toy run
DIST_ = DIST(temperature=4.0, beta=1.0, gamma=1.0)
WTTM_ = WTTM(gamma=0.25, beta=2.0, u=True)
SWITOKD = SwitOKD(temperature=1.0, standardise=False, weight=1.0, pause=True)
SDGKD = replace(DGKD_, survival=0.5)
DGKD_RELEASED = replace(DGKD_, normalise="released", drop="one", drop_teacher=True)
DML_ = DML(temperature=1.0, standardise=False, weight=1.0, teaching_mode="train", peers=None)
ORC_ = ORC(
    beta=0.9,
    temperature=4.0,
    standardise=False,
    normalise="sum",
    mixup_alpha=1.0,
    feedback_only=False,
    pivot_lr_scale=0.1,
    pivot_statistics="mixtures",
    promoted=1,
    elect="batch",
    elect_momentum=0.9,
    feedback="loss",
    teachings={"intensive": True, "private": True, "group": True},
    guidance="individual",
    teaching_mode="train",
    init="scratch",
    group=None,
)
ORC_OPTIONS = replace(
    ORC_,
    normalise="mean",
    promoted=2,
    pivot_statistics="teacher",
    elect="ema",
    elect_momentum=0.8,
    feedback="softmax",
    teaching_mode="eval",
    init="assistants",
)
COOPERATIVE = Cooperative(
    expertise="instance",
    class_recall=0.5,
    source="pooled",
    teachers="certain",
    alpha=0.5,
    search="auto",
    steps=5,
    step_size=0.05,
    proximity=1e-4,
    tolerance=1e-3,
    counterfactual_of="teacher",
    pool="counterfactual",
)
COOPERATIVE_ALL = replace(COOPERATIVE, teachers="all")


def members(toy):
    """Three trained members, each trained without one of the classes."""
    labels = toy.train.labels.cpu().numpy()
    return {
        name: Network(
            toy.start[base].arch,
            weights=toy.start[base].weights,
            learns=False,
            sees=(labels != k).nonzero()[0],
        )
        for k, (name, base) in enumerate((("a", "teacher"), ("b", "ta1"), ("c", "ta2")))
    }


FOREST = Network("sklearn/RandomForestClassifier", options={"n_estimators": 7}, independent=True)
SVM = replace(FOREST, arch="sklearn/SVC", options={"probability": True})


def learners(toy):
    """A network, a forest and an SVM, each trained without one of the classes."""
    labels, start = toy.train.labels.cpu(), {"net": members(toy)["c"]}
    for k, (name, network) in enumerate({"forest": FOREST, "svm": SVM}.items()):
        rows = (labels != k).nonzero()[:, 0]
        estimator = create(network.arch, network.options, 11)
        fit(estimator, rows_of(toy.train.plain(rows.to(toy.train.labels.device))), labels[rows].numpy(), name)
        file = toy.folder / f"{name}.skops"
        file.write_bytes(to_bytes(estimator))
        start[name] = replace(network, weights=file, learns=False, sees=rows.numpy())
    return start


def start_of(name, toy):
    """The networks that the method of that name starts from."""
    if name == "learners":
        return learners(toy)
    if name in ("dml", "dml eval", "orc"):
        return toy.group
    if name == "orc options":
        return toy.start
    if name in ("cooperative", "cooperative all"):
        return members(toy)
    if name in ("scratch",):
        return {}
    return toy.start


METHODS = {
    "scratch": SCRATCH,
    "kd": KD_,
    "takd": TAKD_,
    "dgkd": DGKD_,
    "sdgkd": SDGKD,
    "dgkd released": DGKD_RELEASED,
    "dkd": DKD_,
    "dist": DIST_,
    "wttm": WTTM_,
    "switokd": SWITOKD,
    "multiteacher": replace(AVERAGE, weights="confidence"),
    "dml": DML_,
    "dml eval": replace(DML_, teaching_mode="eval"),
    "orc": ORC_,
    "orc options": ORC_OPTIONS,
    "cooperative": COOPERATIVE,
    "cooperative all": COOPERATIVE_ALL,
}

OF_KINDS = {"learners": COOPERATIVE}  # a group with estimators, for laws that do not ask for gradients

# Another recipe than SGD: a method, arguments of ToyRuns, and the recipe.
RECIPES = {
    "kd, adamw, trivial": (
        "kd",
        {"policy": "trivial", "erasing": 0.5, "flip": True},
        {"optimizer": "adamw", "lr": 0.005, "clip_grad_norm": 1.0, "warmup_epochs": 1},
    ),
    "orc, adamw, rand": (
        "orc",
        {"policy": "rand", "erasing": 0.5, "flip": True},
        {"optimizer": "adamw", "lr": 0.005, "clip_grad_norm": 1.0},
    ),
    "cooperative, adamw, trivial": (
        "cooperative",
        {"policy": "trivial", "erasing": 0.5, "flip": True},
        {"optimizer": "adamw", "lr": 0.005, "clip_grad_norm": 1.0},
    ),
}


def case(name) -> tuple:
    """The method, the arguments of ToyRuns and the recipe of a method's or a recipe's name."""
    return RECIPES.get(name, (name, {}, {}))

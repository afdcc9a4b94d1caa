"""A loss term reaches only the weights of the network that it names, and guides never change."""

import pytest
import torch

from pipeline.core.interface import Leg
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

CHAIN = ("teacher", "ta1", "ta2")
GROUP = ("student", "ta1", "ta2")
ON = {"intensive": True, "private": True, "group": True}
OFF_PIVOT = {**ON, "intensive": False}
ORC_FIELDS = dict(
    beta=0.9,
    temperature=4.0,
    standardise=False,
    normalise="sum",
    mixup_alpha=1.0,
    feedback_only=False,
    pivot_lr_scale=0.01,
    elect="batch",
    elect_momentum=0.9,
    feedback="loss",
    init="scratch",
    group=None,
)
COOPERATIVE = dict(
    expertise="instance",
    class_recall=0.5,
    source="pooled",
    teachers="certain",
    alpha=0.5,
    search="auto",
    steps=1,
    step_size=0.1,
    proximity=0.0,
    tolerance=0.0,
    counterfactual_of="teacher",
    pool="raw",
)

CASES = {
    "scratch": (Scratch(label_smoothing=0.1), ("student",), ()),
    "kd": (
        KD(temperature=4.0, standardise=False, ce_weight=0.1, kd_weight=0.9, label_smoothing=0.0),
        ("student",),
        ("teacher",),
    ),
    "takd": (TAKD(temperature=4.0, standardise=False, lam=0.9), ("student",), ("ta2",)),
    "dkd": (
        DKD(temperature=4.0, standardise=False, alpha=1.0, beta=8.0, warmup_epochs=20),
        ("student",),
        ("teacher",),
    ),
    "dist": (DIST(temperature=4.0, beta=1.0, gamma=1.0), ("student",), ("teacher",)),
    "wttm": (WTTM(gamma=0.5, beta=2.0, u=True), ("student",), ("teacher",)),
    "switokd": (
        SwitOKD(temperature=1.0, standardise=False, weight=1.0, pause=False),
        ("student", "teacher"),
        (),
    ),
    **{
        f"multiteacher {weights}": (
            MultiTeacher(
                temperature=4.0, standardise=True, weights=weights, ce_weight=0.1, kd_weight=0.9, label_smoothing=0.0
            ),
            ("student",),
            CHAIN,
        )
        for weights in ("average", "entropy", "confidence", "filter")
    },
    "dml": (DML(temperature=1.0, standardise=False, weight=1.0, peers=None), GROUP, ()),
    "dgkd": (
        DGKD(
            temperature=4.0,
            standardise=False,
            lam=0.9,
            normalise="sum",
            drop="bernoulli",
            survival=0.5,
            drop_teacher=True,
        ),
        ("student",),
        CHAIN,
    ),
    "orc": (ORC(promoted=1, guidance="individual", teachings=ON, **ORC_FIELDS), (*GROUP, "pivot"), ()),
    "orc ensemble": (ORC(promoted=2, guidance="ensemble", teachings=ON, **ORC_FIELDS), (*GROUP, "pivot"), ()),
    "orc frozen": (
        ORC(promoted=1, guidance="individual", teachings=OFF_PIVOT, **ORC_FIELDS),
        GROUP,
        ("pivot",),
    ),
    "cooperative": (Cooperative(**COOPERATIVE), ("a",), ("base/a", "base/b")),
}


@pytest.mark.parametrize("case", CASES)
def test_each_term_moves_only_its_own_network(toy_step, case):
    method, learners, guides = CASES[case]
    s = toy_step(learners, guides)
    weights = {name: list(net.module.parameters()) for name, net in s.nets.items()}
    updated = set()

    def check(losses):
        for name in losses:
            updated.add(name)
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in weights[name])
        for other in set(s.nets) - set(losses):
            assert all(p.grad is None for p in weights[other]), f"{other} got a gradient"

    def check_terms(losses):
        for name, terms in losses.items():
            for term, value in terms.items():
                for other in set(s.nets) - {name}:
                    grads = torch.autograd.grad(
                        value,
                        [p for p in weights[other] if p.requires_grad] or [torch.zeros(1, requires_grad=True)],
                        retain_graph=True,
                        allow_unused=True,
                    )
                    assert all(g is None for g in grads), f"{name}'s {term} reaches {other}"

    for losses in method.step(s.nets, Leg(learners, guides), s.batch):
        check_terms(losses)
        for net in s.nets.values():
            for p in net.module.parameters():
                p.grad = None
        sum(v for terms in losses.values() for v in terms.values()).backward()
        check(losses)
        for name in losses:
            s.nets[name].step(1.0)
    assert updated == set(learners)


@pytest.mark.parametrize("case", CASES)
def test_guides_are_bitwise_unchanged(toy_step, case):
    method, learners, guides = CASES[case]
    s = toy_step(learners, guides)
    before = {g: {k: v.clone() for k, v in s.nets[g].module.state_dict().items()} for g in guides}
    for _ in range(3):
        s.run(method, Leg(learners, guides))
    for g in guides:
        after = s.nets[g].module.state_dict()
        assert all(torch.equal(after[k], v) for k, v in before[g].items())


def test_teaching_does_not_change_the_running_statistics_of_a_learner(toy_step):
    s = toy_step(["student"])
    before = {k: v.clone() for k, v in s.nets["student"].module.state_dict().items()}
    s.nets["student"].teach(s.batch.x)
    after = s.nets["student"].module.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert s.nets["student"].module.training


def test_a_teacher_passes_gradients_to_its_input_but_not_to_its_weights(toy_step):
    s = toy_step(["student"], ["teacher"])
    for net in s.nets.values():
        x = s.batch.x.clone().requires_grad_()
        net.teach(x).sum().backward()
        assert x.grad is not None and x.grad.abs().sum() > 0
        assert all(p.grad is None for p in net.module.parameters())

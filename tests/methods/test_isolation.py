"""A loss term reaches only the weights of the network that it names, and guides never change."""

from dataclasses import replace

import pytest
import torch
from cases import AVERAGE, COOPERATIVE, DIST_, DKD_, DML_, KD_, ORC_, SCRATCH, SDGKD, SWITOKD, TAKD_, WTTM_

from pipeline.core.interface import Leg

CHAIN = ("teacher", "ta1", "ta2")
GROUP = ("student", "ta1", "ta2")
FROZEN = {"intensive": False, "private": True, "group": True}

CASES = {
    "scratch": (replace(SCRATCH, label_smoothing=0.1), ("student",), ()),
    "kd": (KD_, ("student",), ("teacher",)),
    "takd": (TAKD_, ("student",), ("ta2",)),
    "dkd": (DKD_, ("student",), ("teacher",)),
    "dist": (DIST_, ("student",), ("teacher",)),
    "wttm": (WTTM_, ("student",), ("teacher",)),
    "switokd": (replace(SWITOKD, pause=False), ("student", "teacher"), ()),
    **{
        f"multiteacher {weights}": (replace(AVERAGE, standardise=True, weights=weights), ("student",), CHAIN)
        for weights in ("average", "entropy", "confidence", "filter")
    },
    "dml": (DML_, GROUP, ()),
    "dgkd": (replace(SDGKD, drop_teacher=True), ("student",), CHAIN),
    "orc": (ORC_, (*GROUP, "pivot"), ()),
    "orc ensemble": (replace(ORC_, promoted=2, guidance="ensemble"), (*GROUP, "pivot"), ()),
    "orc frozen": (replace(ORC_, teachings=FROZEN), GROUP, ("pivot",)),
    "cooperative": (COOPERATIVE, ("a",), ("base/a", "base/b")),
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


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_teaching_does_not_change_the_running_statistics_of_a_learner(toy_step, mode):
    s = toy_step(["student"])
    before = {k: v.clone() for k, v in s.nets["student"].module.state_dict().items()}
    s.nets["student"].teach(s.batch.x, mode=mode)
    after = s.nets["student"].module.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert s.nets["student"].module.training
    s.nets["student"](s.batch.x)
    assert any(not torch.equal(after[k], v) for k, v in before.items())


def test_a_learner_that_teaches_in_training_mode_gives_the_bits_that_it_learns_from(toy_step):
    s = toy_step(["student"], ["teacher"])
    x = s.batch.x
    learning = s.nets["student"](x)
    taught = s.nets["student"].teach(x, mode="train")
    assert torch.equal(taught, learning.detach()) and not taught.requires_grad
    assert not torch.equal(taught, s.nets["student"].teach(x))
    assert torch.equal(s.nets["student"].teach(x[:-1], mode="train"), s.nets["student"](x[:-1]).detach())


def test_a_guide_teaches_in_evaluation_mode_in_either_case(toy_step):
    s = toy_step(["student"], ["teacher"])
    assert torch.equal(s.nets["teacher"].teach(s.batch.x, mode="train"), s.nets["teacher"].teach(s.batch.x))


def test_a_teacher_passes_gradients_to_its_input_but_not_to_its_weights(toy_step):
    s = toy_step(["student"], ["teacher"])
    for net in s.nets.values():
        x = s.batch.x.clone().requires_grad_()
        net.teach(x).sum().backward()
        assert x.grad is not None and x.grad.abs().sum() > 0
        assert all(p.grad is None for p in net.module.parameters())

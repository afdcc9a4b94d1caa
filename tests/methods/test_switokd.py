"""SwitOKD: the losses, the decision to pause the teacher, and that all processes take the same one."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, one_hot

from pipeline.core.interface import Leg
from pipeline.methods.switokd import SwitOKD

METHOD = SwitOKD(temperature=1.0, standardise=False, weight=1.0, pause=True)
LEG = Leg(("student", "teacher"))


def logits(seed, b=7, c=5, sure=(1.0, 1.0)):
    """Labels, and logits of student and teacher that are right by a margin `sure` each."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(c, (b,), generator=g)
    right = one_hot(y, c).double()
    z_s, z_t = (margin * right + torch.randn(b, c, dtype=torch.float64, generator=g) for margin in sure)
    return z_s, z_t, y


def softmax(row):
    e = [math.exp(v - max(row)) for v in row]
    return [v / sum(e) for v in e]


def slow_decision(z_s, z_t, y):
    """Whether the teacher is paused, by loops."""
    d = s = t = 0.0
    for row_s, row_t, label in zip(z_s.tolist(), z_t.tolist(), y.tolist()):
        p_s, p_t = softmax(row_s), softmax(row_t)
        for c in range(len(row_s)):
            d += abs(p_s[c] - p_t[c])
            s += abs(p_s[c] - (c == label))
            t += abs(p_t[c] - (c == label))
    d, s, t = d / len(y), s / len(y), t / len(y)
    delta = s - math.exp(-t / (s + t)) * t
    return d > delta and t < s


def kl(z, z_from):
    term = kl_div(log_softmax(z, 1), log_softmax(z_from, 1), log_target=True, reduction="sum")
    return float(term / len(z))


def step_on(method, z_s, z_t, y, notes=None):
    """What a step yields for given logits."""
    batch = SimpleNamespace(
        x=None, y=y, world=SimpleNamespace(mean=lambda v: v), note=lambda n, t, v: (notes or {}).update({(n, t): v})
    )
    (update,) = method.step({"student": lambda x: z_s, "teacher": lambda x: z_t}, LEG, batch)
    return {n: {t: float(v) for t, v in terms.items()} for n, terms in update.items()}


MARGINS = [(a, b) for a in (0.0, 1.0, 3.0, 8.0) for b in (0.0, 1.0, 3.0, 8.0)]


@pytest.mark.parametrize("sure", MARGINS)
def test_the_teacher_is_paused_exactly_if_it_is_too_far_ahead(sure):
    world = SimpleNamespace(mean=lambda v: v)
    for seed in range(10):
        z_s, z_t, y = logits(seed, sure=sure)
        paused = METHOD.is_too_far_ahead(z_s, z_t, SimpleNamespace(y=y, world=world))
        assert paused == slow_decision(z_s, z_t, y)


def test_decisions_of_that_test_are_of_both_kinds():
    decisions = {slow_decision(*logits(seed, sure=sure)) for sure in MARGINS for seed in range(10)}
    assert decisions == {True, False}


@pytest.mark.parametrize("pause", [False, True])
def test_a_paused_teacher_has_no_loss_and_the_student_learns_in_any_case(pause):
    for sure in ((0.0, 3.0), (3.0, 0.0)):
        z_s, z_t, y = logits(0, sure=sure)
        update = step_on(SwitOKD(temperature=1.0, standardise=False, weight=0.5, pause=pause), z_s, z_t, y)
        assert update["student"] == pytest.approx(
            {"ce": float(cross_entropy(z_s, y)), "kl/teacher": 0.5 * kl(z_s, z_t)}
        )
        assert ("teacher" in update) == (not (pause and slow_decision(z_s, z_t, y)))
        if "teacher" in update:
            expected = {"ce": float(cross_entropy(z_t, y)), "kl/student": 0.5 * kl(z_t, z_s)}
            assert update["teacher"] == pytest.approx(expected)


def test_perfect_networks_do_not_pause_the_teacher():
    y = torch.tensor([0, 1])
    z = 1e6 * one_hot(y, 3).double()
    assert not METHOD.is_too_far_ahead(z, z.clone(), SimpleNamespace(y=y, world=SimpleNamespace(mean=lambda v: v)))


class TwoRanks:
    """Two ranks, one after the other: the first round collects what they average, the second returns the mean."""

    def __init__(self):
        self.shares = []

    def collect(self, value):
        self.shares.append(value)
        return value

    def mean(self, value):
        return sum(self.shares) / 2


@pytest.mark.parametrize("sure", MARGINS)
def test_two_processes_decide_on_the_global_batch(sure):
    for seed in range(10):
        z_s, z_t, y = logits(seed, b=4, sure=sure)
        halves = [(z_s[k : k + 2], z_t[k : k + 2], y[k : k + 2]) for k in (0, 2)]
        ranks = TwoRanks()

        def decide(mean, halves=halves):
            world = SimpleNamespace(mean=mean)
            return [METHOD.is_too_far_ahead(s, t, SimpleNamespace(y=labels, world=world)) for s, t, labels in halves]

        decide(ranks.collect)
        assert decide(ranks.mean) == [slow_decision(z_s, z_t, y)] * 2


def test_both_networks_start_from_random_weights(toy):
    networks = METHOD.networks("tiny_plain2_12", toy.start)
    assert networks["teacher"].arch == toy.start["teacher"].arch
    assert all(network.weights is None and network.learns for network in networks.values())

"""Teachers' weights and losses equal their equations, computed here as loops in float64."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from pipeline.core.interface import Leg
from pipeline.methods.multiteacher import MultiTeacher

TAU = 4.0
RULES = ("average", "entropy", "confidence", "filter")
GUIDES = ("teacher", "ta1", "ta2")


def method(weights, **changed):
    fields = {"temperature": TAU, "standardise": False, "ce_weight": 0.9, "kd_weight": 2.1, "label_smoothing": 0.0}
    return MultiTeacher(weights=weights, **fields | changed)


def logits(k, b, c):
    """Logits of a student and of k teachers, [b, c] each, and labels."""
    g = torch.Generator().manual_seed(100 * k + 10 * b + c)
    z = [3 * torch.randn(b, c, dtype=torch.float64, generator=g) for _ in range(k + 1)]
    return z[0], z[1:], torch.randint(c, (b,), generator=g)


def softmax(row):
    e = [math.exp(v - max(row)) for v in row]
    return [v / sum(e) for v in e]


def slow_weights(rule, z, z_ts, y):
    """The equations of the rules, image by image."""
    n = len(z_ts)
    weights = [[0.0] * len(y) for _ in z_ts]
    for b, label in enumerate(y.tolist()):
        p = [softmax(z_t[b].tolist()) for z_t in z_ts]
        p_s = softmax(z[b].tolist())
        entropy = [-sum(q * math.log(q) for q in row) for row in p]
        confidence = softmax([-math.log(row[label]) for row in p])
        for k in range(n):
            if rule == "filter":
                weights[k][b] = (p[k][label] > p_s[label]) / n
            elif rule == "average" or n == 1:
                weights[k][b] = 1 / n
            elif rule == "entropy":
                weights[k][b] = (1 - entropy[k] / sum(entropy)) / (n - 1)
            else:
                weights[k][b] = (1 - confidence[k]) / (n - 1)
    return torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize(("k", "b", "c"), [(k, b, c) for k in (1, 2, 4) for b in (1, 2, 7) for c in (2, 10)])
@pytest.mark.parametrize("rule", RULES)
def test_weights_equal_their_equation(rule, k, b, c):
    z, z_ts, y = logits(k, b, c)
    torch.testing.assert_close(method(rule).weigh(z, z_ts, y), slow_weights(rule, z, z_ts, y))


@pytest.mark.parametrize("rule", RULES)
def test_weights_of_an_image_sum_to_one_or_less_if_teachers_are_filtered(rule):
    z, z_ts, y = logits(4, 50, 10)
    total = method(rule).weigh(z, z_ts, y).sum(0)
    if rule == "filter":
        assert total.max() <= 1 + 1e-12 and total.min() < 1
    else:
        torch.testing.assert_close(total, torch.ones(50, dtype=torch.float64))


def test_a_more_certain_teacher_and_a_teacher_that_is_right_weigh_more():
    z_ts = [torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])]
    z, right, wrong = torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1])
    for y in (right, wrong):
        certain, unsure = method("entropy").weigh(z, z_ts, y)
        assert certain > unsure
    assert method("confidence").weigh(z, z_ts, right)[0] > 0.5 > method("confidence").weigh(z, z_ts, wrong)[0]
    assert method("filter").weigh(z, z_ts, right).tolist() == [[0.5], [0.5]]
    assert method("filter").weigh(z, z_ts, wrong).tolist() == [[0.0], [0.0]]


def test_filter_is_average_while_every_teacher_is_surer_of_the_label_than_the_student():
    _, z_ts, y = logits(3, 7, 10)
    worst = -100 * torch.nn.functional.one_hot(y, 10).double()
    assert torch.equal(method("filter").weigh(worst, z_ts, y), method("average").weigh(worst, z_ts, y))


def test_teachers_without_any_entropy_weigh_the_same():
    certain = 1e6 * torch.eye(3)[:2]
    w = method("entropy").weigh(torch.zeros(2, 3), [certain, certain.clone(), certain.clone()], torch.tensor([0, 1]))
    torch.testing.assert_close(w, torch.full((3, 2), 1 / 3))


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_loss_weighs_one_kd_term_for_each_teacher(toy_step, rule, standardise):
    s = toy_step(["student"], GUIDES)
    x, y = s.batch.x, s.batch.y
    z, z_ts = s.nets["student"](x).detach(), [s.nets[g].teach(x) for g in GUIDES]
    w = slow_weights(rule, z, z_ts, y)

    def softened(v):
        if standardise:
            v = (v - v.mean(1, keepdim=True)) / (v.std(1, keepdim=True) + 1e-7)
        return log_softmax(v / TAU, 1)

    expected = {"ce": 0.9 * float(cross_entropy(z, y))}
    for k, g in enumerate(GUIDES):
        kl = (softened(z_ts[k]).exp() * (softened(z_ts[k]) - softened(z))).sum(1)
        expected[f"kd/{g}"] = 2.1 * TAU**2 * float((w[k] * kl).mean())
    (update,) = s.run(method(rule, standardise=standardise), Leg(("student",), GUIDES))
    assert update["student"] == pytest.approx(expected)
    assert [float(s.notes["student", f"weight/{g}"]) for g in GUIDES] == pytest.approx(w.mean(1).tolist())


def test_average_has_the_gradient_of_one_kl_term_towards_the_mean_of_probabilities():
    z, z_ts, y = logits(3, 7, 10)
    z.requires_grad_()
    terms = method("average", ce_weight=0.0, kd_weight=1.0)
    nets = {"student": lambda x: z, **{g: lambda x, k=k: z_ts[k] for k, g in enumerate(GUIDES)}}
    (losses,) = terms.step(nets, Leg(("student",), GUIDES), SimpleNamespace(x=None, y=y, note=lambda *_: None))
    (gradient,) = torch.autograd.grad(sum(losses["student"].values()), z)
    mean = torch.stack([(z_t / TAU).softmax(1) for z_t in z_ts]).mean(0)
    torch.testing.assert_close(gradient, TAU * ((z.detach() / TAU).softmax(1) - mean) / len(y))

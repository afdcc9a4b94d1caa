"""DKD, WTTM and DIST: losses equal their equations as loops in float64, and have their closed-form gradients."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from pipeline.core.interface import Leg
from pipeline.core.losses import distill, standardised
from pipeline.methods.dist import DIST, pearson
from pipeline.methods.dkd import DKD
from pipeline.methods.wttm import WTTM

GRID = [(b, c, tau) for b in (1, 2, 7) for c in (2, 3, 10) for tau in (0.5, 1.0, 4.0)]
LEG = Leg(("student",), ("teacher",))


def logits(b, c):
    """Logits of student and teacher, [b, c] in float64, and labels."""
    g = torch.Generator().manual_seed(10 * b + c)
    z_s, z_t = (3 * torch.randn(b, c, dtype=torch.float64, generator=g) for _ in range(2))
    return z_s, z_t, torch.randint(c, (b,), generator=g)


def softmax(row, tau=1.0):
    e = [math.exp((v - max(row)) / tau) for v in row]
    return [v / sum(e) for v in e]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def losses_of(method, z_s, z_t, y, epoch=1):
    """The terms that a method yields for given logits."""
    world = SimpleNamespace(gather=lambda v: v.detach(), gather_with_gradient=lambda v: v)
    nets = {"student": lambda x: z_s, "teacher": lambda x: z_t}
    (update,) = method.step(nets, LEG, SimpleNamespace(x=None, y=y, epoch=epoch, world=world))
    return update["student"]


# ---- DKD ----


def dkd(tau=4.0, **changed):
    return DKD(**{"temperature": tau, "standardise": False, "alpha": 1.5, "beta": 8.0, "warmup_epochs": 0} | changed)


def slow_dkd(z_s, z_t, y, tau):
    """tau^2 TCKD and tau^2 NCKD, image by image."""
    target = other = 0.0
    for row_s, row_t, label in zip(z_s.tolist(), z_t.tolist(), y.tolist()):
        p_s, p_t = softmax(row_s, tau), softmax(row_t, tau)
        rest_s, rest_t = (sum(p[c] for c in range(len(p)) if c != label) for p in (p_s, p_t))
        target += kl((p_t[label], rest_t), (p_s[label], rest_s))
        q_s = [v / rest_s for c, v in enumerate(p_s) if c != label]
        q_t = [v / rest_t for c, v in enumerate(p_t) if c != label]
        other += kl(q_t, q_s)
    return tau**2 * target / len(y), tau**2 * other / len(y)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_dkd_equals_its_equation(b, c, tau, standardise):
    z_s, z_t, y = logits(b, c)
    terms = losses_of(dkd(tau, standardise=standardise), z_s, z_t, y)
    if standardise:
        target, other = slow_dkd(standardised(z_s), standardised(z_t), y, tau)
    else:
        target, other = slow_dkd(z_s, z_t, y, tau)
    expected = {"ce": float(cross_entropy(z_s, y)), "tckd/teacher": 1.5 * target, "nckd/teacher": 8 * other}
    assert {t: float(v) for t, v in terms.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_dkd_gradients_have_their_closed_form(b, c, tau):
    z_s, z_t, y = logits(b, c)
    z_s.requires_grad_()
    target, other = dkd(tau).decoupled(z_s, z_t, y)
    p_s, p_t, label = (z_s.detach() / tau).softmax(1), (z_t / tau).softmax(1), one_hot(y, c).double()
    b_s, b_t = ((p * label).sum(1, keepdim=True) for p in (p_s, p_t))
    q_s, q_t = ((1 - label) * p / (1 - own) for p, own in ((p_s, b_s), (p_t, b_t)))
    (of_target,) = torch.autograd.grad(target, z_s, retain_graph=True)
    (of_other,) = torch.autograd.grad(other, z_s)
    torch.testing.assert_close(of_target, tau / b * (b_s - b_t) * (label - q_s))
    torch.testing.assert_close(of_other, tau / b * (q_s - q_t))


@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_kd_is_the_target_term_plus_the_other_term_weighed_by_the_teachers_doubt(b, c, tau):
    total = 0.0
    z_s, z_t, y = logits(b, c)
    for k in range(b):
        target, other = dkd(tau).decoupled(z_s[k : k + 1], z_t[k : k + 1], y[k : k + 1])
        total += target + (1 - (z_t[k] / tau).softmax(0)[y[k]]) * other
    torch.testing.assert_close(distill(z_s, z_t, tau), total / b)


@pytest.mark.parametrize("certain", [60.0, 500.0])
def test_dkd_of_a_certain_student_and_teacher_is_finite(certain):
    y = torch.tensor([0, 1])
    z_s = certain * one_hot(y, 3).float()
    z_t = -z_s + torch.tensor([0.0, 1.0, 2.0])
    z_s.requires_grad_()
    sum(losses_of(dkd(1.0), z_s, z_t, y).values()).backward()
    assert torch.isfinite(z_s.grad).all()


@pytest.mark.parametrize(("warmup", "epoch", "w"), [(20, 1, 0.05), (20, 10, 0.5), (20, 20, 1), (20, 99, 1), (0, 1, 1)])
def test_dkd_warms_up_linearly_from_the_first_epoch(warmup, epoch, w):
    z_s, z_t, y = logits(7, 10)
    full, terms = losses_of(dkd(), z_s, z_t, y), losses_of(dkd(warmup_epochs=warmup), z_s, z_t, y, epoch)
    assert terms["ce"] == full["ce"]
    for term in ("tckd/teacher", "nckd/teacher"):
        torch.testing.assert_close(terms[term], w * full[term])


# ---- WTTM ----


@pytest.mark.parametrize("u", [False, True])
@pytest.mark.parametrize(("b", "c", "gamma"), [(b, c, g) for b in (1, 2, 7) for c in (2, 10) for g in (0.1, 0.5, 1.0)])
def test_wttm_equals_its_equation(b, c, gamma, u):
    z_s, z_t, y = logits(b, c)
    total = 0.0
    for row_s, row_t in zip(z_s.tolist(), z_t.tolist()):
        powers = [p**gamma for p in softmax(row_t)]
        q = [v / sum(powers) for v in powers]
        total += (sum(powers) if u else 1) * kl(q, softmax(row_s))
    terms = losses_of(WTTM(gamma=gamma, beta=45.0, u=u), z_s, z_t, y)
    expected = {"ce": float(cross_entropy(z_s, y)), "kd/teacher": 45 * total / b}
    assert {t: float(v) for t, v in terms.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("u", [False, True])
@pytest.mark.parametrize(("b", "c", "gamma"), [(b, c, g) for b in (1, 7) for c in (2, 10) for g in (0.1, 1.0)])
def test_wttm_gradient_has_its_closed_form(b, c, gamma, u):
    z_s, z_t, y = logits(b, c)
    z_s.requires_grad_()
    (gradient,) = torch.autograd.grad(losses_of(WTTM(gamma=gamma, beta=3.0, u=u), z_s, z_t, y)["kd/teacher"], z_s)
    power = z_t.softmax(1) ** gamma
    weight = power.sum(1, keepdim=True) if u else 1
    expected = 3 / b * weight * (z_s.softmax(1) - power / power.sum(1, keepdim=True))
    torch.testing.assert_close(gradient, expected.detach())


def test_the_weight_of_an_image_grows_with_the_teachers_doubt_from_1_to_its_bound():
    method = WTTM(gamma=0.5, beta=1.0, u=True)
    weights = method.power_sum(torch.tensor([[1e4, 0, 0, 0], [3.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 0]]))
    assert weights.tolist() == sorted(weights.tolist())
    torch.testing.assert_close(weights[[0, -1]], torch.tensor([1.0, 4**0.5]))


# ---- DIST ----


def slow_pearson(a, b):
    """Pearson's correlation of two lists, with 1e-8 added to the denominator."""
    a, b = ([v - sum(x) / len(x) for v in x] for x in (a, b))
    norms = [math.sqrt(sum(v * v for v in x)) for x in (a, b)]
    return sum(v * w for v, w in zip(a, b)) / (norms[0] * norms[1] + 1e-8)


@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_dist_equals_its_equation(b, c, tau):
    z_s, z_t, y = logits(b, c)
    p_s, p_t = ([softmax(row, tau) for row in z.tolist()] for z in (z_s, z_t))
    inter = 1 - sum(slow_pearson(*rows) for rows in zip(p_s, p_t)) / b
    intra = 1 - sum(slow_pearson(*columns) for columns in zip(zip(*p_s), zip(*p_t))) / c
    terms = losses_of(DIST(temperature=tau, beta=2.0, gamma=3.0), z_s, z_t, y)
    expected = {
        "ce": float(cross_entropy(z_s, y)),
        "inter/teacher": 2 * tau**2 * inter,
        "intra/teacher": 3 * tau**2 * intra,
    }
    assert {t: float(v) for t, v in terms.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_correlation_ignores_shift_and_positive_scale_and_is_minus_one_for_opposites():
    a = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pearson(a, 3 * a + 2), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(pearson(a, -a), -torch.ones(5, dtype=torch.float64))


def test_correlation_with_a_constant_is_zero_with_a_finite_gradient():
    a = torch.ones(2, 4, requires_grad=True)
    rho = pearson(a, torch.arange(8.0).reshape(2, 4))
    rho.sum().backward()
    assert rho.tolist() == [0, 0] and torch.isfinite(a.grad).all()


@pytest.mark.parametrize("method", [dkd(), WTTM(gamma=0.5, beta=2.0, u=True), DIST(4.0, 1.0, 1.0)], ids=repr)
def test_the_teacher_receives_no_gradient(method):
    z_s, z_t, y = logits(7, 10)
    z_s.requires_grad_()
    z_t.requires_grad_()
    terms = losses_of(method, z_s, z_t, y)
    sum(terms.values()).backward()
    assert z_s.grad.abs().sum() > 0 and z_t.grad is None

"""The losses equal their equations, have the closed-form gradients, and pass no gradient to a teacher."""

import math

import pytest
import torch

from pipeline.core.losses import cross_entropies, cross_entropy, distill, mixed_cross_entropy, standardised

GRID = [(b, c, tau) for b in (1, 2, 7) for c in (2, 10) for tau in (0.5, 1.0, 4.0)]


def logits(b, c, seed=0):
    """Random logits [b, c] in float64."""
    return 3 * torch.randn(b, c, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def softmax(row, tau):
    """Softmax of one row of logits, in plain Python."""
    top = max(row)
    e = [math.exp((v - top) / tau) for v in row]
    return [v / sum(e) for v in e]


def slow_distill(z_s, z_t, tau):
    """The equation of `distill` as a loop over images and classes."""
    total = 0.0
    for s, t in zip(z_s.tolist(), z_t.tolist()):
        p_s, p_t = softmax(s, tau), softmax(t, tau)
        for c in range(len(s)):
            total += p_t[c] * (math.log(p_t[c]) - math.log(p_s[c]))
    return tau**2 * total / len(z_s)


@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_distill_equals_its_equation(b, c, tau):
    z_s, z_t = logits(b, c, 1), logits(b, c, 2)
    assert distill(z_s, z_t, tau).item() == pytest.approx(slow_distill(z_s, z_t, tau), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_distill_gradient_is_the_difference_of_softened_probabilities(b, c, tau):
    z_s, z_t = logits(b, c, 1).requires_grad_(), logits(b, c, 2)
    distill(z_s, z_t, tau).backward()
    expected = tau * ((z_s / tau).softmax(1) - (z_t / tau).softmax(1)) / b
    torch.testing.assert_close(z_s.grad, expected.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_weighted_distill_weights_each_image(b, c, tau):
    z_s, z_t, w = logits(b, c, 1), logits(b, c, 2), torch.arange(b, dtype=torch.float64)
    expected = sum(float(w[i]) * slow_distill(z_s[i : i + 1], z_t[i : i + 1], tau) for i in range(b)) / b
    assert distill(z_s, z_t, tau, weight=w).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_one_change_no_bit(dtype):
    for seed in range(20):
        values = []
        for weight in (None, torch.ones(7, dtype=dtype)):
            z_s = logits(7, 10, seed).to(dtype).requires_grad_()
            loss = distill(z_s, logits(7, 10, 100 + seed).to(dtype), 4.0, weight=weight)
            loss.backward()
            values.append((loss.detach(), z_s.grad))
        assert torch.equal(values[0][0], values[1][0]) and torch.equal(values[0][1], values[1][1])


@pytest.mark.parametrize(("b", "c"), [(1, 2), (2, 3), (7, 10)])
def test_standardised_logits_equal_their_equation(b, c):
    rows = []
    for z in logits(b, c).tolist():
        mean = sum(z) / c
        sd = math.sqrt(sum((v - mean) ** 2 for v in z) / (c - 1))
        rows.append([(v - mean) / (sd + 1e-7) for v in z])
    torch.testing.assert_close(standardised(logits(b, c)), torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize(("b", "c", "tau"), GRID)
def test_standardised_distill_is_distill_of_standardised_logits(b, c, tau):
    z_s, z_t = logits(b, c, 1), logits(b, c, 2)
    expected = slow_distill(standardised(z_s), standardised(z_t), tau)
    assert distill(z_s, z_t, tau, standardise=True).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_standardised_distill_ignores_shift_and_scale_of_the_logits_of_each_image():
    z_s, z_t = logits(5, 4, 1), logits(5, 4, 2)
    scale, shift = torch.arange(1.0, 6.0)[:, None], torch.arange(5.0)[:, None]
    one, other = (distill(z, z_t, 2.0, standardise=True) for z in (z_s, scale * z_s + shift))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=0)
    assert distill(z_s, scale * z_s + shift, 2.0, standardise=True).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("c", [2, 10, 100])
def test_a_standardised_logit_is_at_most_c_minus_1_over_the_root_of_c(c):
    bound = (c - 1) / math.sqrt(c)
    assert standardised(logits(50, c)).max() < bound + 1e-6
    certain = 1000 * torch.eye(c, dtype=torch.float64)
    assert standardised(certain).max().item() == pytest.approx(bound, rel=1e-6)


def test_equal_logits_have_a_finite_gradient_when_standardised():
    z_s = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    distill(z_s, logits(3, 4), 2.0, standardise=True).backward()
    assert torch.isfinite(z_s.grad).all()


def test_distill_is_zero_if_and_only_if_logits_differ_by_a_constant_per_image():
    z = logits(5, 4)
    assert distill(z, z + torch.arange(5.0)[:, None], 2.0).item() == pytest.approx(0, abs=1e-12)
    assert distill(z, z * 1.1, 2.0).item() > 1e-4


def test_distill_is_the_mean_over_equal_parts_of_a_batch():
    z_s, z_t = logits(6, 4, 1), logits(6, 4, 2)
    parts = [distill(z_s[k : k + 2], z_t[k : k + 2], 3.0) for k in (0, 2, 4)]
    torch.testing.assert_close(distill(z_s, z_t, 3.0), sum(parts) / 3)


def test_distill_approaches_squared_error_of_centred_logits_at_high_temperature():
    z_s, z_t = logits(3, 5, 1), logits(3, 5, 2)
    gap = (z_s - z_s.mean(1, keepdim=True)) - (z_t - z_t.mean(1, keepdim=True))
    expected = gap.square().sum(1).mean() / (2 * 5)
    torch.testing.assert_close(distill(z_s, z_t, 1e3), expected, rtol=1e-2, atol=0)


def test_teacher_receives_no_gradient():
    z_s, z_t = logits(3, 4, 1).requires_grad_(), logits(3, 4, 2).requires_grad_()
    (distill(z_s, z_t, 2.0) + distill(z_s, z_t, 2.0, standardise=True)).backward()
    assert z_s.grad.abs().sum() > 0
    assert z_t.grad is None


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        distill(logits(1, 2), logits(1, 2), 0)


@pytest.mark.parametrize("b", [1, 2, 7])
def test_cross_entropy_is_the_mean_of_cross_entropies(b):
    z, y = logits(b, 5), torch.arange(b) % 5
    slow = [-math.log(softmax(row, 1)[label]) for row, label in zip(z.tolist(), y.tolist())]
    torch.testing.assert_close(cross_entropies(z, y), torch.tensor(slow, dtype=torch.float64))
    assert cross_entropy(z, y).item() == pytest.approx(sum(slow) / b)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_mixed_cross_entropy_weights_both_labels(lam):
    z, y, y_f = logits(4, 5), torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 0, 0])
    expected = lam * cross_entropies(z, y).mean() + (1 - lam) * cross_entropies(z, y_f).mean()
    torch.testing.assert_close(mixed_cross_entropy(z, y, y_f, lam), expected)

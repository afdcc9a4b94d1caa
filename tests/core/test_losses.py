"""The losses equal their equations, have the closed-form gradients, and pass no gradient to a teacher."""

import math

import pytest
import torch

from pipeline.core.losses import (
    cross_entropies,
    cross_entropy,
    distill,
    distill_mean,
    mixed_cross_entropy,
)

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
def test_distill_mean_equals_its_equation(b, c, tau):
    z_s, z_ts = logits(b, c, 1), [logits(b, c, k) for k in (2, 3, 4)]
    mean = torch.tensor(
        [[sum(softmax(z[i].tolist(), tau)[j] for z in z_ts) / 3 for j in range(c)] for i in range(b)],
        dtype=torch.float64,
    )
    expected = slow_distill(z_s, tau * mean.log(), tau)
    assert distill_mean(z_s, z_ts, tau).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


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
    (distill(z_s, z_t, 2.0) + distill_mean(z_s, [z_t, 2 * z_t], 2.0)).backward()
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

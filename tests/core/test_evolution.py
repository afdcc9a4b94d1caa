"""The evolution strategy minimises without gradients, within bounds, each image for itself."""

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from pipeline.core.evolution import evolve
from pipeline.core.pixel_descent import descend

LOW, HIGH = torch.full((1, 1, 1), -1.0), torch.full((1, 1, 1), 2.0)
FACTOR = 2.0  # neither search reaches a mean objective of more than so many times that of the other


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def quadratic(goal):
    def objective(x):
        gap = (x - goal.repeat(len(x) // len(goal), 1, 1, 1)).square().flatten(1).sum(1)
        return gap, gap < 1e-4

    return objective


def counterfactual(net, x, y, classes, alpha=0.5, proximity=1e-4):
    """The objective of Cooperative, with a tolerance of 1e-3."""
    with torch.no_grad():
        p = net(x).softmax(1)
    target = p + alpha * (one_hot(y, classes) - p)

    def objective(moved):
        n = len(moved) // len(x)
        gap = net(moved).softmax(1) - target.repeat(n, 1)
        distance = (moved - x.repeat(n, 1, 1, 1)).abs().flatten(1).sum(1)
        return gap.square().sum(1) + proximity * distance, gap.detach().abs().amax(1) <= 1e-3

    return objective


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_on_a_differentiable_learner_both_searches_reach_the_same_objective(kind, seed):
    torch.manual_seed(seed)
    layers = {
        "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4)),
        "cnn": lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)),
    }
    net = layers[kind]().requires_grad_(False)
    x, y = torch.randn(30, 1, 8, 8).clamp(LOW, HIGH), torch.arange(30) % 4
    objective = counterfactual(net, x, y, 4)
    arguments = {"steps": 100, "step_size": 0.05, "low": LOW, "high": HIGH}
    by_gradient = descend(objective, x, **arguments)
    by_evolution = evolve(objective, x, **arguments, draw=generator())
    start, reached, evolved = (float(objective(v)[0].mean()) for v in (x, by_gradient, by_evolution))
    assert max(reached, evolved) < 0.1 * start
    assert evolved < FACTOR * reached and reached < FACTOR * evolved


def test_a_piecewise_constant_loss_is_minimised():
    """A loss without gradient: how many of four pixels are on the wrong side of a threshold."""
    x = torch.zeros(6, 1, 4, 4)

    def objective(moved):
        wrong = (moved[:, 0, 0] < 0.5).float().sum(1)
        return wrong + 1e-4 * moved.abs().flatten(1).sum(1), wrong == 0

    moved = evolve(objective, x, steps=100, step_size=0.02, low=LOW, high=HIGH, draw=generator())
    assert bool(objective(moved)[1].all())


def test_every_iterate_is_within_the_bounds_and_no_worse():
    goal = torch.full((3, 1, 3, 3), 5.0)
    x = torch.zeros_like(goal)
    moved = evolve(quadratic(goal), x, steps=300, step_size=0.1, low=LOW, high=HIGH, draw=generator())
    assert float(moved.max()) <= 2.0 and float(moved.min()) >= -1.0
    torch.testing.assert_close(moved, torch.full_like(goal, 2.0))
    worst = evolve(quadratic(x), x, steps=10, step_size=0.1, low=LOW, high=HIGH, draw=generator())
    assert torch.equal(worst, x)


def test_images_do_not_influence_each_other():
    goal = torch.rand(5, 1, 4, 4, generator=generator())
    x = torch.zeros_like(goal)
    arguments = {"steps": 30, "step_size": 0.05, "low": LOW, "high": HIGH}
    together = evolve(quadratic(goal), x, **arguments, draw=generator())
    alone = [evolve(quadratic(goal[k : k + 1]), x[k : k + 1], **arguments, draw=generator()) for k in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_candidates_are_evaluated_in_parts_with_the_same_result(monkeypatch):
    goal = torch.rand(5, 1, 4, 4, generator=generator())
    arguments = {"steps": 30, "step_size": 0.05, "low": LOW, "high": HIGH}
    whole = evolve(quadratic(goal), torch.zeros_like(goal), **arguments, draw=generator())
    monkeypatch.setattr("pipeline.core.evolution.MOST_PIXELS", 3 * goal.numel())
    assert torch.equal(whole, evolve(quadratic(goal), torch.zeros_like(goal), **arguments, draw=generator()))

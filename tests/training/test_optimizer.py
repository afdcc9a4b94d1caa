"""Optimizers: their updates, their state, the automatic learning rate, and exact resume with each of them."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from run_endings import checkpoint_in, ends_alike, killed_at
from toy_run import RECIPE, same

from pipeline.core.interface import Network
from pipeline.training.optimizer import Optimizer
from pipeline.training.schedule import learning_rate


def recipe(**changed):
    return SimpleNamespace(**RECIPE | changed)


def updated(optimizer: str, steps: int = 3, **changed):
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3)
    ours = Optimizer(module, recipe(optimizer=optimizer, **changed), lr=0.1, layer_decay=1.0, fused=False)
    for k in range(steps):
        ours.zero_grad()
        module(torch.full((2, 4), k + 1.0)).square().sum().backward()
        ours.step(0.5)
    return module, ours


PYTORCHS = {
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adamw": partial(torch.optim.AdamW, betas=(0.9, 0.999)),
}


@pytest.mark.parametrize("name", PYTORCHS)
def test_updates_are_those_of_pytorchs_optimizers_bit_for_bit(name):
    module, _ = updated(name, weight_decay=0.01)
    torch.manual_seed(0)
    reference = torch.nn.Linear(4, 3)
    optimizer = PYTORCHS[name](reference.parameters(), lr=0.05, weight_decay=0.01)
    for k in range(3):
        optimizer.zero_grad()
        reference(torch.full((2, 4), k + 1.0)).square().sum().backward()
        optimizer.step()
    assert same(module.state_dict(), reference.state_dict())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_restored_optimizer_goes_on_bit_for_bit(optimizer):
    whole, _ = updated(optimizer, 5)
    module, ours = updated(optimizer, 3)
    other = torch.nn.Linear(4, 3)
    other.load_state_dict(module.state_dict())
    resumed = Optimizer(other, recipe(optimizer=optimizer), lr=0.1, layer_decay=1.0, fused=False)
    resumed.load_state(ours.state())
    for k in (3, 4):
        resumed.zero_grad()
        other(torch.full((2, 4), k + 1.0)).square().sum().backward()
        resumed.step(0.5)
    assert same(other.state_dict(), whole.state_dict())


def test_a_clipped_gradient_has_the_stated_norm():
    module = torch.nn.Linear(4, 3)
    ours = Optimizer(
        module, recipe(clip_grad_norm=0.5, momentum=0.0, nesterov=False), lr=1.0, layer_decay=1.0, fused=False
    )
    (100 * module(torch.ones(2, 4)).sum()).backward()
    ours.step(1.0)
    assert torch.stack([p.grad.norm() for p in module.parameters()]).norm() == pytest.approx(0.5, rel=1e-4)


def test_layer_decay_gives_earlier_layers_smaller_rates_and_all_weights_the_same_decay():
    import timm

    module = timm.create_model("resnet10t", num_classes=3)
    ours = Optimizer(module, recipe(weight_decay=0.01), lr=0.1, layer_decay=0.5, fused=False)
    scales = sorted({group.lr_scale for group in ours.groups})
    assert scales[-1] == 1.0 and len(scales) > 3 and scales[0] < 0.2
    assert sum(len(group.params) for group in ours.groups) == len(list(module.parameters()))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    ours.step(1.0)
    scale = {p: group.lr_scale for group in ours.groups for p in group.params}
    for name, p in module.named_parameters():
        assert torch.allclose(p, before[name] * (1 - 0.1 * scale[p] * 0.01 * 1.9))  # Nesterov: 1 + momentum


@pytest.mark.parametrize(
    ("optimizer", "network", "expected"),
    [
        ("sgd", Network("cifar_resnet20"), 0.1),
        ("sgd", Network("resnet18"), 0.01),
        ("sgd", Network("resnet18", pretrained=True), 0.001),
        ("sgd", Network("cifar_resnet20", checkpoint="x.pth"), 0.01),
        ("adamw", Network("resnet18"), 0.001),
        ("adamw", Network("resnet18", pretrained=True), 0.0001),
        ("sgd", Network("cifar_resnet20", lr_scale=0.5), 0.05),
    ],
)
def test_the_automatic_learning_rate_fits_the_network(optimizer, network, expected):
    assert learning_rate(recipe(optimizer=optimizer, lr=None), network) == pytest.approx(expected)
    assert learning_rate(recipe(optimizer=optimizer, lr=0.3), network) == pytest.approx(0.3 * network.lr_scale)


@pytest.mark.parametrize("name", ["kd", "orc", "cooperative"])
def test_a_run_with_adamw_and_clipping_resumes_bit_for_bit(toy, tmp_path, name):
    options = {"optimizer": "adamw", "lr": 0.01, "clip_grad_norm": 1.0}
    toy.train.policy, toy.train.erasing = "trivial", 0.3
    whole = toy.run(METHODS[name], start_of(name, toy), **options).train()
    for update in (3, 8):
        checkpoint = checkpoint_in(tmp_path / str(update))
        killed_at(toy.run(METHODS[name], start_of(name, toy), checkpoint=checkpoint, minutes=0.0, **options), update)
        ends_alike(toy.run(METHODS[name], start_of(name, toy), checkpoint=checkpoint, **options).train(), whole)

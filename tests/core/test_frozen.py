"""A frozen network answers sooner than the one that it was made of, and says the same."""

import copy

import pytest
import torch
from torch import nn

from pipeline.core.frozen import Convolution, Frozen, fold, joined
from pipeline.models.create import create

ARCHS = (
    "tiny_plain4_32",
    "cifar_plain10",
    "cifar_vgg8",
    "cifar_resnet20",
    "cifar_wrn_16_2",
    "cifar_mobilenetv2",
    "cifar_shufflenetv1",
    "cifar_shufflenetv2",
    "test_resnet",
)
ON_CPU = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a PyTorch with oneDNN")


def trained(arch: str) -> nn.Module:
    """A network with BatchNorm as after training: no statistic is 0 or 1."""
    torch.manual_seed(0)
    network = create(arch, num_classes=10, in_chans=3, image_size=(32, 32))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return network.eval().requires_grad_(False)


def images(batch: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(batch, 3, 32, 32, dtype=dtype, generator=torch.Generator().manual_seed(batch))
    return x.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("arch", (*ARCHS, "test_vit"))
def test_a_folded_guide_says_what_the_network_says(arch):
    network, x = trained(arch).double(), images(4, torch.float64)
    folded = fold(copy.deepcopy(network))
    z, expected = folded(x), network(x)
    assert float((z - expected).abs().max() / expected.abs().max()) < 1e-9
    assert torch.equal(network(x), expected)


def test_folding_leaves_no_batchnorm_in_the_zoo():
    assert not [m for m in fold(trained("cifar_resnet20")).modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_network_that_cannot_be_followed_stays_as_it_is():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    network = Branching()
    assert fold(network) is network and torch.equal(Frozen(network)(torch.ones(2)), torch.ones(2))


@ON_CPU
@pytest.mark.parametrize("arch", ARCHS)
def test_joined_convolutions_say_what_the_folded_network_says(arch):
    folded = fold(trained(arch))
    network = joined(folded)
    joins = [m for m in network.modules() if isinstance(m, Convolution)]
    assert len(joins) == len([m for m in folded.modules() if isinstance(m, nn.Conv2d)])
    for batch in (5, 2, 5):
        x = images(batch)
        torch.testing.assert_close(network(x), folded(x), rtol=1e-5, atol=1e-5)
        assert torch.equal(x, images(batch))


@ON_CPU
def test_a_residual_network_adds_its_shortcuts_in_place():
    joins = [m for m in joined(fold(trained("cifar_resnet20"))).modules() if isinstance(m, Convolution)]
    assert sum(join.over for join in joins) == 9 and sum(join.relu for join in joins) == 19


class Around(nn.Module):
    """A convolution, and what the case does around it."""

    def __init__(self, around):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norm = nn.BatchNorm2d(3)
        nn.init.uniform_(self.norm.running_var, 2, 3)
        self.around = around

    def forward(self, x):
        return self.around(self, x)


AROUND = {
    "what is added is read again": lambda net, x: (h := net.first(x)) * 2 + net.third(net.second(h) + h) * h,
    "what is added is the image": lambda net, x: net.first(x) + x,
    "what is added is read through a view": lambda net, x: (
        (h := net.first(x)).flatten(1)[:, :9] + (net.second(h) + h).flatten(1)[:, :9]
    ),
    "a sum of different shapes": lambda net, x: net.first(x) + net.second(x).mean((2, 3), keepdim=True),
    "added to itself": lambda net, x: (h := net.first(x)) + h,
    "its image is changed before the sum": lambda net, x: (
        net.second(h := net.first(x)) + nn.functional.relu(h, inplace=True)
    ),
    "its image is clipped before the sum": lambda net, x: (
        (h := net.first(5 * x), z := net.second(h)) and nn.functional.relu6(h, inplace=True) + z
    ),
    "a convolution is used twice": lambda net, x: torch.relu(net.first(torch.relu(net.norm(net.first(x))))),
    "a ReLU and something else use it": lambda net, x: torch.relu(h := net.first(x)) + net.second(h),
    "scaled while it is added": lambda net, x: torch.add(net.first(x), net.second(x), alpha=3),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_whatever_is_around_a_convolution_its_answer_is_the_same(around):
    torch.manual_seed(0)
    network, x = Around(around).eval().requires_grad_(False), images(4)
    frozen = Frozen(copy.deepcopy(network))
    for batch in (4, 4, 3):
        torch.testing.assert_close(frozen(images(batch)), network(images(batch)), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, images(4))


@ON_CPU
def test_what_answers_otherwise_is_not_used(monkeypatch):
    network = trained("cifar_resnet20")
    usual = Frozen(network)
    usual(images(4))
    assert usual.soonest == {images(4).shape: usual.joined}
    plain = Convolution.forward
    monkeypatch.setattr(Convolution, "forward", lambda self, *inputs: plain(self, *inputs) + 1e-3)
    frozen, x = Frozen(network), images(4)
    assert torch.equal(frozen(x), fold(network)(x)) and frozen.soonest == {x.shape: frozen.folded}


@pytest.mark.parametrize("arch", ARCHS)
def test_an_answer_does_not_depend_on_what_was_asked_before(arch):
    """A run that is resumed meets batches of other sizes first."""
    sizes = (1, 2, 4, 8, 32)
    one, other = Frozen(trained(arch)), Frozen(trained(arch))
    answers = {size: one(images(size)) for size in sizes}
    assert all(torch.equal(other(images(size)), answers[size]) for size in reversed(sizes))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_folded_only(dtype):
    frozen = Frozen(trained("tiny_plain4_32").to(dtype))
    frozen(images(2, dtype))
    assert frozen.joined is None

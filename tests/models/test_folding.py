"""A folded network computes the same logits as the original."""

import copy

import pytest
import torch
from torch import nn

from pipeline.models.create import create
from pipeline.models.folding import fold

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


def trained(arch: str) -> nn.Module:
    """A network whose BatchNorm has random weights and statistics, as after training."""
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
def test_a_folded_network_gives_the_logits_of_the_network(arch):
    network, x = trained(arch).double(), images(4, torch.float64)
    folded = fold(copy.deepcopy(network))
    z, expected = folded(x), network(x)
    assert float((z - expected).abs().max() / expected.abs().max()) < 1e-9
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("arch", ("cifar_resnet20", "cifar_plain10"))
def test_folding_does_not_change_the_original_network(arch):
    network = trained(arch)
    state, expected = copy.deepcopy(network.state_dict()), network(images(4))
    assert fold(network) is not network
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(images(4)), expected)


def test_folding_leaves_no_batchnorm_in_the_zoo():
    assert not [m for m in fold(trained("cifar_resnet20")).modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_network_that_cannot_be_traced_stays_as_it_is():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    network = Branching()
    assert fold(network) is network


def test_a_network_that_calls_a_convolution_twice_stays_as_it_is():
    network = Around(AROUND["a convolution is used twice"])
    assert fold(network) is network and isinstance(network.norm, nn.BatchNorm2d)


class Around(nn.Module):
    """Convolutions in the surroundings that a case puts them in."""

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
def test_whatever_is_around_a_convolution_the_logits_are_the_same(around):
    torch.manual_seed(0)
    network, x = Around(around).eval().requires_grad_(False), images(4)
    folded = fold(copy.deepcopy(network))
    for batch in (4, 4, 3):
        torch.testing.assert_close(folded(images(batch)), network(images(batch)), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, images(4))


@pytest.mark.parametrize("arch", ARCHS)
def test_logits_do_not_depend_on_earlier_batches(arch):
    """A resumed run starts with batches of other sizes."""
    sizes = (1, 2, 4, 8, 32)
    one, other = fold(trained(arch)), fold(trained(arch))
    logits = {size: one(images(size)) for size in sizes}
    assert all(torch.equal(other(images(size)), logits[size]) for size in reversed(sizes))

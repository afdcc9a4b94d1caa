"""Speed that changes no law: folded guides, compiled networks, precision, and what a machine refuses."""

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from torch import nn
from workshop import Workshop

from pipeline.core import launch
from pipeline.core.live import fold
from pipeline.errors import ParamsError
from pipeline.models.create import create

ARCHS = (
    "cifar_resnet20",
    "cifar_wrn_16_1",
    "cifar_vgg8",
    "cifar_mobilenetv2",
    "cifar_shufflenetv1",
    "test_vit",
    "test_resnet",
)


def trained_statistics(network: nn.Module) -> nn.Module:
    """BatchNorm as after training: no statistic is 0 or 1."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return network


@pytest.mark.parametrize("arch", ARCHS)
def test_a_folded_guide_says_what_the_network_says(arch):
    torch.manual_seed(0)
    network = trained_statistics(create(arch, num_classes=10, in_chans=3, image_size=(32, 32))).eval().double()
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    folded = fold(copy.deepcopy(network))
    with torch.no_grad():
        z, expected = folded(x), network(x)
    assert float((z - expected).abs().max() / expected.abs().max()) < 1e-9
    assert torch.equal(network(x), expected)


def test_folding_leaves_no_batchnorm_in_the_zoo():
    folded = fold(create("cifar_resnet20", num_classes=10, in_chans=3, image_size=(32, 32)))
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_network_that_cannot_be_followed_stays_as_it_is():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    network = Branching()
    assert fold(network) is network


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_networks_learn_what_eager_ones_learn(tmp_path, monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    shop = Workshop(tmp_path)
    for name in ("kd", "orc"):
        runs = [shop.run(METHODS[name], start_of(name, shop), compile=c, epochs=1).train() for c in (False, True)]
        eager, compiled = (run.networks["student"].last for run in runs)
        assert all(torch.allclose(v, compiled[k], rtol=1e-3, atol=1e-3) for k, v in eager.items())


def numerics(**changed):
    return SimpleNamespace(**{"precision": "fp32", "compile": False, "sync_batchnorm": False} | changed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do these")
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"precision": "tf32"}, "train.precision: tf32 is an NVIDIA GPU's"),
        ({"sync_batchnorm": True}, "train.sync_batchnorm: PyTorch has it on GPUs only"),
    ],
)
def test_what_a_cpu_cannot_do_is_one_line(asked, said):
    with pytest.raises(ParamsError, match=said):
        launch.accelerate(1, numerics(**asked))


def test_a_machine_without_a_compiler_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParamsError, match=r"train\.compile: needs a C\+\+ compiler"):
        launch.accelerate(1, numerics(compile=True))


@pytest.mark.parametrize("name", ["kd", "cooperative"])
def test_bf16_trains_with_losses_in_float32(tmp_path, name):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    shop = Workshop(tmp_path)
    AcceleratorState._reset_state()
    try:
        start = start_of(name, shop)
        run = shop.run(METHODS[name], start, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
        seen = set()
        for live in run.nets.values():
            convolution = next(m for m in live.bare.modules() if isinstance(m, nn.Conv2d))
            convolution.register_forward_hook(lambda module, x, y: seen.add((module.training, y.dtype)))
            assert live.teach(shop.train.plain(torch.arange(4))).dtype == torch.float32
        result = run.train()
    finally:
        AcceleratorState._reset_state()
    assert (True, torch.bfloat16) in seen and (True, torch.float32) not in seen
    trained = next(iter(result.networks.values()))
    assert {v.dtype for v in trained.last.values()} <= {torch.float32, torch.int64}
    assert all(torch.tensor(row[4]).isfinite() for row in result.rows)

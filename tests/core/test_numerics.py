"""Speed that changes no law: folded guides, compiled networks, precision, and what a machine refuses."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from torch import nn
from workshop import Workshop

from pipeline.core import launch
from pipeline.errors import ParamsError


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

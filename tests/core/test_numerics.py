"""Speed that changes no law: folded guides, compiled networks, precision, and what a machine refuses."""

import shutil
import sysconfig
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from torch import nn
from workshop import Workshop

from pipeline.core import launch
from pipeline.core.numerics import check
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


def test_a_python_without_headers_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ParamsError, match=r"train\.compile: needs Python's headers"):
        check(numerics(compile=True), gpus=0)


def test_more_processes_than_gpus_are_refused_and_processors_are_shared():
    check(numerics(), gpus=2, processes=2)
    check(numerics(), gpus=0, processes=2)
    with pytest.raises(
        ParamsError, match=r"runtime\.num_processes: 2 processes on this machine need as many GPUs, not 1"
    ):
        check(numerics(), gpus=1, processes=2)


def test_cuda_graphs_of_a_pytorch_that_breaks_them_are_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    check(numerics(compile=True), gpus=0)
    with pytest.raises(ParamsError, match=r"train\.compile: on a GPU needs PyTorch 2\.15, and this is 2\.11\.0\+cu130"):
        check(numerics(compile=True), gpus=1)


@pytest.mark.parametrize("name", METHODS)
def test_no_gradient_outlives_a_run(tmp_path, name):
    shop = Workshop(tmp_path)
    run = shop.run(METHODS[name], start_of(name, shop))
    run.train()
    assert all(p.grad is None for live in run.nets.values() for p in live.bare.parameters())


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

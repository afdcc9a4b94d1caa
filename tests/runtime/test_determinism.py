"""Compiled networks, precision, and the machine requirements of numerical settings."""

import shutil
import sysconfig
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from torch import nn
from toy_run import ToyRuns

from pipeline.errors import ParamsError
from pipeline.runtime import launch
from pipeline.runtime.determinism import check_machine


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("name", [pytest.param("kd", marks=pytest.mark.long), "orc"])
def test_compiled_networks_equal_eager_networks(tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    toy = ToyRuns(tmp_path)
    runs = [toy.run(METHODS[name], start_of(name, toy), compile=c, epochs=1).train() for c in (False, True)]
    eager, compiled = (run.networks["student"].last for run in runs)
    assert all(torch.allclose(v, compiled[k], rtol=1e-3, atol=1e-3) for k, v in eager.items())


def numerics(**changed):
    return SimpleNamespace(**{"precision": "fp32", "compile": False, "sync_batchnorm": False} | changed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU supports these settings")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "tf32"}, "train.precision: tf32 requires an NVIDIA GPU, and none was found"),
        ({"sync_batchnorm": True}, "train.sync_batchnorm: true requires GPUs, and none was found"),
    ],
)
def test_setting_that_requires_a_gpu_is_an_error_without_one(settings, message):
    with pytest.raises(ParamsError, match=message):
        launch.create_accelerator(1, numerics(**settings))


def test_compile_without_a_cpp_compiler_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParamsError, match=r"train\.compile: true requires a C\+\+ compiler"):
        launch.create_accelerator(1, numerics(compile=True))


def test_compile_without_python_headers_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ParamsError, match=r"train\.compile: true requires the headers of Python"):
        check_machine(numerics(compile=True), gpus=0)


def test_more_processes_than_gpus_are_an_error_but_share_a_cpu():
    check_machine(numerics(), gpus=2, processes=2)
    check_machine(numerics(), gpus=0, processes=2)
    with pytest.raises(
        ParamsError, match=r"runtime\.num_processes: 2 processes on this machine require as many GPUs, but it has 1"
    ):
        check_machine(numerics(), gpus=1, processes=2)


def test_compile_on_a_gpu_requires_a_supported_pytorch_version(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    check_machine(numerics(compile=True), gpus=0)
    with pytest.raises(
        ParamsError, match=r"train\.compile: true requires PyTorch 2\.15 on a GPU, and this is 2\.11\.0\+cu130"
    ):
        check_machine(numerics(compile=True), gpus=1)


@pytest.mark.parametrize("name", METHODS)
def test_no_gradient_remains_after_a_run(tmp_path, name):
    toy = ToyRuns(tmp_path)
    run = toy.run(METHODS[name], start_of(name, toy))
    run.train()
    assert all(p.grad is None for net in run.nets.values() for p in net.module.parameters())


@pytest.mark.parametrize("name", ["kd", "cooperative"])
def test_bf16_runs_convolutions_in_bfloat16_and_losses_in_float32(tmp_path, name):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    toy = ToyRuns(tmp_path)
    AcceleratorState._reset_state()
    try:
        start = start_of(name, toy)
        run = toy.run(METHODS[name], start, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
        dtypes = set()
        for net in run.nets.values():
            convolution = next(m for m in net.module.modules() if isinstance(m, nn.Conv2d))
            convolution.register_forward_hook(lambda module, x, y: dtypes.add((module.training, y.dtype)))
            assert net.teach(toy.train.plain(torch.arange(4))).dtype == torch.float32
        result = run.train()
    finally:
        AcceleratorState._reset_state()
    assert (True, torch.bfloat16) in dtypes and (True, torch.float32) not in dtypes
    trained = next(iter(result.networks.values()))
    assert {v.dtype for v in trained.last.values()} <= {torch.float32, torch.int64}
    assert all(torch.tensor(row[4]).isfinite() for row in result.history)

"""On a GPU: the same results as on a CPU, the same bits twice, resumed bit for bit, and no waiting within an epoch."""

import warnings

import pytest
import torch
import torch._dynamo
from accelerate.state import AcceleratorState
from cases import METHODS, start_of
from endings import ends_alike, killed_at, quiet_checkpoint
from workshop import Workshop

from pipeline.core.logits import LogitStore
from pipeline.core.run import Run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    torch._dynamo.reset()
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield Workshop(tmp_path, "cuda")
    torch.cuda.set_sync_debug_mode("default")
    torch.use_deterministic_algorithms(False)
    AcceleratorState._reset_state(reset_partial_state=True)


def gap(one, other) -> float:
    """The largest difference between two results' weights."""
    states = [(one.networks[n].last, other.networks[n].last) for n in one.networks]
    return max(float((a[k].double() - b[k].double()).abs().max()) for a, b in states for k in a)


@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_learns_what_a_cpu_learns(gpu, tmp_path, name):
    there = gpu.run(METHODS[name], start_of(name, gpu), dtype=torch.float64).train()
    AcceleratorState._reset_state(reset_partial_state=True)
    shop = Workshop(tmp_path)
    here = shop.run(METHODS[name], start_of(name, shop), dtype=torch.float64).train()
    # Cooperative's pools are pixels in float32, whatever the networks compute in.
    assert gap(here, there) < (1e-4 if name == "cooperative" else 1e-8)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_is_the_same_bits_twice(gpu, name, compile):
    start = start_of(name, gpu)
    ends_alike(*(gpu.run(METHODS[name], start, compile=compile).train() for _ in range(2)))


@pytest.mark.parametrize("name", METHODS)
def test_graphs_learn_what_eager_networks_learn(gpu, name):
    eager, graphs = (
        gpu.run(METHODS[name], start_of(name, gpu), compile=c, epochs=1, dtype=torch.float64).train()
        for c in (False, True)
    )
    assert gap(eager, graphs) < 1e-8


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_ends_like_one_that_was_not(gpu, tmp_path, name):
    method, start = METHODS[name], start_of(name, gpu)
    whole = gpu.run(method, start).train()
    checkpoint = quiet_checkpoint(tmp_path)
    kills = sum(killed_at(gpu.run(method, start, checkpoint=checkpoint, minutes=0.0), k) for k in (3, 5, 8, 13))
    assert kills
    ends_alike(gpu.run(method, start, checkpoint=checkpoint).train(), whole)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_for_nothing_but_the_election(gpu, tmp_path, name, stored, monkeypatch):
    store = LogitStore(tmp_path / "logits", kind="fp32", gib=1.0, about={}) if stored else None
    if store:
        gpu.run(METHODS[name], start_of(name, gpu), store=store).train()  # what fills it must wait
    waits = []
    plain = Run.advance

    def advance(run, *arguments):
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            plain(run, *arguments)
        torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(w.message) for w in said))

    monkeypatch.setattr(Run, "advance", advance)
    gpu.run(METHODS[name], start_of(name, gpu), store=store).train()
    assert max(waits[1:]) <= (name == "orc")  # the first step may still set something up

"""On a GPU: the same results as on a CPU, the same bits twice, resumed bit for bit, and no waiting within an epoch."""

import warnings

import pytest
import torch
import torch._dynamo
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from cases import METHODS, start_of
from endings import ends_alike, killed_at, quiet_checkpoint
from workshop import Workshop

from pipeline.core.logits import LogitStore
from pipeline.core.numerics import settle
from pipeline.core.run import Run
from pipeline.models.create import create

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    torch._dynamo.reset()
    AcceleratorState._reset_state(reset_partial_state=True)
    settle()
    yield Workshop(tmp_path, "cuda")
    torch.cuda.set_sync_debug_mode("default")
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = True
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
        gpu.run(METHODS[name], start_of(name, gpu), compile=c, epochs=4, dtype=torch.float64).train()
        for c in (False, True)
    )
    assert gap(eager, graphs) < 1e-8  # most steps are replayed: the first two of a network warm up and record


@pytest.mark.parametrize("name", ["orc", "dml", "sdgkd"])
def test_graphs_in_bf16_are_the_same_bits_twice_and_learn(gpu, name):
    def learnt():
        AcceleratorState._reset_state(reset_partial_state=True)
        half = Accelerator(mixed_precision="bf16")
        return gpu.run(METHODS[name], start_of(name, gpu), compile=True, epochs=4, accelerator=half).train()

    one, other = learnt(), learnt()
    ends_alike(one, other)
    assert all(torch.tensor(row[4]).isfinite() for row in one.rows)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_ends_like_one_that_was_not(gpu, tmp_path, name, compile):
    method, start = METHODS[name], start_of(name, gpu)
    whole = gpu.run(method, start, compile=compile).train()
    checkpoint = quiet_checkpoint(tmp_path)

    def again(**settings):
        return gpu.run(method, start, compile=compile, checkpoint=checkpoint, **settings)

    assert sum(killed_at(again(minutes=0.0), k) for k in (3, 5, 8, 13))
    ends_alike(again().train(), whole)


def test_settled_numerics_answer_in_full_precision(gpu):
    """A convolution's sums in TF32 differ in the fourth digit."""
    network = create("cifar_resnet20", num_classes=100, in_chans=3, image_size=(32, 32)).eval()
    x = torch.randn(64, 3, 32, 32)
    with torch.inference_mode():
        here, there = network(x), network.to("cuda")(x.to("cuda")).cpu()
    assert torch.allclose(here, there, rtol=1e-5, atol=1e-5 * float(here.abs().max()))


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

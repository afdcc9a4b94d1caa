"""On a GPU, runs equal CPU runs, are bitwise reproducible and resumable, and do not synchronise within an epoch."""

import warnings

import pytest
import torch
import torch._dynamo
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from cases import METHODS, RECIPES, case, start_of
from run_endings import ends_alike, killed_at, quiet_checkpoint
from toy_run import ToyRuns

from pipeline.models.create import create
from pipeline.runtime.determinism import enable_determinism
from pipeline.storage.logit_cache import LogitCache
from pipeline.training import network, run
from pipeline.training.batches import Batches
from pipeline.training.loop import Loop

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    torch._dynamo.reset()
    AcceleratorState._reset_state(reset_partial_state=True)
    enable_determinism()
    yield ToyRuns(tmp_path, "cuda")
    torch.cuda.set_sync_debug_mode("default")
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = True
    AcceleratorState._reset_state(reset_partial_state=True)


def gap(one, other) -> float:
    """The largest absolute difference between the weights of two results."""
    states = [(one.networks[n].last, other.networks[n].last) for n in one.networks]
    return max(float((a[k].double() - b[k].double()).abs().max()) for a, b in states for k in a)


@pytest.mark.parametrize("name", METHODS)
def test_gpu_run_equals_cpu_run_in_float64(gpu, tmp_path, name):
    on_gpu = gpu.run(METHODS[name], start_of(name, gpu), dtype=torch.float64).train()
    AcceleratorState._reset_state(reset_partial_state=True)
    toy = ToyRuns(tmp_path)
    on_cpu = toy.run(METHODS[name], start_of(name, toy), dtype=torch.float64).train()
    # Cooperative's pools are float32 pixels, whatever the dtype of the networks.
    assert gap(on_cpu, on_gpu) < (1e-4 if name == "cooperative" else 1e-8)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_repeated_runs_are_bitwise_equal(gpu, name, compile):
    start = start_of(name, gpu)
    ends_alike(*(gpu.run(METHODS[name], start, compile=compile).train() for _ in range(2)))


@pytest.fixture
def uncaptured(monkeypatch):
    """Networks that are not captured."""
    monkeypatch.setattr(run, "can_be_captured", lambda *arguments, **named: False)


@pytest.mark.parametrize("name", METHODS)
def test_compiled_networks_equal_eager_networks_in_float64(gpu, name, uncaptured):
    eager, graphs = (
        gpu.run(METHODS[name], start_of(name, gpu), compile=c, epochs=4, dtype=torch.float64).train()
        for c in (False, True)
    )
    assert gap(eager, graphs) < 1e-8  # a network's first two steps warm up and record, the others replay


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("name", [*METHODS, *RECIPES])
def test_captured_passes_equal_eager_passes_bit_for_bit(gpu, tmp_path, name, precision, monkeypatch):
    method, augmentation, recipe = case(name)
    toy = ToyRuns(tmp_path, "cuda", **augmentation)
    start = start_of(method, toy)

    def train():
        AcceleratorState._reset_state(reset_partial_state=True)
        return toy.run(METHODS[method], start, accelerator=Accelerator(mixed_precision=precision), **recipe).train()

    captured = [train() for _ in range(2)]
    monkeypatch.setattr(run, "can_be_captured", lambda *arguments, **named: False)
    eager = train()
    ends_alike(captured[0], eager)
    ends_alike(captured[1], eager)  # a second run, while the graphs of the first are garbage


@pytest.mark.parametrize("name", ["orc", "dml", "sdgkd"])
def test_cuda_graphs_in_bf16_are_bitwise_reproducible_and_finite(gpu, name):
    def train():
        AcceleratorState._reset_state(reset_partial_state=True)
        half = Accelerator(mixed_precision="bf16")
        return gpu.run(METHODS[name], start_of(name, gpu), compile=True, epochs=4, accelerator=half).train()

    one, other = train(), train()
    ends_alike(one, other)
    assert all(torch.tensor(row[4]).isfinite() for row in one.history)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_killed_run_resumes_to_the_uninterrupted_result(gpu, tmp_path, name, compile):
    method, start = METHODS[name], start_of(name, gpu)
    whole = gpu.run(method, start, compile=compile).train()
    checkpoint = quiet_checkpoint(tmp_path)

    def again(**settings):
        return gpu.run(method, start, compile=compile, checkpoint=checkpoint, **settings)

    assert sum(killed_at(again(minutes=0.0), k) for k in (3, 5, 8, 13))
    ends_alike(again().train(), whole)


def test_deterministic_settings_compute_in_full_float32(gpu):
    """Convolutions in TF32 would differ in the fourth digit."""
    network = create("cifar_resnet20", num_classes=100, in_chans=3, image_size=(32, 32)).eval()
    x = torch.randn(64, 3, 32, 32)
    with torch.inference_mode():
        on_cpu, on_gpu = network(x), network.to("cuda")(x.to("cuda")).cpu()
    assert torch.allclose(on_cpu, on_gpu, rtol=1e-5, atol=1e-5 * float(on_cpu.abs().max()))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_training_step_does_not_synchronise_except_for_a_decision_of_all_ranks(
    gpu, tmp_path, name, cached, monkeypatch
):
    store = LogitCache(tmp_path / "logits", kind="fp32", gib=1.0, key={}) if cached else None
    if store:
        gpu.run(METHODS[name], start_of(name, gpu), cache=store).train()  # filling the cache synchronises
    synchronisations, captures = [], []
    next_batch, after_step = Batches.__call__, Loop.after_step

    def begin(batches, *arguments, **named):
        torch.cuda.set_sync_debug_mode("warn")
        caught.clear()
        return next_batch(batches, *arguments, **named)

    def end(loop, leg):
        torch.cuda.set_sync_debug_mode("default")
        if not captures:  # a capture synchronises
            synchronisations.append(sum("synchroniz" in str(w.message) for w in caught))
        captures.clear()
        after_step(loop, leg)

    def noted(capture):
        def go(*arguments):
            captures.append(capture)
            return capture(*arguments)

        return go

    for name_ in ("capture_training", "CapturedForward"):
        monkeypatch.setattr(network, name_, noted(getattr(network, name_)))
    monkeypatch.setattr(Batches, "__call__", begin)
    monkeypatch.setattr(Loop, "after_step", end)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gpu.run(METHODS[name], start_of(name, gpu), cache=store).train()
    assert max(synchronisations[1:]) <= (name in ("orc", "switokd"))  # the first step may initialise lazily

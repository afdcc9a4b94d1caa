"""bf16 on a processor that has it: the laws of fp32 hold bit for bit, weights and evaluation stay in float32."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from cases import METHODS, start_of
from pictures import section
from run_endings import ends_alike, killed_at, quiet_checkpoint
from safetensors.torch import save_file
from torch import nn
from toy_run import ToyRuns

from pipeline.core.interface import Network
from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.evaluation import testing
from pipeline.runtime import launch
from pipeline.runtime.determinism import check_machine
from pipeline.storage.bundle import Bundle, write_network
from pipeline.storage.logit_cache import LogitCache
from pipeline.training.network import initialise

has_bf16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bf16 instructions"
)
SEEDS = range(5)
WARNING = "warning: train.precision: bf16 is slower than fp32 on this processor, which has no bf16 instructions\n"


@pytest.fixture(autouse=True)
def own_precision():
    """Accelerate keeps one precision for the whole process: other tests must not find this one."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def run_in(precision: str, toy: ToyRuns, method, start, **options):
    """A run of a toy.  precision: bf16, or "no" for fp32."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    return toy.run(method, start, accelerator=accelerator, **options)


def bf16_run(toy: ToyRuns, name: str, **options):
    """A run of the method of that name in bf16."""
    return run_in("bf16", toy, METHODS[name], start_of(name, toy), **options)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Prepared:
    """The default data, prepared."""
    folder = tmp_path_factory.mktemp("digits")
    asked = section("digits", folder / "unused")
    prepare(open_source(asked), asked, folder / "prepared")
    return Prepared.read(folder / "prepared")


def on_digits(folder, data: Prepared) -> ToyRuns:
    """Runs on the digits. The networks of a chain that ToyRuns provides do not fit them."""
    toy = ToyRuns(folder)
    toy.train, toy.validation = (data.views(split, device=torch.device("cpu")) for split in ("train", "validation"))
    return toy


# ---- bit for bit ----


@has_bf16
@pytest.mark.parametrize("name", ["kd", "dgkd"])
def test_stored_logits_are_the_same_bits_as_computed_ones(toy, tmp_path, name):
    def stored():
        return LogitCache(tmp_path / "logits", kind="fp32", gib=1.0, key={})

    whole = bf16_run(toy, name).train()
    ends_alike(bf16_run(toy, name, cache=stored()).train(), whole)
    reading = bf16_run(toy, name, cache=stored())
    guides = [net for net in reading.nets.values() if net.optimizer is None and not net.initial]
    computed = []
    for net in guides:
        net.eval_module.register_forward_hook(lambda *_: computed.append(1))
    ends_alike(reading.train(), whole)
    assert guides and not computed
    values = torch.from_numpy(np.concatenate([np.fromfile(f, np.float32) for f in tmp_path.glob("logits/*/values")]))
    assert values.any() and torch.equal(values, values.bfloat16().float())  # they are bf16's logits


@has_bf16
@pytest.mark.parametrize("name", ["kd", "orc", "cooperative"])
def test_run_killed_after_every_batch_resumes_to_the_uninterrupted_result(toy, tmp_path, name):
    whole = bf16_run(toy, name).train()
    checkpoint = quiet_checkpoint(tmp_path)
    update = {"orc": 4}.get(name, 2)  # the first of the second step
    kills = 0
    while killed_at(bf16_run(toy, name, checkpoint=checkpoint, minutes=0.0), update):
        kills += 1
    assert kills >= whole.steps - 3
    ends_alike(bf16_run(toy, name, checkpoint=checkpoint).train(), whole)


@has_bf16
@pytest.mark.parametrize("name", METHODS)
def test_repeated_runs_are_the_same_bits(toy, name):
    ends_alike(bf16_run(toy, name).train(), bf16_run(toy, name).train())


def test_fp32_and_bf16_never_share_a_checkpoint_or_a_stored_logit():
    runtime = SimpleNamespace(num_processes=1, threads=1)
    keys = [launch.environment(runtime, SimpleNamespace(precision=precision)) for precision in ("fp32", "bf16")]
    assert [key.pop("precision") for key in keys] == ["fp32", "bf16"]
    assert keys[0] == keys[1]


# ---- float32 where it matters ----


@has_bf16
def test_weights_are_saved_and_evaluated_in_float32(tmp_path, digits):
    result = run_in("bf16", on_digits(tmp_path, digits), METHODS["scratch"], {}, batch_size=64).train()
    trained = result.networks["student"]
    assert {v.dtype for v in trained.last.values()} <= {torch.float32, torch.int64}
    assert any(not torch.equal(v, v.bfloat16().float()) for v in trained.last.values() if v.is_floating_point())
    shape = {"num_classes": 10, "in_chans": 1, "image_size": [8, 8], "parameters": 1}
    record = {"arch": "tiny_plain2_12", **shape, "validation": trained.validation}
    write_network(tmp_path / "bundle", "student", record, last=trained.last, best=trained.best)
    bundle, tester = Bundle.read(tmp_path / "bundle"), testing.Tester(digits)
    tester.device = torch.device("cpu")
    tester.views = digits.views("test", device=tester.device)
    module = bundle.load("student", "last")
    assert all(v.dtype == trained.last[k].dtype and v.equal(trained.last[k]) for k, v in module.state_dict().items())
    found = tester.logits(bundle, "student", "last")  # while this process still trains in bf16
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        expected = torch.cat([module(tester.views.plain(rows)) for rows in torch.arange(997).split(512)])
    assert expected.dtype == torch.float32 and np.array_equal(found, expected.numpy())
    assert not torch.equal(expected, expected.bfloat16().float())


# ---- as good ----


def accuracy(weights, arch: str, data: Prepared) -> float:
    """Accuracy on the test split in percent, in float32."""
    module = initialise(Network(arch), seed=0, num_classes=10, in_chans=1, image_size=(8, 8)).eval()
    module.load_state_dict(weights)
    views = data.views("test", device=torch.device("cpu"))
    with torch.inference_mode():
        right = module(views.plain(torch.arange(len(views)))).argmax(1) == views.labels
    return 100 * float(right.double().mean())


@has_bf16
def test_bf16_learns_the_digits_as_well_as_fp32_within_the_spread_of_seeds(tmp_path, digits):
    """KD, mean test accuracy over five seeds: at most two standard errors of the difference plus half a point apart."""
    toy, arch = on_digits(tmp_path, digits), "tiny_plain2_32"

    def train(precision: str, method, start, seed: int):
        networks = method.networks(arch, start)
        run = run_in(precision, toy, method, None, networks=networks, seed=seed, epochs=12, batch_size=32, lr=0.2)
        return run.train().networks["student"].last

    save_file(train("no", METHODS["scratch"], {}, 0), tmp_path / "digits.safetensors")
    start = {"teacher": Network(arch, weights=tmp_path / "digits.safetensors", learns=False)}
    fp32, bf16 = (
        np.array([accuracy(train(precision, METHODS["kd"], start, seed), arch, digits) for seed in SEEDS])
        for precision in ("no", "bf16")
    )
    error = np.sqrt((fp32.var(ddof=1) + bf16.var(ddof=1)) / len(SEEDS))
    print(f"\nfp32 {fp32.mean():.2f}, bf16 {bf16.mean():.2f}, standard error of the difference {error:.2f}")
    assert fp32.mean() > 85 and error < 1.5  # it learns, and the criterion can fail
    assert abs(bf16.mean() - fp32.mean()) <= 2 * error + 0.5


# ---- a processor that lacks it ----


def numerics(precision: str) -> SimpleNamespace:
    return SimpleNamespace(precision=precision, compile=False, sync_batchnorm=False)


@pytest.mark.parametrize(
    ("precision", "gpus", "instructions", "printed"),
    [
        ("bf16", 0, False, WARNING),
        ("bf16", 0, True, ""),
        ("bf16", 1, False, ""),
        ("fp32", 0, False, ""),
    ],
)
def test_bf16_without_bf16_instructions_is_a_warning_of_one_line(
    monkeypatch, capsys, precision, gpus, instructions, printed
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    check_machine(numerics(precision), gpus=gpus)
    assert capsys.readouterr().out == printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bf16")
def test_a_stage_prints_that_warning_and_trains_in_bf16(monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    accelerator = launch.create_accelerator(1, numerics("bf16"))
    assert accelerator.mixed_precision == "bf16" and capsys.readouterr().out == WARNING
    with accelerator.autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16

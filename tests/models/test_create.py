"""`create` builds every network of timm and of the zoo, and never silently loads weights that do not match."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.errors import DataError, ParamsError
from pipeline.models.count import macs, parameters
from pipeline.models.create import create, new_head

ROOT = Path(__file__).parents[2]
SIZES = {
    "resnet10t": (32, 48),
    "resnet18": (40, 40),
    "mobilenetv3_small_100": (32, 32),
    "efficientnet_lite0": (64, 64),
    "vit_tiny_patch16_224": (64, 32),
    "convnext_atto": (64, 64),
}


def make(arch="resnet10t", size=(32, 32), **options):
    return create(arch, **{"num_classes": 5, "in_chans": 3, "image_size": size} | options)


@pytest.mark.parametrize("arch", SIZES)
def test_timm_backbones_take_our_images_and_learn(arch):
    torch.manual_seed(0)
    network = make(arch, SIZES[arch], in_chans=1)
    z = network(torch.randn(4, 1, *SIZES[arch]))
    assert z.shape == (4, 5)
    z.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert parameters(network) > 1e5 and macs(network, 1, SIZES[arch]) > 1e5


def test_weights_are_a_function_of_torchs_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return make().state_dict()

    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    ("arch", "size"), [("vit_tiny_patch16_224", (8, 8)), ("resnet18", (0, 4)), ("inception_v3", (16, 16))]
)
def test_an_unsupported_image_size_is_reported_in_one_line(arch, size):
    with pytest.raises(ParamsError, match=f"{arch} cannot be created for images of {size[1]}x{size[0]}x3: .") as caught:
        make(arch, size)
    assert "\n" not in str(caught.value)


def saved(folder: Path, network, wrap=None, suffix=".safetensors") -> Path:
    file = folder / f"weights{suffix}"
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(wrap(state) if wrap else state, file)
    return file


@pytest.mark.parametrize("wrapped", ["safetensors", "plain", "state_dict", "model", "ddp"])
def test_a_wrapped_checkpoint_is_loaded_completely(tmp_path, wrapped):
    network = make("cifar_resnet8")
    wraps = {
        "state_dict": lambda state: {"epoch": 3, "state_dict": state},
        "model": lambda state: {"model": state},
        "ddp": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    }
    suffix = ".safetensors" if wrapped == "safetensors" else ".pth"
    file = saved(tmp_path, network, wraps.get(wrapped), suffix)
    loaded = make("cifar_resnet8", checkpoint=file)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_a_checkpoint_that_does_not_fit_names_both_shapes(tmp_path):
    file = saved(tmp_path, make(num_classes=7))
    with pytest.raises(DataError, match=r"fc\.weight has shape \(7, 512\), but resnet10t needs \(5, 512\)"):
        make(checkpoint=file)


def test_a_checkpoint_of_another_network_names_what_is_missing(tmp_path):
    file = saved(tmp_path, make("resnet10t"))
    with pytest.raises(
        DataError, match=r"does not hold the weights of cifar_resnet8: \d+ tensors are missing \(.*unexpected"
    ):
        make("cifar_resnet8", checkpoint=file)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_file_that_holds_no_weights_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"garbage" * 10)
    with pytest.raises(DataError, match=r"weights\.\w+ cannot be read as weights: ") as caught:
        make(checkpoint=tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"the file of weights .*none\.pth does not exist"):
        make(checkpoint=tmp_path / "none.pth")


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pth")
    with pytest.raises(DataError, match="cannot be read as weights"):
        make(checkpoint=Path("evil.pth"))
    assert not Path("evil").exists()


def test_the_zoo_has_no_pretrained_weights():
    with pytest.raises(ParamsError, match="cifar_resnet20 has no pretrained weights: set a checkpoint instead"):
        make("cifar_resnet20", pretrained=True)


def test_a_mismatched_head_is_reported():
    assert new_head("resnet10t", 1000) is None
    assert new_head("resnet10t", 10) == "resnet10t: the pretrained head has 1000 classes, but the data have 10"


LOAD = """
import torch
from pipeline.models.create import create
network = create("resnet10t", num_classes={classes}, in_chans={chans}, image_size=(32, 32), pretrained=True)
print(float(network.layer1[0].conv1.weight.double().sum()), float(network.fc.weight.double().sum()))
"""


def load_in_a_process(cache: Path, classes: int, chans: int):
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOAD.format(classes=classes, chans=chans)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_pretrained_weights_come_from_the_hubs_cache(tmp_path):
    """timm loads the weights offline from files placed where the hub's client would have cached them."""
    cfg = timm.get_pretrained_cfg("resnet10t")
    repository = tmp_path / "hub" / f"models--timm--resnet10t.{cfg.tag}"
    snapshot = repository / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0")
    torch.manual_seed(3)
    network = timm.create_model("resnet10t")
    save_file(network.state_dict(), snapshot / "model.safetensors")
    body, head = (float(w.detach().double().sum()) for w in (network.layer1[0].conv1.weight, network.fc.weight))
    whole = load_in_a_process(tmp_path, 1000, 3)
    assert whole.stdout.split() == [repr(body), repr(head)], whole.stderr
    other = load_in_a_process(tmp_path, 5, 1)
    assert other.stdout.split()[0] == repr(body) and other.stdout.split()[1] != repr(head)


def test_weights_that_cannot_be_fetched_are_one_line(tmp_path):
    done = load_in_a_process(tmp_path, 1000, 3)
    last = done.stderr.strip().splitlines()[-1]
    assert "ParamsError: resnet10t: the pretrained weights cannot be loaded: " in last

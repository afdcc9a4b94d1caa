"""Weights of RepDistiller and mdistiller: layers with other names are mapped by order, and anything else is refused.

Set REPDISTILLER to a checkout of github.com/HobbitLong/RepDistiller to compare with its networks themselves.
"""

import importlib
import os
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import DataError
from pipeline.models.create import create
from pipeline.models.names import ZOO
from pipeline.models.weights import load_weights

COUNTER = "num_batches_tracked"
CHECKOUT = os.environ.get("REPDISTILLER", "")


def unlike_new(network: nn.Module) -> nn.Module:
    """Draw all of BatchNorm's tensors, so that an exchange of any two changes the logits, and return the network."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, tensor in module.state_dict().items():
                if name == COUNTER:
                    tensor += 7
                else:
                    nn.init.uniform_(tensor, *((0.5, 1.5) if name in ("weight", "running_var") else (-0.3, 0.3)))
    return network.eval()


def calibrated(network: nn.Module) -> nn.Module:
    """Set BatchNorm's statistics to those of some images, so that no activation is huge, and return the network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    logits(network.train())
    return network.eval()


def built(arch: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create(arch, num_classes=10, in_chans=3, image_size=(32, 32)).eval()


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2)))


def inside(block: str, layers: str) -> list[str]:
    return [f"{block}.{layer}" for layer in layers.split()]


# The names of the layers in RepDistiller, in its order.


def resnet(depth: int, stem: int, widths: tuple[int, ...]) -> list[str]:
    names = ["conv1", "bn1"]
    for stage in (1, 2, 3):
        for j in range((depth - 2) // 6):
            names += inside(f"layer{stage}.{j}", "conv1 bn1 conv2 bn2")
            if j == 0 and (stage > 1 or stem != widths[0]):
                names += inside(f"layer{stage}.{j}", "downsample.0 downsample.1")
    return [*names, "fc"]


def wrn(depth: int, k: int) -> list[str]:
    names = ["conv1"]
    for stage in (1, 2, 3):
        for j in range((depth - 4) // 6):
            names += inside(f"block{stage}.layer.{j}", "bn1 conv1 bn2 conv2")
            if j == 0 and (stage > 1 or k > 1):
                names += [f"block{stage}.layer.{j}.convShortcut"]
    return [*names, "bn1", "fc"]


def vgg(layers: str) -> list[str]:
    each = sum(token.isdigit() for token in layers.split()) // 5  # convolutions in each of five blocks
    return [*(f"block{b}.{3 * j + i}" for b in range(5) for j in range(each) for i in (0, 1)), "classifier"]


def mobilenetv2(factor: float) -> list[str]:
    names = ["conv1.0", "conv1.1"]
    for stage, n in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for j in range(n):
            names += inside(f"blocks.{stage}.{j}.conv", "0 1 3 4 6 7")
    return [*names, "conv2.0", "conv2.1", "classifier.0"]


def shufflenet(first: str, last: str) -> list[str]:
    """first: further layers of the first block of a stage.  last: the layers after all stages."""
    names = ["conv1", "bn1"]
    for stage, n in enumerate((4, 8, 4), start=1):
        for j in range(n):
            names += inside(f"layer{stage}.{j}", "conv1 bn1 conv2 bn2 conv3 bn3" + ("" if j else first))
    return [*names, *last.split()]


def plain(layers: str, _) -> list[str]:
    """RepDistiller has no such networks, so these names are only plausible."""
    names = []
    for i, token in enumerate(layers.split()):
        names += inside(f"features.{i}", "conv bn") if token.isdigit() else ["hidden"] if token[0] == "F" else []
    return [*names, "classifier"]


NAMES = {
    **{family.__name__: family for family in (resnet, wrn, vgg, mobilenetv2, plain)},
    "shufflenetv1": lambda *_: shufflenet("", "linear"),
    "shufflenetv2": lambda *_: shufflenet(" conv4 bn4 conv5 bn5", "conv2 bn2 linear"),
}
DOWN = "left.0.0 left.0.1 left.1.0 left.1.1 right.0.0 right.0.1 right.1.0 right.1.1 right.2.0 right.2.1"


def foreign(network: nn.Module, arch: str) -> dict[str, Tensor]:
    """The weights of a network of ours under RepDistiller's names and in its order."""
    state = network.state_dict()
    ours = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    for block in [name.split(".")[0] for name in ours if name.endswith(".left.0.0")]:
        at = ours.index(f"{block}.right.0.0")
        assert set(ours[at : at + 10]) == set(inside(block, DOWN))
        ours[at : at + 10] = inside(block, DOWN)
    family, arguments = ZOO[arch]
    theirs = NAMES[family](*arguments)
    assert len(ours) == len(theirs) == len(set(theirs))
    kinds = ("weight", "bias", "running_mean", "running_var", COUNTER)
    return {f"{t}.{k}": state[f"{o}.{k}"] for o, t in zip(ours, theirs) for k in kinds if f"{o}.{k}" in state}


def written(folder: Path, state: dict[str, Tensor]) -> Path:
    file = folder / "ckpt_epoch_240.pth"
    others = {"epoch": 240, "accuracy": torch.tensor(75.6), "opt": Namespace(model="x"), "optimizer": {"state": {}}}
    torch.save({**others, "model": state}, file)
    return file


@pytest.mark.parametrize("arch", [n for n in ZOO if n != "cifar_resnet110" and not n.startswith("mlp")])
def test_foreign_names_give_the_same_logits(tmp_path, arch):
    source, loaded = unlike_new(built(arch)), built(arch, seed=3)
    state = foreign(source, arch)
    file = written(tmp_path, state)
    said = load_weights(loaded, file, arch) or ""
    assert said.startswith(f"{file}: the names are those of another code base; {len(state)} tensors were mapped by")
    assert torch.equal(logits(loaded), logits(source))
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize("arch", ["cifar_resnet8", "cifar_shufflenetv2"])
def test_own_names_are_loaded_without_a_word(tmp_path, arch):
    source, loaded = unlike_new(built(arch)), built(arch, seed=3)
    assert load_weights(loaded, written(tmp_path, source.state_dict()), arch) is None
    assert torch.equal(logits(loaded), logits(source))


@pytest.mark.parametrize("arch", ["cifar_wrn_16_2", "cifar_shufflenetv2"])
def test_counters_that_an_old_file_lacks_are_zero(tmp_path, arch):
    source, loaded = unlike_new(built(arch)), unlike_new(built(arch, seed=3))
    state = {k: v for k, v in foreign(source, arch).items() if not k.endswith(COUNTER)}
    said = load_weights(loaded, written(tmp_path, state), arch)
    n = len(source.state_dict()) - len(state)
    assert said is not None and said.endswith(f"; {n} tensors {COUNTER} are absent and start at 0")
    assert torch.equal(logits(loaded), logits(source))
    assert all(int(v) == 0 for k, v in loaded.state_dict().items() if k.endswith(COUNTER))


ARCH = "cifar_resnet8"
STATE = foreign(built(ARCH), ARCH)
WIDER = "layer2.0.conv1.weight"
NAN = STATE["layer1.0.conv1.weight"] * float("nan")


def exchanged(*names: str) -> dict[str, Tensor]:
    """The tensors of `STATE`, where the given ones, which must be in its order, stand in the reverse order."""
    back = dict(zip(names, reversed(names)))
    return {back.get(name, name): STATE[back.get(name, name)] for name in STATE}


def renamed(old: str, new: str) -> dict[str, Tensor]:
    return {name.replace(old, new): value for name, value in STATE.items()}


CASES = {
    "shapes exchanged": (
        STATE | {WIDER: STATE[WIDER.replace("1", "2")], WIDER.replace("1", "2"): STATE[WIDER]},
        r"tensor 19 is layer2\.0\.conv1\.weight of \(32, 32, 3, 3\), but cifar_resnet8 expects 2\.conv1\.weight of "
        r"\(32, 16, 3, 3\)",
    ),
    "weight and bias exchanged": (
        exchanged("layer1.0.bn1.weight", "layer1.0.bn1.bias"),
        r"tensor 8 is layer1\.0\.bn1\.bias of \(16,\), but cifar_resnet8 expects 1\.bn1\.weight of \(16,\)",
    ),
    "equal shapes, numbered in another order": (
        exchanged("layer1.0.conv1.weight", "layer1.0.conv2.weight"),
        r"layer1\.0\.conv1\.weight comes after layers with higher numbers: they cannot be mapped by order",
    ),
    "sorted by name": (
        dict(sorted(STATE.items())),
        r"tensor \d+ is bn1\.\w+ of \(16,\), but cifar_resnet8 expects 0\.0",
    ),
    "a tensor under another layer's name": (
        renamed("layer3.0.bn2.bias", "layer3.0.conv2.bias"),
        r"is layer3\.0\.conv2\.bias of \(64,\), but cifar_resnet8 expects 3\.bn2\.bias of \(64,\)",
    ),
    "a layer in two": (
        renamed("bn1.running", "bn1.stats.running"),
        r"tensor 4 is bn1\.stats\.running_mean of \(16,\), but cifar_resnet8 expects 0\.1\.running_mean",
    ),
    "a counter of no layer": (
        renamed(f"fc.{COUNTER}", "x") | {f"fc.{COUNTER}": torch.tensor(1)},
        rf"is fc\.{COUNTER} of \(\), but cifar_resnet8 expects no {COUNTER} in that layer",
    ),
    "other classes": (
        STATE | {"fc.weight": torch.zeros(100, 64), "fc.bias": torch.zeros(100)},
        r"is fc\.weight of \(100, 64\), but cifar_resnet8 expects \d\.weight of \(10, 64\)",
    ),
    "a name of ours elsewhere": (
        renamed("layer1.0.conv2", "1.conv1"),
        r"tensor 13 is 1\.conv1\.weight of \(16, 16, 3, 3\), but cifar_resnet8 expects 1\.conv2\.weight of",
    ),
    "an extra tensor": (
        STATE | {"extra.weight": torch.zeros(1)},
        r"does not hold the weights of cifar_resnet8: \d+ tensors are missing \(0\.0\.weight, .*\d+ are unexpected",
    ),
    "another depth": (foreign(built("cifar_resnet14"), "cifar_resnet14"), "does not hold the weights of cifar_resnet8"),
    "another family": (
        foreign(built("cifar_wrn_16_1"), "cifar_wrn_16_1"),
        "does not hold the weights of cifar_resnet8",
    ),
    "not finite": (
        STATE | {"layer1.0.conv1.weight": NAN},
        r"layer1\.0\.conv1\.weight holds numbers that are not finite",
    ),
    "sparse": (STATE | {"fc.weight": STATE["fc.weight"].to_sparse()}, r"fc\.weight is a sparse"),
    "integers": (STATE | {"fc.weight": STATE["fc.weight"].int()}, r"fc\.weight has type torch\.int32"),
    "a float counter": (STATE | {f"bn1.{COUNTER}": torch.tensor(1.5)}, rf"bn1\.{COUNTER} has type torch\.float32"),
    "a line break": (renamed("fc", "f\nc") | {"f\nc.weight": torch.zeros(2)}, r"is f\\nc\.weight of \(2,\)"),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_that_do_not_agree_are_refused_in_one_line(tmp_path, case):
    state, said = CASES[case]
    file, network = written(tmp_path, state), built(ARCH, seed=3)
    before = logits(network)
    with pytest.raises(DataError, match=said) as caught:
        load_weights(network, file, ARCH)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert torch.equal(logits(network), before)


def test_a_file_without_an_order_is_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(STATE, file)
    with pytest.raises(DataError, match=r"tensors are missing .* safetensors keeps no order of layers"):
        load_weights(built(ARCH), file, ARCH)


def test_networks_of_timm_are_not_mapped(tmp_path):
    network = create("resnet10t", num_classes=10, in_chans=3, image_size=(32, 32))
    file = written(tmp_path, {f"net.{k}": v for k, v in network.state_dict().items()})
    with pytest.raises(DataError, match="does not hold the weights of resnet10t: "):
        load_weights(network, file, "resnet10t")


OTHERS = {"mobilenetv2": "MobileNetV2", "shufflenetv1": "ShuffleV1", "shufflenetv2": "ShuffleV2"}
THEIRS = [n.removeprefix("cifar_") for n in ZOO if ZOO[n][0] != "plain" and n != "cifar_resnet26"]


@pytest.mark.skipif(not Path(CHECKOUT, "models", "wrn.py").is_file(), reason="REPDISTILLER names no checkout")
@pytest.mark.parametrize("name", THEIRS)
def test_repdistillers_networks_have_the_same_logits(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(CHECKOUT)
    zoo = importlib.import_module("models").model_dict
    for module in [module for module in sys.modules if module.split(".")[0] == "models"]:
        monkeypatch.delitem(sys.modules, module)
    torch.manual_seed(0)
    source = calibrated(unlike_new(zoo[OTHERS.get(name, name)](num_classes=10)))
    loaded = built(f"cifar_{name}", seed=3)
    assert load_weights(loaded, written(tmp_path, source.state_dict()), f"cifar_{name}") is not None
    torch.testing.assert_close(logits(loaded), logits(source), atol=1e-5, rtol=1e-5)

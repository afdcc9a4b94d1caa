"""The zoo's networks have the published sizes, and can be created with and without timm."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch

from pipeline.models.count import macs, parameters
from pipeline.models.create import create
from pipeline.models.families import build
from pipeline.models.names import MLP, ZOO, known, nearest

# at 100 classes, 3x32x32: parameters, multiply-adds in millions
TABLE = {
    "resnet8": (83_892, 12.507),
    "resnet14": (181_108, 26.663),
    "resnet20": (278_324, 40.819),
    "resnet26": (375_540, 54.975),
    "resnet32": (472_756, 69.130),
    "resnet44": (667_188, 97.442),
    "resnet56": (861_620, 125.754),
    "resnet110": (1_736_564, 253.156),
    "resnet8x4": (1_233_540, 177.071),
    "resnet32x4": (7_433_860, 1083.041),
    "wrn_16_1": (180_916, 26.663),
    "wrn_16_2": (703_284, 101.118),
    "wrn_40_1": (569_780, 83.286),
    "wrn_40_2": (2_255_156, 327.611),
    "vgg8": (3_965_028, 96.193),
    "vgg13": (9_462_180, 284.936),
    "mobilenetv2": (812_836, 6.524),
    "shufflenetv1": (949_258, 38.691),
    "shufflenetv2": (1_355_528, 44.504),
}
PLAIN = {2: (215, 3.4), 4: (476, 24.9), 6: (1107, 39.5), 8: (1246, 52.9), 10: (2931, 72.2)}  # thousands, millions
TINY = {"tiny_plain4_32": 16_794, "tiny_plain2_32": 5_178, "tiny_plain2_16": 1_442, "tiny_plain2_12": 868}


def built(arch, num_classes=100, in_chans=3, size=32):
    return create(arch, num_classes=num_classes, in_chans=in_chans, image_size=(size, size))


@pytest.mark.parametrize("name", TABLE)
def test_parameters_and_multiply_adds_equal_the_published_ones(name):
    network = built(f"cifar_{name}")
    assert parameters(network) == TABLE[name][0]
    assert macs(network, 3, (32, 32)) / 1e6 == pytest.approx(TABLE[name][1], abs=6e-4)


@pytest.mark.parametrize("depth", PLAIN)
def test_plain_networks_have_the_published_size(depth):
    network = built(f"cifar_plain{depth}")
    assert round(parameters(network) / 1e3) == PLAIN[depth][0]
    assert macs(network, 3, (32, 32)) / 1e6 == pytest.approx(PLAIN[depth][1], abs=0.06)


@pytest.mark.parametrize("name", TINY)
def test_the_default_networks_have_the_expected_size(name):
    assert parameters(built(name, 10, 1, 8)) == TINY[name]


@pytest.mark.parametrize("name", MLP)
def test_an_mlp_has_the_weights_of_its_widths(name):
    widths = [30, *(int(width) for width in name.split("_")[1:]), 2]
    expected = sum(a * b + b for a, b in pairwise(widths))
    network = build(name, num_classes=2, in_chans=30, image_size=(1, 1))
    assert parameters(network) == macs(network, 30, (1, 1)) + sum(widths[1:]) == expected


def test_every_network_of_the_zoo_is_in_a_table_above():
    assert set(ZOO) == {f"cifar_{n}" for n in TABLE} | {f"cifar_plain{d}" for d in PLAIN} | set(TINY) | set(MLP)


@pytest.mark.parametrize("name", [n for n in ZOO if "110" not in n and "32x4" not in n])
def test_grey_images_of_28_pixels_and_any_number_of_classes_fit(name):
    assert built(name, 7, 1, 28)(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_wrn_16_2", "cifar_vgg8", "cifar_shufflenetv2"])
def test_memory_format_changes_no_logit(name):
    network, x = built(name).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        plain = network(x)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, last, atol=1e-4, rtol=1e-4)


def test_initial_weights_are_a_function_of_torchs_seed():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(built("cifar_resnet8").state_dict())
    assert all(torch.equal(states[0][k], v) for k, v in states[1].items())
    assert not all(torch.equal(states[0][k], v) for k, v in states[2].items())


def test_the_zoo_is_built_without_timm_and_torchvision():
    code = (
        "import sys\nfrom pipeline.models.create import create\n"
        "create('cifar_resnet20', num_classes=10, in_chans=3, image_size=(32, 32))\n"
        "assert not {'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_timm_creates_the_zoo_after_one_import():
    import timm

    import pipeline.models.zoo  # noqa: F401

    for name in ("cifar_resnet20", "cifar_wrn_40_2", "cifar_mobilenetv2", "cifar_plain10"):
        network = timm.create_model(name, num_classes=100)
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
        assert timm.is_model(name)
    assert parameters(timm.create_model("cifar_resnet20", num_classes=100)) == TABLE["resnet20"][0]
    assert timm.create_model("cifar_resnet20", num_classes=10, in_chans=1)(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_timms_names_are_known_without_importing_it():
    code = (
        "import sys\nfrom pipeline.models.names import known, timm_names\n"
        "assert known('resnet18') and known('resnet18.a1_in1k') and known('vit_tiny_patch16_224')\n"
        "assert len(timm_names()) > 1000 and not {'timm', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_read_from_timms_sources_are_those_that_it_registers():
    import timm

    from pipeline.models.names import timm_names

    registered = {name for name in timm.list_models() if name not in ZOO}
    assert registered <= timm_names()


@pytest.mark.parametrize(("typed", "meant"), [("resnet1O", "resnet10t"), ("cifar_resnet21", "cifar_resnet20")])
def test_a_misspelt_name_has_near_ones(typed, meant):
    assert not known(typed) and nearest(typed)
    assert meant in nearest(typed, n=10)

"""Weights from anywhere: what a network cannot compute with is refused in one line."""

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import DataError, ParamsError
from pipeline.models.create import create
from pipeline.models.weights import load_weights


def network():
    return create("tiny_plain2_12", num_classes=3, in_chans=1, image_size=(8, 8))


STATE = {k: v.contiguous() for k, v in network().state_dict().items()}
WEIGHT = "0.weight"


def changed(value) -> dict:
    return STATE | {WEIGHT: value}


CASES = {
    "nan": (changed(STATE[WEIGHT] * float("nan")), "numbers that are not finite"),
    "inf": (changed(STATE[WEIGHT] / 0), "numbers that are not finite"),
    "too large for float32": (changed(STATE[WEIGHT].double() * 1e300), "numbers that are not finite"),
    "integers": (changed(STATE[WEIGHT].int()), r"has type torch\.int32"),
    "complex": (changed(STATE[WEIGHT].to(torch.complex64)), r"has type torch\.complex64"),
    "float8": (changed(STATE[WEIGHT].to(torch.float8_e4m3fn)), r"has type torch\.float8_e4m3fn"),
    "sparse": (changed(STATE[WEIGHT].to_sparse()), "sparse"),
    "meta": (changed(STATE[WEIGHT].to("meta")), "empty"),
    "quantised": (changed(torch.quantize_per_tensor(STATE[WEIGHT], 0.1, 0, torch.qint8)), "quantised"),
    "a float counter": (STATE | {"1.num_batches_tracked": torch.tensor(1.5)}, r"has type torch\.float32"),
    "integer names": (dict(enumerate(STATE.values())), "expected a mapping from names to tensors"),
    "another shape": (changed(torch.zeros(1)), r"has shape \(1,\)"),
    "not a tensor": (changed([1.0]), "expected a mapping from names to tensors"),
    "a name with a line break": (STATE | {"a\nb": torch.zeros(1)}, r"a\\nb"),
    "a list": ([1, 2], "does not hold a state dict"),
}


@pytest.mark.parametrize("case", CASES)
def test_unusable_weights_are_refused_in_one_line(tmp_path, case):
    state, said = CASES[case]
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    with pytest.raises(DataError, match=said) as caught:
        load_weights(network(), file, "tiny_plain2_12")
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted(tmp_path, dtype):
    file = tmp_path / "weights.safetensors"
    save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in STATE.items()}, file)
    loaded = network()
    load_weights(loaded, file, "tiny_plain2_12")
    assert all(v.dtype == STATE[k].dtype for k, v in loaded.state_dict().items())
    assert torch.equal(loaded.state_dict()[WEIGHT], STATE[WEIGHT].to(dtype).float())


def test_images_too_small_for_a_network_are_refused_in_one_line():
    for arch in ("cifar_plain10", "cifar_vgg13"):
        with pytest.raises(
            ParamsError, match=f"{arch} cannot be created for images of 4x4x3: .*pixels are left"
        ) as caught:
            create(arch, num_classes=3, in_chans=3, image_size=(4, 4))
        assert "\n" not in str(caught.value)


def test_a_head_for_other_classes_is_replaced_where_it_is_trained(tmp_path):
    file = tmp_path / "weights.safetensors"
    torch.manual_seed(1)
    other = create("tiny_plain2_12", num_classes=5, in_chans=1, image_size=(8, 8))
    save_file({k: v.contiguous() for k, v in other.state_dict().items()}, file)
    loaded = network()
    before = {k: v.clone() for k, v in loaded.state_dict().items()}
    with pytest.raises(DataError, match=r"has shape \(5, 12\), but tiny_plain2_12 needs \(3, 12\)"):
        load_weights(loaded, file, "tiny_plain2_12")
    assert "its head is for other classes" in (load_weights(loaded, file, "tiny_plain2_12", new_head=True) or "")
    for name, value in loaded.state_dict().items():
        source = other.state_dict() if value.shape == other.state_dict()[name].shape else before
        assert torch.equal(value, source[name]), name


def test_only_the_head_may_have_another_shape(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(changed(torch.zeros(1)), file)
    with pytest.raises(DataError, match=r"has shape \(1,\)"):
        load_weights(network(), file, "tiny_plain2_12", new_head=True)

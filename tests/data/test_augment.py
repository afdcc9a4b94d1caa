"""Augmentation is a function of (seed, epoch, index), whatever the batch, and its operations are torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as f

from pipeline.data.augment import BINS, OPERATIONS, augment, erase, operate
from pipeline.data.views import Views


def images(n=40, channels=3, size=12):
    draw = np.random.default_rng(0)
    return torch.from_numpy(draw.integers(0, 256, (n, channels, size, size)).astype(np.uint8))


def views(policy="none", erasing=0.0, channels=3, floats=False):
    pixels = images(channels=channels).permute(0, 2, 3, 1)
    pixels = pixels.float() + 0.25 * floats if floats else pixels.numpy()
    return Views(
        pixels,
        np.arange(40) % 4,
        mean=[0.5] * channels,
        std=[0.25] * channels,
        pad=2,
        flip=True,
        num_classes=4,
        device=torch.device("cpu"),
        policy=policy,
        erasing=erasing,
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("policy", "erasing"), [("trivial", 0.0), ("rand", 0.0), ("none", 0.5), ("trivial", 0.3)])
def test_an_image_is_augmented_alike_in_every_batch(policy, erasing, channels):
    v = views(policy, erasing, channels)
    index = torch.arange(40)
    whole = v(index, seed=3, epoch=2)
    assert whole.shape == (40, channels, 12, 12) and whole.dtype == torch.float32 and bool(whole.isfinite().all())
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    parts = torch.cat([v(part, seed=3, epoch=2) for part in order.split(7)])
    assert torch.equal(parts, whole[order])
    assert not torch.equal(whole, v(index, seed=3, epoch=3)) and not torch.equal(whole, v(index, seed=4, epoch=2))
    assert torch.equal(v.plain(index), views(channels=channels).plain(index))


def test_without_a_policy_nothing_changes():
    index = torch.arange(40)
    assert torch.equal(views()(index, seed=1, epoch=1), views("none", 0.0)(index, seed=1, epoch=1))


def test_joined_images_are_augmented_too():
    v = views("trivial", 0.5, floats=True)
    joined = v.joined(torch.rand(5, 12, 12, 3) * 255, torch.zeros(5, dtype=torch.int64))
    assert joined(torch.arange(45), seed=0, epoch=1).shape == (45, 3, 12, 12)
    assert (joined.policy, joined.erasing) == ("trivial", 0.5)


@pytest.mark.parametrize("policy", ["trivial", "rand"])
@pytest.mark.parametrize("name", OPERATIONS[1:])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_keeps_shape_and_type(policy, name, channels):
    x = images(4, channels)
    for strength in (0.0, 0.3, 1.0):
        for sign in (1, -1):
            out = operate(name, policy, x, strength, sign)
            assert out.shape == x.shape and out.dtype == torch.uint8


def test_operations_are_those_of_torchvision():
    x = images(6)
    assert torch.equal(operate("solarize", "trivial", x, 0.0, 1), f.solarize(x, 255.0))
    assert torch.equal(operate("posterize", "trivial", x, 1.0, 1), f.posterize(x, 2))
    assert torch.equal(operate("posterize", "rand", x, 1.0, 1), f.posterize(x, 4))
    assert torch.equal(operate("rotate", "rand", x, 9 / 30, -1), f.rotate(x, -9.0))
    assert torch.equal(operate("brightness", "trivial", x, 1.0, -1), f.adjust_brightness(x, 0.01))
    assert torch.equal(operate("shear_x", "trivial", x, 0.0, 1), x)
    assert torch.equal(operate("translate_x", "trivial", x, 3 / 32, 1)[..., 3:], x[..., :-3])


def test_every_operation_is_drawn_about_equally_often():
    x = torch.zeros(1, 1, 8, 8, dtype=torch.uint8).expand(4000, 1, 8, 8)
    from pipeline.core.randomness import uniforms

    drawn = (uniforms(0, ("augment/0/operation",), 1, torch.arange(len(x)))[0] * len(OPERATIONS)).to(torch.int64)
    counts = torch.bincount(drawn, minlength=len(OPERATIONS))
    assert counts.min() > 0.7 * len(x) / len(OPERATIONS) and counts.max() < 1.3 * len(x) / len(OPERATIONS)
    assert augment(x[:8], "trivial", seed=0, epoch=1, index=torch.arange(8)).shape == (8, 1, 8, 8)
    assert BINS == 31


def test_random_erasing_erases_one_rectangle_of_the_stated_share():
    x = torch.ones(2000, 3, 20, 20)
    out = erase(x, 0.5, seed=0, epoch=1, index=torch.arange(2000))
    erased = out[:, 0] == 0
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(erased, out[:, 2] == 0)
    share = erased.flatten(1).float().mean(1)
    assert 0.45 < (share > 0).float().mean() < 0.55
    assert share.max() < 0.36 and share[share > 0].min() > 0.01
    for mask in erased[share > 0][:50]:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all() and mask.sum() == len(rows) * len(
            columns
        )

"""A view is a function of (seed, epoch, index), and equals cropping and flipping one image at a time."""

import itertools

import numpy as np
import pytest
import torch

from pipeline.core.randomness import hash64, uniform
from pipeline.data.views import Views

GOLDEN = [0.539719518814, 0.377629649761]
CPU = torch.device("cpu")


def build(pad=2, flip=True, channels=3, dtype=np.uint8):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (20, 6, 5, channels)).astype(dtype)
    mean, std = [0.4] * channels, [0.2] * channels
    views = Views(images, np.arange(20) % 3, mean=mean, std=std, pad=pad, flip=flip, num_classes=3, device=CPU)
    return images, views


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (3, np.float32)])
def test_every_crop_and_flip_equals_slicing(channels, dtype):
    images, views = build(channels=channels, dtype=dtype)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    index = torch.tensor([7])
    for top, left, flip in itertools.product(range(5), range(5), (False, True)):
        at = 4 - left if flip else left
        x = views.normalised(views.gather(index + 20 * flip, torch.tensor([top]), torch.tensor([at])))[0]
        crop = padded[7, top : top + 6, left : left + 5].astype(np.float64) / 255
        crop = crop[:, ::-1] if flip else crop
        expected = torch.from_numpy(((crop - 0.4) / 0.2).transpose(2, 0, 1).copy()).float()
        torch.testing.assert_close(x, expected, atol=1e-6, rtol=0)


def test_a_plain_view_is_the_image():
    images, views = build()
    expected = torch.from_numpy(((images / 255 - 0.4) / 0.2).transpose(0, 3, 1, 2)).float()
    torch.testing.assert_close(views.plain(torch.arange(20)), expected, atol=1e-6, rtol=0)


def test_a_view_does_not_depend_on_the_batch():
    _, views = build()
    whole = views(torch.arange(20), seed=1, epoch=3)
    order = torch.randperm(20)
    assert torch.equal(views(order, seed=1, epoch=3), whole[order])
    assert torch.equal(views(torch.tensor([4]), seed=1, epoch=3)[0], whole[4])


def test_a_view_depends_on_seed_epoch_and_index():
    _, views = build()
    index = torch.arange(20)
    base = views(index, seed=0, epoch=0)
    assert not torch.equal(base, views(index, seed=1, epoch=0))
    assert not torch.equal(base, views(index, seed=0, epoch=1))
    assert torch.equal(base, views(index, seed=0, epoch=0))


def test_offsets_and_flips_are_uniform():
    index = torch.arange(50000)
    top = (uniform(0, "top", 1, index) * 5).long()
    torch.testing.assert_close(torch.bincount(top) / 50000, torch.full((5,), 0.2), atol=0.01, rtol=0)
    flip = (uniform(0, "flip", 1, index) < 0.5).double()
    assert abs(float(flip.mean()) - 0.5) < 0.01
    assert abs(float(torch.corrcoef(torch.stack([flip, top.double()]))[0, 1])) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([flip[1:], flip[:-1]]))[0, 1])) < 0.02


def test_counters_are_the_same_bits_everywhere():
    assert hash64(0, "order", 1, 2) == 2916186739765125385
    assert hash64(0, 1) != hash64("0", 1) and hash64(1, 11) != hash64(11, 1)
    assert [round(v, 12) for v in uniform(0, "top", 1, torch.arange(2)).tolist()] == GOLDEN


def test_joined_images_come_after_the_others_and_are_not_quantised():
    _, views = build(pad=1)
    extra = torch.full((2, 6, 5, 3), 100.25)
    joined = views.joined(extra, torch.tensor([2, 1]))
    assert len(joined) == 22 and joined.labels[20:].tolist() == [2, 1]
    torch.testing.assert_close(joined.plain(torch.tensor([20])), torch.full((1, 3, 6, 5), (100.25 / 255 - 0.4) / 0.2))
    assert torch.equal(joined(torch.arange(20), seed=0, epoch=1), views(torch.arange(20), seed=0, epoch=1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_views_are_the_same_on_a_gpu():
    index = torch.arange(1000)
    assert torch.equal(uniform(3, "top", 1, index.cuda()).cpu(), uniform(3, "top", 1, index))

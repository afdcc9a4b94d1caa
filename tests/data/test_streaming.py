"""A streamed data set is never copied, and its views are a function of (seed, epoch, index), like any other's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import make_folder, picture, section
from PIL import Image
from toy_run import ToyRuns

from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.data.sources.streamed import write_manifest
from pipeline.data.streaming import StreamedViews
from pipeline.errors import DataError
from pipeline.evaluation.trials import data_digest
from pipeline.methods.scratch import Scratch

ROOT = Path(__file__).parents[2]

CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path) -> Path:
    return make_folder(tmp_path / "set", sizes=((40, 30), (24, 50), (33, 33)))


def streamed(tmp_path: Path, images: Path, source="folder", **changed) -> Prepared:
    write_manifest(images, tmp_path / "manifest", on_error="fail")
    options = {"storage": "stream", "image_size": 16} | changed
    data = section(source, tmp_path / "manifest", **options)
    prepare(open_source(data), data, tmp_path / "prepared")
    return Prepared.read(tmp_path / "prepared")


def views(data: Prepared, split="train", workers=0) -> StreamedViews:
    views = data.views(split, device=CPU, workers=workers)
    assert isinstance(views, StreamedViews)
    return views


def test_prepare_writes_names_and_no_pixel(tmp_path, images):
    data = streamed(tmp_path, images)
    assert sorted(f.name for f in data.folder.iterdir()) == ["classes.txt", "meta.json", "split.parquet"]
    assert data.meta.counts == {"train": 24, "validation": 24, "test": 24}
    assert data.meta.image_size == (16, 16) and data.meta.root == str(images)
    assert data.table["size"].to_list()[0] == (images / data.table["source"][0]).stat().st_size


def test_the_digest_of_trials_changes_with_the_images(tmp_path, images):
    first = data_digest(streamed(tmp_path, images))
    assert data_digest(streamed(tmp_path, images)) == first != data_digest(streamed(tmp_path, images, image_size=20))
    file = images / "train" / next((images / "train").iterdir()).name
    image = sorted(file.iterdir())[0]
    image.write_bytes(image.read_bytes() + b" ")
    assert data_digest(streamed(tmp_path, images)) != first


def test_the_manifest_follows_names_sizes_and_times(tmp_path, images):
    def content():
        write_manifest(images, tmp_path / "manifest", on_error="fail")
        return (tmp_path / "manifest/files.parquet").read_bytes()

    first = content()
    assert content() == first
    picture(9).save(images / "train/cat/01.png")
    assert content() != first


def test_the_moments_are_those_of_a_copied_set(tmp_path, images):
    of_stream = streamed(tmp_path, images).meta
    data = section("folder", images, image_size=16)
    copied = prepare(open_source(data), data, tmp_path / "copied").meta
    assert of_stream.mean == copied["mean"] and of_stream.std == copied["std"]


def test_a_view_depends_on_seed_epoch_and_index_alone(tmp_path, images):
    data = streamed(tmp_path, images)
    one, threads = views(data), views(data, workers=3)
    index = torch.tensor([5, 0, 17, 3])
    x = one(index, seed=1, epoch=2)
    threads.ahead(torch.tensor([3, 9, 0]))
    assert torch.equal(threads(index, seed=1, epoch=2), x)
    assert torch.equal(one(index.flip(0), seed=1, epoch=2), x.flip(0))
    assert not torch.equal(one(index, seed=1, epoch=3), x) and not torch.equal(one(index, seed=2, epoch=2), x)


def test_the_middle_is_what_pillow_would_cut(tmp_path, images):
    data = streamed(tmp_path, images)
    names = data.table.filter(data.table["split"] == "train")["source"].to_list()
    row = names.index("train/cat/01.png")  # 24 wide, 50 high
    x = views(data).plain(torch.tensor([row]))[0]
    side = 21  # 0.875 of 24
    cut = Image.open(images / names[row]).crop((1, 14, 1 + side, 14 + side)).resize((16, 16), Image.Resampling.BILINEAR)
    mean, std = (np.array(v)[:, None, None] for v in (data.meta.mean, data.meta.std))
    wanted = (np.asarray(cut).transpose(2, 0, 1) / 255 - mean) / std
    assert np.abs(x.numpy() - wanted).max() < 0.05  # Pillow rounds to whole values


def test_random_crops_have_the_published_sizes_and_shapes(tmp_path, images):
    stream = views(streamed(tmp_path, images))
    seen = []
    stream.resized = lambda crop, size: seen.append(crop.shape) or crop
    image = torch.zeros(3, 400, 400, dtype=torch.uint8)
    draw = torch.Generator().manual_seed(0)
    for values in torch.rand(2000, 5, generator=draw).tolist():
        stream.random_crop(image, *values)
    h, w = np.array([s[1:] for s in seen]).T
    area, ratio = h * w / 400**2, w / h
    assert 0.07 < area.min() and area.max() <= 1 and 0.45 < area.mean() < 0.56
    assert 0.73 < ratio.min() and ratio.max() < 1.37 and abs(np.log(ratio).mean()) < 0.02


def test_a_file_that_changed_or_went_is_named(tmp_path, images):
    data = streamed(tmp_path, images)
    names = data.table.filter(data.table["split"] == "train")["source"].to_list()
    picture(7, (50, 50)).save(images / names[3])
    with pytest.raises(DataError, match=f"{names[3]} has changed since the manifest was written"):
        views(data).plain(torch.tensor([3]))
    (images / names[4]).unlink()
    with pytest.raises(DataError, match=f"{names[4]} is missing, but the manifest lists it"):
        views(data, workers=2).plain(torch.tensor([4]))


def test_a_folder_without_manifest_is_one_line(tmp_path, images):
    data = section("imagenet", images, storage=None)
    with pytest.raises(DataError, match=r"holds no manifest: run `python -m stages\.manifest IMAGES"):
        open_source(data)


def test_imagenet_tests_on_val_at_224(tmp_path):
    images = make_folder(tmp_path / "set", splits=("train", "val"), n=30)
    data = streamed(tmp_path, images, "imagenet", storage=None, image_size=None, validation=0.2)
    assert data.meta.image_size == (224, 224)
    assert data.meta.counts == {"train": 48, "validation": 12, "test": 60}
    test = data.table.filter(data.table["split"] == "test")["source"].to_list()
    assert all(name.startswith("val/") for name in test)


def test_a_run_learns_from_a_stream_and_from_extra_images(tmp_path, images):
    data = streamed(tmp_path, images)
    toy = ToyRuns(tmp_path)
    toy.train, toy.validation = views(data, workers=2), views(data, "validation")
    result = toy.run(Scratch(ce_weight=1.0, label_smoothing=0.0), {}).train()
    assert result.steps == 2 * 3 and set(result.networks) == {"student"}
    extra = torch.full((2, 16, 16, 3), 128.0)
    joined = toy.train.joined(extra, torch.tensor([1, 0]))
    x = joined(torch.tensor([24, 3, 25]), seed=0, epoch=1)
    assert torch.equal(x[1:2], toy.train(torch.tensor([3]), seed=0, epoch=1))
    mean, std = joined.mean[:, None, None], joined.std[:, None, None]
    assert torch.allclose(x[0], ((128 / 255 - mean) / std).expand(3, 16, 16), atol=1e-5)
    assert joined.labels[24:].tolist() == [1, 0] and len(joined) == 26


def test_the_manifest_stage_says_what_it_wrote(tmp_path, images):
    command = [sys.executable, "-m", "stages.manifest", str(images), str(tmp_path / "manifest")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("manifest: 24 train, 24 validation, 24 test images, 2 classes")
    bad = subprocess.run(
        [*command[:3], str(tmp_path / "no"), "m"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert bad.returncode == 1 and bad.stderr.strip() == f"error: data.root: there is no folder {tmp_path / 'no'}"

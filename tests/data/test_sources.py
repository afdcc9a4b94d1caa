"""Folders and Parquet shards are prepared correctly; each error is one line that names the file or row."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from pictures import encoded, make_folder, picture, section
from PIL import Image
from ruamel.yaml import YAML

from pipeline.data.decode import decode, fitted
from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.errors import DataError

ROOT = Path(__file__).parents[2]


def prepared(tmp_path: Path, data: SimpleNamespace, workers: int = 0):
    report = prepare(open_source(data, workers), data, tmp_path / "prepared")
    return Prepared.read(tmp_path / "prepared"), report


def make_parquet(root: Path, *, shards=2, n=20, **columns) -> Path:
    root.mkdir(parents=True)
    for split in ("train", "test"):
        for k in range(shards):
            rows = [{"bytes": encoded(picture(hash((split, k, i)) % 10**6)), "path": f"{i}.png"} for i in range(n)]
            frame = {"image": rows, "label": [i % 2 for i in range(n)]} | {c: [v] * n for c, v in columns.items()}
            pl.DataFrame(frame).write_parquet(root / f"{split}-{k:05d}-of-{shards:05d}.parquet")
    return root


def test_a_folder_is_read_by_split_and_class(tmp_path):
    data, _ = prepared(tmp_path, section("folder", make_folder(tmp_path / "set")))
    assert data.classes == ["cat", "dog"] and data.meta.counts == {"train": 24, "validation": 24, "test": 24}
    assert data.images("train").shape == (24, 10, 12, 3)
    names = data.table.filter(pl.col("split") == "train")["source"].to_list()
    row = names.index("train/dog/01.png")
    assert data.labels("train")[row] == 1
    assert (data.images("train")[row] == np.asarray(picture(101))).all()


def test_missing_splits_are_split_off_stratified(tmp_path):
    root = make_folder(tmp_path / "set", splits=("train",), n=20)
    data, _ = prepared(tmp_path, section("folder", root, validation=0.25))
    assert data.meta.counts == {"train": 20, "validation": 10, "test": 10}
    assert data.table["source"].n_unique() == 40
    assert all(np.bincount(data.labels(s)).tolist() == [n / 2, n / 2] for s, n in data.meta.counts.items())


def test_threads_change_nothing(tmp_path):
    root = make_folder(tmp_path / "set")
    one, _ = prepared(tmp_path / "a", section("folder", root))
    other, _ = prepared(tmp_path / "b", section("folder", root), workers=3)
    assert one.meta == other.meta


def test_images_of_many_sizes_are_fitted(tmp_path):
    root = make_folder(tmp_path / "set", sizes=((12, 10), (30, 20), (9, 40)))
    data, _ = prepared(tmp_path, section("folder", root, image_size=8))
    assert data.images("train").shape[1:] == (8, 8, 3)
    chosen, report = prepared(tmp_path / "again", section("folder", root))
    assert chosen.images("train").shape[1:] == (10, 10, 3)  # the median of 10, 20 and 9
    assert report.resized


def test_images_of_one_size_keep_it(tmp_path):
    data, report = prepared(tmp_path, section("folder", make_folder(tmp_path / "set", sizes=((12, 10),))))
    assert data.images("train").shape[1:] == (10, 12, 3) and not report.resized


def test_fitting_scales_the_shorter_side_and_keeps_the_middle():
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 200
    assert (fitted(wide, 10) == 200).all()


def test_a_grey_set_has_one_channel(tmp_path):
    data, _ = prepared(tmp_path, section("folder", make_folder(tmp_path / "set", mode="L")))
    assert data.meta.in_chans == 1 and len(data.meta.mean) == 1


def read(image: Image.Image, tmp_path: Path, name: str, channels: int = 3, **options) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return decode(tmp_path / name, name, channels=channels)


def test_palette_grey_alpha_and_deep_images_come_out_right(tmp_path):
    rgb = picture(1)
    assert np.abs(read(rgb.quantize(256), tmp_path, "p.png").astype(int) - np.asarray(rgb)).mean() < 12
    grey = picture(2, mode="L")
    assert (read(grey, tmp_path, "l.png") == np.asarray(grey)[:, :, None]).all()
    assert (read(grey, tmp_path, "l1.png", channels=1)[:, :, 0] == np.asarray(grey)).all()
    deep = np.arange(120, dtype=np.uint16).reshape(10, 12) * 546
    out = read(Image.fromarray(deep), tmp_path, "deep.png", channels=1)
    assert (out[:, :, 0] == deep >> 8).all()
    clear = picture(3).convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.array([0, 255] * 6, dtype=np.uint8), (10, 1))))
    out = read(clear, tmp_path, "rgba.png")
    assert (out[:, ::2] == 0).all() and (out[:, 1::2] == np.asarray(picture(3))[:, 1::2]).all()
    assert set(np.unique(read(picture(4, mode="1"), tmp_path, "one.png", channels=1))) <= {0, 255}


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    image = picture(5)
    out = read(image, tmp_path, "turned.png", exif=exif)
    assert out.shape == (12, 10, 3)
    assert (out == np.asarray(image.rotate(-90, expand=True))).all()


def test_parquet_shards_are_read_in_order(tmp_path):
    data, _ = prepared(tmp_path, section("parquet", make_parquet(tmp_path / "set"), validation=8))
    assert data.meta.counts == {"train": 32, "validation": 8, "test": 40}
    test = data.table.filter(pl.col("split") == "test")["source"].to_list()
    assert test[0] == "test-00000-of-00002.parquet:0" and test[25] == "test-00001-of-00002.parquet:5"
    assert (data.images("test")[25] == np.asarray(picture(hash(("test", 1, 5)) % 10**6))).all()


def test_class_names_come_from_a_file_beside_the_shards(tmp_path):
    root = make_parquet(tmp_path / "set")
    (root / "classes.txt").write_text("no\nyes\n")
    data, _ = prepared(tmp_path, section("parquet", root))
    assert data.classes == ["no", "yes"]


def test_an_image_of_test_that_train_has_is_counted(tmp_path):
    root = make_folder(tmp_path / "set")
    shutil.copy(root / "train/cat/01.png", root / "test/cat/77.png")
    _, report = prepared(tmp_path, section("folder", root))
    assert report.shared == 1


def test_unreadable_files_are_skipped_and_listed(tmp_path):
    root = make_folder(tmp_path / "set")
    (root / "train/cat/aa.png").write_bytes(b"")
    (root / "train/dog/ab.jpg").write_text("hello")
    data, report = prepared(tmp_path, section("folder", root, on_error="skip"))
    assert data.meta.counts["train"] == 24 and len(report.skipped) == 2
    listed = pl.read_csv(tmp_path / "prepared/skipped.csv")
    assert listed["source"].to_list() == ["train/cat/aa.png", "train/dog/ab.jpg"]
    assert "zero bytes" in listed["reason"][0] and "is not an image" in listed["reason"][1]


def remove(*names):
    def change(root):
        for name in names:
            shutil.rmtree(root / name)

    return change


def put(name, content):
    def change(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return change


def truncate(root):
    file = root / "train/cat/00.jpg"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 3 // 4])


def empty(name):
    def change(root):
        shutil.rmtree(root / name)
        (root / name).mkdir()

    return change


BAD_FOLDERS = {
    "missing root": (remove("."), "there is no folder"),
    "no train": (remove("train"), "has no folder train"),
    "no class": (empty("train"), "train has no class folders"),
    "empty class": (empty("train/cat"), "train/cat: the class has no images"),
    "empty split": (empty("test"), "test has no images"),
    "zero bytes": (put("train/cat/zz.png", b""), r"train/cat/zz\.png is empty \(zero bytes\)"),
    "no image": (put("train/cat/zz.png", b"hello"), r"train/cat/zz\.png is not an image"),
    "truncated": (truncate, r"train/cat/00\.jpg cannot be decoded"),
    "unknown class": (put("test/emu/00.png", encoded(picture(0))), "test/emu: train has no class 'emu'"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_one_line_and_leaves_nothing(tmp_path, case):
    change, said = BAD_FOLDERS[case]
    root = make_folder(tmp_path / "set")
    change(root)
    with pytest.raises(DataError, match=said) as caught:
        prepared(tmp_path, section("folder", root))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir() if p.name != "set"] == []


def labels(values):
    def change(root):
        file = root / "train-00001-of-00002.parquet"
        frame = pl.read_parquet(file)
        frame.with_columns(pl.Series("label", values(frame.height))).write_parquet(file)

    return change


def drop_image(root):
    for file in root.glob("*.parquet"):
        pl.read_parquet(file).drop("image").write_parquet(file)


def named(root):
    (root / "classes.txt").write_text("no\nyes\n")


BAD_PARQUETS = {
    "no train": (lambda root: [f.unlink() for f in root.glob("train*")], {}, r"has no file train-\*\.parquet"),
    "no image column": (drop_image, {}, "has no column of images"),
    "wrong name": (lambda root: None, {"image_column": "img"}, r"data\.image_column 'img' is not a column of images"),
    "null label": (labels(lambda n: [0] * 3 + [None] + [1] * (n - 4)), {}, r"train-00001.*, row 3: the label is null"),
    "negative label": (labels(lambda n: [0] * 5 + [-1] + [1] * (n - 6)), {}, r"row 5: label -1 is not in 0\.\.1"),
    "not parquet": (
        put("train-00000-of-00002.parquet", b"hello"),
        {},
        "train-00000-of-00002.parquet is not a Parquet file",
    ),
}


@pytest.mark.parametrize("case", BAD_PARQUETS)
def test_a_bad_parquet_set_is_one_line_and_leaves_nothing(tmp_path, case):
    change, options, said = BAD_PARQUETS[case]
    root = make_parquet(tmp_path / "set")
    change(root)
    with pytest.raises(DataError, match=said) as caught:
        prepared(tmp_path, section("parquet", root, **options))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir() if p.name != "set"] == []


def test_a_label_beyond_the_named_classes_is_refused(tmp_path):
    root = make_parquet(tmp_path / "set")
    named(root)
    labels(lambda n: [2] * n)(root)
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet, row 0: label 2 is not in 0\.\.1"):
        prepared(tmp_path, section("parquet", root))


def test_several_label_columns_ask_for_a_name(tmp_path):
    root = make_parquet(tmp_path / "set", coarse=0)
    with pytest.raises(
        DataError, match=r"several columns of integer labels: label, coarse; set data\.label_column to one of them"
    ):
        prepared(tmp_path, section("parquet", root))
    data, _ = prepared(tmp_path, section("parquet", root, label_column="label"))
    assert data.meta.num_classes == 2


def test_the_stage_says_one_line_exits_with_1_and_leaves_no_out(tmp_path):
    for name in ("pipeline", "stages"):
        os.symlink(ROOT / name, tmp_path / name)
    yaml = YAML()
    document = yaml.load(ROOT / "params.yaml")
    document["data"] |= {"source": "folder", "root": "set"}
    yaml.dump(document, tmp_path / "params.yaml")
    make_folder(tmp_path / "set")
    truncate(tmp_path / "set")
    command = [sys.executable, "-m", "stages.prepare"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: set/train/cat/00.jpg cannot be decoded")
    assert not list(tmp_path.glob("data/*"))

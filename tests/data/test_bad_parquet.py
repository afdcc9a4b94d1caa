"""Parquet sets with other types, labels, metadata or files than expected: one line with the shard and the row."""

import datetime
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pictures import encoded, picture, section

from pipeline.data.sources.open import open_source
from pipeline.errors import DataError

N = 8
IMAGES = [{"bytes": encoded(picture(k)), "path": f"{k}.png"} for k in range(N)]
LABELS = [k % 2 for k in range(N)]


def write(file: Path, image=IMAGES, label=LABELS, **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"image": image, "label": label}, strict=False).write_parquet(file, **options)
    return file


def shard(root: Path, k: int, **options) -> Path:
    return write(root / f"train-{k:05d}-of-00002.parquet", **options)


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "set"
    root.mkdir()
    for k in range(2):
        shard(root, k)
    return root


def said(root: Path, **changed) -> str:
    with pytest.raises(DataError) as caught:
        source = open_source(section("parquet", root, **changed))
        list(source.images("train", np.arange(len(source.splits["train"].labels))))
    assert str(caught.value).isprintable()
    return str(caught.value)


TEXT = [{"bytes": "text", "path": "a"}] * N
DAYS = [datetime.date(2020, 1, 1)] * N
OTHER = {
    "text instead of bytes": ({"image": TEXT}, "column image has no images, but the type Struct"),
    "text": ({"image": ["a"] * N}, "column image has no images, but the type String"),
    "floats": ({"label": [0.5] * N}, "column label has no integer labels, but the type Float64"),
    "dates": ({"label": DAYS}, "column label has no integer labels, but the type Date"),
    "names": ({"label": ["cat"] * N}, "column label has no integer labels, but the type String"),
    "lists": ({"label": [[1]] * N}, "column label has no integer labels, but the type List(Int64)"),
    "negative": ({"label": [0, 0, -3, *[1] * (N - 3)]}, "row 2: label -3 is not in 0..1"),
    "null label": ({"label": [0, None, *[1] * (N - 2)]}, "row 1: the label is null"),
    "null image": ({"image": [*IMAGES[:3], None, *IMAGES[4:]]}, ".parquet:3: the image is null"),
    "null bytes": ({"image": [*IMAGES[:3], {"bytes": None, "path": ""}, *IMAGES[4:]]}, ".parquet:3: the image is null"),
    "no bytes": ({"image": [*IMAGES[:3], {"bytes": b"", "path": ""}, *IMAGES[4:]]}, ".parquet:3 is empty (zero bytes)"),
    "many classes": (
        {"label": [300_000_000] * N},
        "row 0: label 300000000 is not in 0..99999: more than 100,000 classes need names in classes.txt",
    ),
    "huge label": ({"label": pl.Series([2**63] * N, dtype=pl.UInt64)}, "row 0: label 9223372036854775808 is too large"),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_shard_of_another_kind_is_named(root, case):
    changed, message = OTHER[case]
    shard(root, 1, **changed)
    text = said(root)
    assert message in text and "train-00001-of-00002.parquet" in text


@pytest.mark.parametrize("case", ["text instead of bytes", "text", "floats", "dates", "names", "lists"])
def test_a_set_of_another_kind_is_named(root, case):
    for k in range(2):
        shard(root, k, **OTHER[case][0])
    assert "train-00000-of-00002.parquet has no column of" in said(root)


def test_a_missing_column_is_named(root):
    file = root / "train-00001-of-00002.parquet"
    pl.read_parquet(file).drop("label").write_parquet(file)
    assert said(root) == f"{file} has no column label, but the first shard has one"


def test_a_skipped_first_image_does_not_stop_the_set(root):
    shard(root, 0, image=[None, *IMAGES[1:]])
    source = open_source(section("parquet", root, on_error="skip"))
    assert source.skipped == [("train-00000-of-00002.parquet:0", "train-00000-of-00002.parquet:0: the image is null")]
    assert len(source.splits["train"].names) == 2 * N - 1


def damage_pages(file: Path):
    content = bytearray(file.read_bytes())
    content[4:-3000] = bytes(len(content[4:-3000]))
    file.write_bytes(content)


def pipe(file: Path):
    file.unlink()
    os.mkfifo(file)


def folder(file: Path):
    file.unlink()
    file.mkdir()


def loop(file: Path):
    file.unlink()
    file.symlink_to(file.name)


DAMAGED = {
    "truncated": (lambda f: f.write_bytes(f.read_bytes()[:-100]), "is truncated: it does not end as"),
    "empty": (lambda f: f.write_bytes(b""), "is not a Parquet file: it is empty (zero bytes)"),
    "garbage": (lambda f: f.write_bytes(b"garbage" * 99), "is not a Parquet file"),
    "only the ends": (lambda f: f.write_bytes(b"PAR1PAR1"), "is truncated"),
    "no footer": (lambda f: f.write_bytes(b"PAR1" + b"x" * 99 + b"PAR1"), "is damaged: "),
    "pages": (damage_pages, "is damaged: "),
    "pipe": (pipe, "cannot be read: it is not a regular file"),
    "folder": (folder, "cannot be read: it is not a regular file"),
    "loop": (loop, "cannot be read: Too many levels of symbolic links"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("k", [0, 1])
def test_a_damaged_file_is_named(root, capfd, case, k):
    change, message = DAMAGED[case]
    file = root / f"train-0000{k}-of-00002.parquet"
    for n in range(2):
        shard(root, n, image=IMAGES * 20, label=LABELS * 20)
    change(file)
    assert said(root).startswith(f"{file} {message}") and capfd.readouterr().err == ""


def described(root: Path, names, file: str = "train-00000-of-00002.parquet") -> None:
    about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    write(root / file, metadata={"huggingface": json.dumps(about)})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([1, 2], "class 0: a class name must be text, got 1"),
        (["a", None], "class 1: a class name must be text, got None"),
        ("ab", "hold no list of class names"),
        ([], "hold no list of class names"),
        ({"0": "a"}, "hold no list of class names"),
        (["a", "b\nc"], r"class 1: the class name 'b\nc' has a control character"),
        (["a"], "row 1: label 1 is not in 0..0"),
    ],
)
def test_malformed_names_are_one_line(root, names, message):
    described(root, names)
    text = said(root)
    assert message in text and "train-00000" in text


FOREIGN = ["", "no json", "[]", "3", '{"info": null}', '{"info": {"features": []}}', "[" * 99999]


@pytest.mark.parametrize("content", FOREIGN)
def test_other_metadata_is_ignored(root, content):
    shard(root, 0, metadata={"huggingface": content})
    assert open_source(section("parquet", root)).classes == ["0", "1"]


def test_names_that_two_classes_have_are_told_apart(root):
    described(root, ["crane", "dog", "crane"])
    assert open_source(section("parquet", root)).classes == ["crane (0)", "dog", "crane (2)"]


def test_class_names_end_at_line_feeds_only(root):
    (root / "classes.txt").write_text("a\u00a0b\r\nc d\n", newline="")
    assert open_source(section("parquet", root)).classes == ["a\u00a0b", "c d"]
    (root / "classes.txt").write_text("a\x0cb\nc\n")
    assert said(root) == rf"{root}/classes.txt, line 1: the class name 'a\x0cb' has a control character, " + (
        "a line break or is not UTF-8"
    )


def test_brackets_in_a_path_are_no_pattern(tmp_path):
    root = tmp_path / "set[1]*"
    root.mkdir()
    shard(root, 0)
    shard(root, 1)
    assert len(open_source(section("parquet", root)).splits["train"].names) == 2 * N


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (["dog", "cat"], "class 0 is dog in the Hugging Face metadata, but cat in those of {}: download all shards"),
        (["cat", "dog", "emu"], "class 2 is emu in the Hugging Face metadata, but missing in those of {}: "),
        (["cat"], "class 1 is missing in the Hugging Face metadata, but dog in those of {}: "),
    ],
)
def test_shards_that_name_classes_differently_are_an_error(root, test, message):
    described(root, ["cat", "dog"], "train-00001-of-00002.parquet")  # and the first shard has no names
    assert open_source(section("parquet", root)).classes == ["cat", "dog"]
    described(root, test, "test-00000-of-00001.parquet")
    first = root / "train-00001-of-00002.parquet"
    assert said(root).startswith(f"{root}/test-00000-of-00001.parquet: {message.format(first)}")
    (root / "classes.txt").write_text("a\nb\n")
    assert open_source(section("parquet", root)).classes == ["a", "b"]


LAYOUTS = {
    "one file": ["train.parquet", "test.parquet"],
    "the hub's": ["data/train-00000-of-00002-0a1b.parquet", "data/train-00001-of-00002-c2d3.parquet"],
    "without numbers": ["train-a.parquet", "train-b.parquet", "train.parquet"],
    "a folder for each split": ["train/train-00000-of-00001.parquet", "val/val-00000-of-00001.parquet"],
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_split_is_in_all_of_its_shards(tmp_path, case):
    for file in LAYOUTS[case]:
        write(tmp_path / file)
    source = open_source(section("parquet", tmp_path))
    assert sum(len(split.names) for split in source.splits.values()) == N * len(LAYOUTS[case])


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (["train-00000-of-00003", "train-00002-of-00003"], "train-00001-of-00003"),
        (["data/train-00001-of-00002-0a1b"], "train-00000-of-00002"),
        (["train-00000-of-00001", "test-0-of-99999999"], "test-1-of-99999999"),
    ],
)
def test_a_missing_shard_is_named(tmp_path, files, missing):
    for file in files:
        last = write(tmp_path / f"{file}.parquet")
    split = missing.partition("-")[0]
    assert said(tmp_path) == f"{last.parent}: shard {missing} of split {split} is missing"


def test_shards_are_numbered_from_0(tmp_path):
    for k in (1, 2):
        file = write(tmp_path / f"train-0000{k}-of-00002.parquet")
    assert said(tmp_path) == f"{file}: shards are numbered from 0, so there is no shard 2 of 2"


TWICE = {
    "two numbers of shards": ["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"],
    "with and without numbers": ["train-00000-of-00001", "train"],
    "one shard with two hashes": ["train-00000-of-00001-0a1b", "train-00000-of-00001-c2d3"],
    "two prefixes": ["train", "valid-00000-of-00001", "validation-00000-of-00001"],
}


@pytest.mark.parametrize("case", TWICE)
def test_a_split_in_two_shardings_is_an_error(tmp_path, case):
    for file in TWICE[case]:
        write(tmp_path / f"{file}.parquet")
    split = "validation" if "valid" in TWICE[case][1] else "train"
    text = said(tmp_path)
    assert text.endswith(f" are shards of two copies of split {split}: remove one of them")
    assert sum(f"{tmp_path}/{file}.parquet" in text for file in TWICE[case]) == 2


def test_a_split_in_two_folders_is_an_error_that_names_both(tmp_path):
    animals, plants = (write(tmp_path / name / "train-00000-of-00001.parquet") for name in ("animals", "plants"))
    copies = "are shards of two copies of split train"
    assert said(tmp_path) == f"{animals} and {plants} {copies}: set data.root to one of their folders"
    assert len(open_source(section("parquet", tmp_path / "plants")).splits["train"].names) == N


def test_hidden_folders_hold_no_shards(root):
    for folder in (".ipynb_checkpoints", ".cache/huggingface"):
        shard(root / folder, 0)
    assert len(open_source(section("parquet", root)).splits["train"].names) == 2 * N

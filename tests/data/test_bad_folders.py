"""Folders with unusual names, links, pipes and unreadable parts: one line each, no hang, no traceback."""

import os
import re
import shutil
from pathlib import Path

import pytest
from pictures import make_folder, picture, section

from pipeline.data.prepare import prepare
from pipeline.data.sources import listing
from pipeline.data.sources.open import open_source
from pipeline.data.sources.streamed import write_manifest
from pipeline.errors import DataError


def rename(old: str, new: str):
    def change(root: Path):
        for split in ("train", "val", "test"):
            (root / split / old).rename(root / split / new)

    return change


def not_utf8_file(root: Path):
    (root / "train/cat/00.jpg").rename(os.fsdecode(os.fsencode(root / "train/cat") + b"/\xff.jpg"))


def only(make):
    """The class cat of train has nothing but what `make` puts there."""

    def change(root: Path):
        shutil.rmtree(root / "train/cat")
        (root / "train/cat").mkdir()
        make(root / "train/cat/a.png")

    return change


def link(name: str, target: str):
    return lambda root: os.symlink(target, root / name)


CASES = {
    "class not UTF-8": (rename("cat", "\udcff"), r"\\xff: the class name '\\xff' has .* is not UTF-8"),
    "class with a line break": (rename("cat", "a\nb"), r"a\\nb: the class name 'a\\nb' has a control character"),
    "class with a separator": (rename("cat", "a\u2028b"), r"a\\u2028b"),
    "blank class": (rename("cat", " "), "a class name is empty"),
    "file not UTF-8": (not_utf8_file, r"train/cat/\\xff\.jpg: the name is not UTF-8: rename it"),
    "only a pipe": (only(os.mkfifo), "train/cat: the class has no images"),
    "only a hidden file": (only(lambda f: f.with_name(".a.png").touch()), "train/cat: the class has no images"),
    "two validation splits": (lambda root: shutil.copytree(root / "val", root / "validation"), "has both val and val"),
    "link to itself": (link("train/cat/loop.png", "loop.png"), r"loop\.png cannot be read: "),
    "link to nothing": (link("train/cat/none.png", "nowhere.png"), r"none\.png cannot be read: No such file"),
    "class links to itself": (link("train/emu", "emu"), "train/emu cannot be read: it is a link that leads nowhere"),
    "class links to its parent": (link("train/emu", "."), "train/emu is a link to a folder that contains it"),
    "class links to the root": (link("train/emu", ".."), "train/emu is a link to a folder that contains it"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", CASES)
def test_a_bad_folder_is_one_line(tmp_path, case):
    change, said = CASES[case]
    root = make_folder(tmp_path / "set")
    change(root)
    with pytest.raises(DataError, match=said) as caught:
        data = section("folder", root)
        prepare(open_source(data), data, tmp_path / "prepared")
    assert str(caught.value).isprintable()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "set")
    (root / "train/cat/more").mkdir()
    scan = os.scandir

    def refuse(folder):
        if Path(folder).name == "more":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(DataError, match="train/cat/more cannot be read: Permission denied"):
        open_source(section("folder", root))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_root_that_cannot_exist_is_named(name):
    for source in ("folder", "parquet"):
        with pytest.raises(DataError, match=r"data\.root: there is no folder "):
            open_source(section(source, Path(name)))


def test_long_names_linked_files_and_linked_classes_are_read(tmp_path):
    root = make_folder(tmp_path / "set")
    rename("cat", "c" * 255)(root)
    shutil.copytree(root / "train/dog", tmp_path / "elsewhere")
    shutil.rmtree(root / "train/dog")
    os.symlink(tmp_path / "elsewhere", root / "train/dog")
    file = root / "train" / ("c" * 255) / "00.jpg"
    shutil.move(file, tmp_path / "linked.jpg")
    os.symlink(tmp_path / "linked.jpg", file)
    os.symlink("..", file.with_name("circle"))
    os.mkfifo(file.with_name("pipe.png"))
    data = section("folder", root)
    meta = prepare(open_source(data), data, tmp_path / "prepared").meta
    assert meta["counts"] == {"train": 24, "validation": 24, "test": 24}


def test_a_broken_link_is_skipped_and_listed(tmp_path):
    root = make_folder(tmp_path / "set")
    os.symlink("nowhere", root / "train/cat/none.png")
    skipped = open_source(section("folder", root, on_error="skip")).skipped
    assert [name for name, _ in skipped] == ["train/cat/none.png"]


def test_a_class_whose_images_are_all_skipped_is_named(tmp_path):
    root = make_folder(tmp_path / "set")
    for split in ("train", "test"):
        for file in (root / split / "dog").iterdir():
            file.write_bytes(b"no image")
    said = "^" + re.escape(f"{root / 'train/dog'}: no image of the class can be read") + "$"
    with pytest.raises(DataError, match=said):
        open_source(section("folder", root, on_error="skip"))
    with pytest.raises(DataError, match=said):
        write_manifest(root, tmp_path / "manifest", on_error="skip")
    for k, file in enumerate((root / "train/dog").iterdir()):
        picture(k).save(file, "PNG")
    assert len(open_source(section("folder", root, on_error="skip")).skipped) == 12  # a split may lack a class


def test_hidden_folders_hold_no_images(tmp_path):
    root = make_folder(tmp_path / "set")
    shutil.copytree(root / "train/cat", root / "train/cat/.ipynb_checkpoints")
    assert len(open_source(section("folder", root)).splits["train"].names) == 24

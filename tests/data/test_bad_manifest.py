"""A manifest is written whole or not at all, and a damaged one is one line that says how to write it again."""

import os
from pathlib import Path

import polars as pl
import pytest
from pictures import make_folder, section

from pipeline.data.sources import streamed
from pipeline.data.sources.open import open_source
from pipeline.data.sources.streamed import read_manifest, write_manifest
from pipeline.errors import DataError
from pipeline.storage.digests import write_digests

AGAIN = r": run `python -m stages\.manifest` again"


@pytest.fixture
def manifest(tmp_path) -> Path:
    write_manifest(make_folder(tmp_path / "set"), tmp_path / "manifest", on_error="fail")
    return tmp_path / "manifest"


def put(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def pipe(name: str):
    def change(folder: Path):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def table(**columns):
    """Change the first row of the table, or drop a column."""

    def change(folder: Path):
        frame = pl.read_parquet(folder / "files.parquet")
        for name, value in columns.items():
            values = frame[name].to_list()
            frame = frame.drop(name) if value is ... else frame.with_columns(pl.Series(name, [value, *values[1:]]))
        frame.write_parquet(folder / "files.parquet")

    return change


def truncate(folder: Path):
    content = (folder / "files.parquet").read_bytes()
    (folder / "files.parquet").write_bytes(content[:-50])


def train_only(folder: Path):
    frame = pl.read_parquet(folder / "files.parquet")
    frame.filter(pl.col("split") != "train").write_parquet(folder / "files.parquet")


DAMAGE = {
    "empty root": (put("root.txt", b"\n"), "root.txt is damaged .it names no folder."),
    "encoded root": (put("root.txt", "/été".encode("latin1")), "root.txt is damaged .it is not UTF-8."),
    "NUL in root": (put("root.txt", b"/a\0b\n"), "root.txt is damaged"),
    "two roots": (put("root.txt", b"/a\n/b\n"), "root.txt is damaged"),
    "pipe": (pipe("root.txt"), "root.txt is damaged .cannot be read: it is not a regular file."),
    "no root": (remove("root.txt"), "root.txt is damaged .cannot be read: No such file"),
    "no classes": (remove("classes.txt"), "classes.txt is damaged .cannot be read: No such file"),
    "empty classes": (put("classes.txt", b""), "classes.txt is damaged .is empty"),
    "encoded classes": (put("classes.txt", "été\n".encode("utf-16")), "classes.txt is damaged .is not UTF-8"),
    "no table": (remove("files.parquet"), "files.parquet is damaged .cannot be read: No such file"),
    "empty table": (put("files.parquet", b""), "files.parquet is damaged .is not a Parquet file"),
    "garbage": (put("files.parquet", b"hello" * 9), "files.parquet is damaged .is not a Parquet file"),
    "no footer": (put("files.parquet", b"PAR1" + b"\0" * 50 + b"PAR1"), "files.parquet is damaged"),
    "truncated": (truncate, "files.parquet is damaged .is truncated"),
    "table is a pipe": (pipe("files.parquet"), "files.parquet is damaged .cannot be read: it is not a regular file"),
    "no column": (table(size=...), "its columns are not split, label, path, size, mtime"),
    "null": (table(size=None), "row 0: a value is null"),
    "split": (table(split="trian"), "row 0: the split is none of train, validation, test"),
    "label": (table(label=2), r"row 0: the label is not in 0\.\.1"),
    "negative label": (table(label=-1), r"row 0: the label is not in 0\.\.1"),
    "size": (table(size=-1), "row 0: the size is negative"),
    "no train": (train_only, "it lists no training images"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_manifest_is_one_line(manifest, case):
    change, said = DAMAGE[case]
    change(manifest)
    with pytest.raises(DataError, match=f"{said}.*{AGAIN}") as caught:
        open_source(section("folder", manifest, storage="stream"))
    assert str(caught.value).isprintable() and str(caught.value).count("is damaged") == 1


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.png", "a/../../x.png", "train/..", "", "a\0b"])
def test_a_path_out_of_the_folder_is_refused(manifest, path):
    table(path=path)(manifest)
    with pytest.raises(DataError, match=f"row 0: the path leads out of the folder of the images.*{AGAIN}"):
        open_source(section("folder", manifest, storage="stream"))


def test_names_with_dots_are_no_way_out(manifest):
    table(path="train/cat/..a..png")(manifest)
    write_digests(manifest)
    assert read_manifest(manifest)[2]["path"][0] == "train/cat/..a..png"


def test_an_edited_label_is_noticed(manifest):
    table(label=1)(manifest)
    with pytest.raises(DataError, match=r"manifest\.json is damaged \(files\.parquet is damaged\)"):
        read_manifest(manifest)


def test_a_folder_with_other_files_is_not_overwritten(tmp_path, manifest):
    for place in (tmp_path / "set", tmp_path / "set/train/cat", tmp_path / "set/train/cat/00.jpg"):
        before = sorted(str(file) for file in (tmp_path / "set").rglob("*"))
        with pytest.raises(DataError, match=r"holds other files than a manifest, such as|cannot be read: Not a dir"):
            write_manifest(tmp_path / "set", place, on_error="fail")
        assert sorted(str(file) for file in (tmp_path / "set").rglob("*")) == before


def test_a_manifest_is_replaced_at_once_and_through_a_link(tmp_path, manifest, monkeypatch):
    before = {file.name: file.read_bytes() for file in manifest.iterdir()}
    (tmp_path / "link").symlink_to("manifest")
    (tmp_path / "set/train/cat/00.jpg").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(streamed, "write_class_names", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_manifest(tmp_path / "set", manifest, on_error="fail")
    assert {file.name: file.read_bytes() for file in manifest.iterdir()} == before
    write_manifest(tmp_path / "set", tmp_path / "link", on_error="fail")
    assert (manifest / "files.parquet").read_bytes() != before["files.parquet"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "manifest", "set"]


def test_images_that_a_manifest_cannot_list_are_named(tmp_path):
    root = make_folder(tmp_path / "set")
    os.symlink("nowhere", root / "train/cat/none.png")
    with pytest.raises(DataError, match=r"none\.png cannot be read: No such file"):
        write_manifest(root, tmp_path / "manifest", on_error="fail")
    root = make_folder(tmp_path / "a\nb")
    with pytest.raises(DataError, match=r"a\\nb: a manifest cannot name this folder: rename it"):
        write_manifest(root, tmp_path / "manifest", on_error="fail")
    assert not (tmp_path / "manifest").exists()

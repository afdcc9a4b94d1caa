"""A folder or file is complete or absent, whoever fails, is killed, or writes at the same time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage.atomic import replace_file, replace_folder

ROOT = Path(__file__).parents[2]


def fill(text):
    return lambda folder: (folder / "file").write_text(text)


def test_a_folder_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path):
    for text in ("old", "new"):
        replace_folder(tmp_path / "target", fill(text))
    assert (tmp_path / "target/file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_fill_that_fails_leaves_the_target_as_it_was(tmp_path):
    replace_folder(tmp_path / "target", fill("old"))

    def failing(folder):
        (folder / "file").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(tmp_path / "target", failing)
    assert (tmp_path / "target/file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_two_fills_at_once_end_in_one_complete_folder(tmp_path):
    """The second begins while the first is filling, and ends before it."""

    def slow(folder):
        (folder / "file").write_text("first")
        replace_folder(tmp_path / "target", fill("second"))

    replace_folder(tmp_path / "target", slow)
    assert (tmp_path / "target/file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_kill_while_the_old_folder_is_removed_leaves_the_new_one_complete(tmp_path, monkeypatch):
    replace_folder(tmp_path / "target", fill("old"))

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", killed)
        replace_folder(tmp_path / "target", fill("new"))
    assert (tmp_path / "target/file").read_text() == "new"


def test_only_old_partial_folders_of_the_same_target_are_removed(tmp_path):
    token = "0" * 32
    names = [f".target.{token}.partial", f".target.a.{token}.partial", ".target.mine.partial", ".other.partial"]
    for name in names:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    fresh = tmp_path / f".target.{'1' * 32}.partial"
    fresh.mkdir()
    replace_folder(tmp_path / "target", fill("new"))
    assert {path.name for path in tmp_path.iterdir()} == {"target", fresh.name, *names[1:]}


def test_a_folder_of_another_process_is_kept_where_it_must_not_be_overwritten(tmp_path):
    replace_folder(tmp_path / "target", fill("theirs"))
    replace_folder(tmp_path / "target", fill("ours"), overwrite=False)
    assert (tmp_path / "target/file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "file"
    replace_file(file, [b"o", b"ld"])

    def parts():
        yield b"half"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(file, parts())
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_take_the_place_of_its_target_leaves_nothing(tmp_path):
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError):
        replace_file(tmp_path / "target", [b"new"])
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


def test_many_processes_may_replace_the_same_folder_at_once(tmp_path):
    """The last one wins, none fails, and no partial folder is left."""
    code = (
        "import sys; from pathlib import Path; from pipeline.storage.atomic import replace_folder\n"
        "for k in range(200):\n"
        "    replace_folder(Path(sys.argv[1], 'target'), lambda f: (f / 'file').write_text(sys.argv[2]))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(k)], cwd=ROOT, stderr=subprocess.PIPE)
        for k in range(4)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target/file").read_text() in "0123"

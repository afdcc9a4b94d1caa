"""The stores remove only what is theirs, whatever lies beside it, and say what they leave."""

import os
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage.checkpoints import Checkpoint, prune
from pipeline.storage.logit_cache import LogitCache
from pipeline.storage.store import MARK, Store, mark

KEYS = [f"{k:032x}" for k in range(6)]
GIB = 2**30


def fill(folder: Path, *, marked: bool, size: int = 1000) -> Path:
    """A folder with a file and a subfolder."""
    (folder / "inside").mkdir(parents=True)
    (folder / "inside/file").write_bytes(b"x" * size)
    if marked:
        mark(folder)
    return folder


def foreign_files(parent: Path, elsewhere: Path) -> list[Path]:
    """Everything that a user might keep in a folder: named, hidden, linked, and named like an entry."""
    linked = fill(elsewhere / "linked", marked=True)
    folders = [
        fill(parent / "photos", marked=False),
        fill(parent / ".git", marked=False),
        fill(parent / "thesis", marked=True),  # a mark alone does not make an entry
        fill(parent / KEYS[5], marked=False),  # nor does a key
        fill(parent / f".gone-{KEYS[4]}-{KEYS[3]}", marked=False),
        fill(parent / f".{KEYS[4]}.{KEYS[3]}.partial", marked=False),
        fill(parent / ".gone-photos", marked=True),
        fill(parent / ".taken-holidays2025", marked=True),
    ]
    (parent / "notes.txt").write_text("a file")
    (parent / KEYS[2]).symlink_to(linked)
    (parent / f".taken-{'a' * 8}").symlink_to(linked)
    (parent / "dangling").symlink_to(elsewhere / "nothing")
    for folder in folders:
        os.utime(folder, (0, 0))  # the least recently used of all
    return [path for root in (parent, elsewhere) for path in sorted(root.rglob("*"))]


@pytest.mark.parametrize("link", [False, True])
def test_the_checkpoint_store_removes_only_its_own_entries(tmp_path, link):
    root, elsewhere, log = tmp_path / "disk", tmp_path / "elsewhere", []
    for place in (root, root / "distill-kd"):
        place.mkdir()
        before = foreign_files(place, elsewhere / place.name)
    before += foreign_files(root / "thesis/inside/deep", elsewhere / "deep")
    own = [fill(root / "distill-kd" / key, marked=True) for key in KEYS[:2]]
    hidden = fill(root / "distill-kd" / f".gone-{KEYS[0]}-{KEYS[1]}", marked=True)
    if link:
        (tmp_path / ".checkpoints").symlink_to(root)
    store = Store(tmp_path / ".checkpoints" if link else root, grouped=True, log=log.append)
    for _ in range(2):
        prune(store, 0.0, keep=[])
    assert not any(path.exists() for path in (*own, hidden))
    assert [path for path in before if not os.path.lexists(path)] == []
    assert len(log) == 1 and "also holds what is not the store's" in log[0] and "left as it is" in log[0]


def test_the_logit_store_removes_only_its_own_entries(tmp_path):
    log = []
    before = foreign_files(tmp_path / ".logits", tmp_path / "elsewhere")
    cache = LogitCache(tmp_path / ".logits", kind="fp32", gib=3000 / GIB, key={}, log=log.append)
    first = cache.open("teacher", {"seed": 0}, (2, 10, 10))
    assert first is not None
    cache.in_use.clear()
    assert LogitCache(tmp_path / ".logits", kind="fp32", gib=1000 / GIB, key={}, log=log.append).make_room(900)
    assert not first.folder.exists()
    assert [path for path in before if not os.path.lexists(path)] == []
    assert any("also holds what is not the store's" in line for line in log)


def test_foreign_files_do_not_count_towards_the_limit(tmp_path):
    own = fill(tmp_path / "run" / KEYS[0], marked=True, size=1000)
    fill(tmp_path / "photos" / "2025", marked=False, size=100_000)
    prune(Store(tmp_path, grouped=True, log=print), 2000 / GIB, keep=[])
    assert own.exists()


def test_a_store_of_nothing_but_its_own_files_says_nothing(tmp_path):
    log = []
    with Checkpoint(tmp_path / "distill-kd" / KEYS[0]).locked(wait=True):
        pass
    fill(tmp_path / "distill-kd" / f".taken-{'a' * 8}", marked=True)
    Store(tmp_path, grouped=True, log=log.append).sweep()
    assert log == []


def test_a_killed_removal_leaves_a_folder_that_is_still_recognised(tmp_path, monkeypatch):
    own = fill(tmp_path / "run" / KEYS[0], marked=True)
    store = Store(tmp_path, grouped=True, log=print)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.discard(own)
    (left,) = (tmp_path / "run").iterdir()
    assert left.name.startswith(".gone-") and (left / MARK).is_file() and not own.exists()
    store.sweep()
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("what", ["file", "dangling", "loop"])
def test_a_store_that_is_no_folder_is_one_line(tmp_path, what):
    root = tmp_path / ".checkpoints"
    if what == "file":
        root.write_text("x")
    else:
        root.symlink_to(root if what == "loop" else tmp_path / "nowhere/at/all")
    with pytest.raises(UserError, match="the checkpoint store cannot be used") as caught:
        with Checkpoint(root / "distill-kd" / KEYS[0]).locked(wait=True):
            pass
    assert "\n" not in str(caught.value)
    log = []
    logits = LogitCache(root, kind="fp32", gib=1, key={}, log=log.append)
    assert logits.open("teacher", {}, (1, 4, 3)) is None
    assert len(log) == 1 and "not cached" in log[0]

"""The folders of a store, while other runs use it too and any of them may be killed."""

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

FORGOTTEN = 30 * 24 * 3600  # seconds after which nobody will come back to a folder that a killed run was filling


def sizes_by_age(folders: Iterable[Path]) -> dict[Path, int]:
    """Folders and their bytes, those used longest ago first."""
    found = []
    for folder in folders:
        with suppress(FileNotFoundError):
            if folder.is_dir():
                found.append((folder.stat().st_mtime, folder, sum(map(size_of, folder.rglob("*")))))
    return {folder: size for _, folder, size in sorted(found)}


def size_of(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


def discard(folder: Path) -> None:
    """Remove a folder that may be removed, at once in the eyes of others: a run that is killed here leaves none that
    is half there.
    """
    gone = folder.with_name(f".gone-{folder.name}-{uuid4().hex}")
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(hidden: Iterable[Path]) -> None:
    """Remove what killed runs have left of the folders that they were removing or filling (names with a dot)."""
    for folder in hidden:
        with suppress(FileNotFoundError):
            if folder.name.startswith(".gone-") or time.time() - folder.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(folder, ignore_errors=True)


def link_tree(source: Path, target: Path) -> None:
    """The files of a folder under another name too: they stay, though the first is removed."""

    def link(file: str, name: str) -> str:
        try:
            os.link(file, name)
        except OSError:  # a system without links
            shutil.copy2(file, name)
        return name

    shutil.copytree(source, target, copy_function=link)


def sync(path: Path) -> None:
    """Make a file, or a rename in a folder, outlast a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

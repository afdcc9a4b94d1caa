"""Folders of a store that several runs use at once, any of which may be killed."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

ABANDONED_AFTER = 30 * 24 * 3600  # seconds after which a partial folder is taken for one that a killed run left


def sizes_by_age(folders: Iterable[Path]) -> dict[Path, int]:
    """Size in bytes of each folder, least recently used first."""
    found = []
    for folder in folders:
        with suppress(FileNotFoundError):
            if folder.is_dir():
                found.append((folder.stat().st_mtime, folder, sum(map(size_of, folder.rglob("*")))))
    return {folder: size for _, folder, size in sorted(found)}


def size_of(file: Path) -> int:
    """Size in bytes; 0 for anything but a file, and for a file that another run has just removed."""
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


def discard(folder: Path) -> None:
    """Remove a folder atomically: it is renamed first, so a run that is killed here leaves no incomplete folder."""
    gone = folder.with_name(f".gone-{folder.name}-{uuid4().hex}")
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(hidden: Iterable[Path]) -> None:
    """Remove hidden folders that killed runs left while they were removing or filling them."""
    for folder in hidden:
        with suppress(FileNotFoundError):
            if folder.name.startswith(".gone-") or time.time() - folder.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(folder, ignore_errors=True)


def link_tree(source: Path, target: Path) -> None:
    """Hard-link the files of a folder under another name: they stay when the first name is removed."""

    def link(file: str, name: str) -> str:
        try:
            os.link(file, name)
        except OSError:  # a file system without hard links
            shutil.copy2(file, name)
        return name

    shutil.copytree(source, target, copy_function=link)


def file_digest(file: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

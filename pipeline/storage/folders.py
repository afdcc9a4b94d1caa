"""Folders that several runs use at once, any of which may be killed."""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def size_of(file: Path) -> int:
    """Size in bytes; 0 for anything but a file, and for a file that another run has just removed."""
    try:
        return file.lstat().st_size if file.is_file() else 0
    except OSError:
        return 0


def discard(folder: Path, *, last: str = "") -> None:
    """Remove a folder atomically: it is renamed first, so a run that is killed here leaves no incomplete folder.

    last: a file in it that is removed after all others.
    """
    gone = folder.with_name(f".gone-{folder.name}-{uuid4().hex}")
    with suppress(OSError):
        folder.rename(gone)
        remove_folder(gone, last=last)


def remove_folder(folder: Path, *, last: str = "") -> None:
    """Remove a folder, as far as that is possible.  last: a file in it that is removed after all others."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name == last:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if last:
            (folder / last).unlink(missing_ok=True)
        folder.rmdir()


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

"""List the entries of folders, so that what cannot be read is an error and no link leads in circles."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pipeline.data.class_names import shown
from pipeline.errors import DataError


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, in no particular order. Raises DataError if the folder cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(folder)} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def below(folder: Path, failed: list[DataError] | None = None) -> Iterator[os.DirEntry[str]]:
    """Yield what is below a folder, in no particular order, without hidden files and folders.

    Links to folders are yielded but not followed.

    failed: receives an error for each folder that cannot be read; None: it is raised.
    """
    pending = [folder]
    while pending:
        place = pending.pop()
        try:
            found = entries(place)
        except DataError as error:
            if failed is None:
                raise
            failed.append(error)
            continue
        for entry in found:
            if entry.name.startswith("."):
                continue
            yield entry
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))


def kind(entry: os.DirEntry[str]) -> Literal["file", "folder", "special", "broken"]:
    """What an entry is, or what it links to. Special are pipes, sockets and devices; broken is a link to nothing."""
    if entry.is_symlink():
        if os.path.isfile(entry.path):
            return "file"
        if os.path.isdir(entry.path):
            return "folder"
        return "special" if os.path.exists(entry.path) else "broken"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


def check_file_name(file: Path) -> None:
    """Raise DataError for a path that is not UTF-8, because tables of names could not hold it."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise DataError(f"{shown(file)}: the name is not UTF-8: rename it") from None

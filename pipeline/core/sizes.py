"""How much the folders of a store hold, while other runs use it too."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


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

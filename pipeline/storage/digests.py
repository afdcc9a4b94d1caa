"""A manifest of SHA-256 digests, which shows whether the files of a folder are those that were written."""

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.storage.folders import file_digest

NAME = "manifest.json"


def write_digests(folder: Path, names: Iterable[str] = ()) -> None:
    """Write manifest.json: the digest of every file in a folder, by its path within the folder.

    names: the files that it covers; without names, all.
    """
    paths = [folder / name for name in names] or files_of(folder)
    content = {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
    (folder / NAME).write_text(json.dumps(content, indent=2) + "\n")


def first_difference(folder: Path, *, complete: bool = True) -> str | None:
    """What differs first from manifest.json, such as "history.csv is missing"; None if nothing does.

    complete: whether a file that the manifest does not name is a difference.
    """
    try:
        expected = json.loads((folder / NAME).read_bytes())
        found = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
        if not isinstance(expected, dict):
            return f"{NAME} is damaged"
        for name, digest in expected.items():
            if name not in found:
                return f"{ascii(name)[1:-1][:200]} is missing"
            if file_digest(found[name]) != digest:
                return f"{name} is damaged"
        added = [name for name in sorted(found) if complete and name not in expected]
        return f"{ascii(added[0])[1:-1]} was added" if added else None
    except FileNotFoundError:
        return f"{NAME} is missing"
    except (OSError, ValueError, RecursionError) as error:
        return f"{NAME} cannot be read ({error})"


def files_of(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders except its manifest, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)

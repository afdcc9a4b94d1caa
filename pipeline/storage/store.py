"""A folder that holds what runs keep for later runs, within a size limit.

It may be linked to a disk that others use, so a store removes only its own entries: folders whose name is a key and
that hold the store's mark. Whatever else lies there stays, is reported once, and does not count towards the limit.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.storage.folders import discard, remove_folder, size_of

MARK = ".group-distillation"
MARK_TEXT = "The pipeline may remove this folder to make room (runtime in params.yaml).\n"
KEY = re.compile(r"[0-9a-f]{32}")
HIDDEN = re.compile(r"\.(gone-[0-9a-f]{32}-[0-9a-f]{32}|[0-9a-f]{32}\.[0-9a-f]{32}\.partial|taken-[a-z0-9_]{8})")
LOCK = re.compile(r"[0-9a-f]{32}\.lock")
UNUSED_AFTER = 30 * 24 * 3600  # seconds after which a hidden folder is taken for one that a killed run has left
SHOWN = 5  # foreign names in a message


class Store:
    """A store of entries ROOT/KEY, or ROOT/RUN/KEY if it is grouped by run.

    log: receives messages.
    """

    def __init__(self, root: Path, *, grouped: bool, log: Callable[[str], None]):
        self.root, self.grouped, self.log = root, grouped, log
        self.reported = False

    def folders(self) -> Iterator[Path]:
        """Everything at the level of entries, own or not."""
        for parent in self.parents():
            with suppress(OSError):  # another run has just removed it, or nobody may list it
                yield from sorted(parent.iterdir())

    def parents(self) -> list[Path]:
        """The folders that contain entries."""
        if not self.root.is_dir():
            return []
        return [path for path in sorted(self.root.iterdir()) if path.is_dir()] if self.grouped else [self.root]

    def entries(self) -> dict[Path, int]:
        """Own entries and their sizes in bytes, least recently used first."""
        found = []
        for folder in self.folders():
            with suppress(FileNotFoundError):
                if KEY.fullmatch(folder.name) and is_own(folder):
                    found.append((folder.stat().st_mtime, folder, sum(map(size_of, folder.rglob("*")))))
        return {folder: size for _, folder, size in sorted(found)}

    def sweep(self) -> None:
        """Remove own hidden folders that killed runs left while they were filling or removing them."""
        for folder in self.folders():
            with suppress(FileNotFoundError):
                gone = folder.name.startswith(".gone-")
                if HIDDEN.fullmatch(folder.name) and is_own(folder):
                    if gone or time.time() - folder.stat().st_mtime > UNUSED_AFTER:
                        remove_folder(folder, last=MARK)
        self.report_foreign()

    def discard(self, folder: Path) -> None:
        """Remove an entry, if it is one."""
        if KEY.fullmatch(folder.name) and is_own(folder):
            discard(folder, last=MARK)

    def report_foreign(self) -> None:
        """Log once what does not belong to the store."""
        foreign = [] if self.reported else sorted(self.foreign())
        if foreign:
            self.reported = True
            names = ", ".join(ascii(name)[1:-1] for name in foreign[:SHOWN]) + (", ..." if len(foreign) > SHOWN else "")
            self.log(
                f"{self.root} also holds what is not the store's, or is an older version's: {names}; "
                f"it is left as it is and not counted"
            )

    def foreign(self) -> set[str]:
        """Names below the root that are not the store's."""
        if not self.root.is_dir():
            return set()
        parents = set(self.parents())
        names = {path.name for path in self.root.iterdir() if self.grouped and path not in parents}
        for parent in parents:
            with suppress(OSError):
                odd = [path for path in parent.iterdir() if not is_expected(path)]
                if odd and self.grouped and len(odd) == len(list(parent.iterdir())):
                    names.add(parent.name)
                else:
                    names |= {path.relative_to(self.root).as_posix() for path in odd}
        return names


def is_expected(path: Path) -> bool:
    """Whether a store may have written this entry, hidden folder or lock."""
    if LOCK.fullmatch(path.name):
        return True
    return is_own(path) if KEY.fullmatch(path.name) else HIDDEN.fullmatch(path.name) is not None


def is_own(folder: Path) -> bool:
    """Whether a folder, which must not be a link, carries the mark of a store."""
    return not folder.is_symlink() and folder.is_dir() and (folder / MARK).is_file()


def mark(folder: Path) -> None:
    """Mark an existing folder as one of a store's."""
    file = folder / MARK
    if not file.exists():
        file.write_text(MARK_TEXT)

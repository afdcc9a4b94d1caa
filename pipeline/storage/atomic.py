"""Files and folders that are complete or absent: filled under another name, then renamed."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

ATTEMPTS = 100  # to put a folder in its place while other processes do the same
ABANDONED_AFTER = 24 * 3600  # seconds after which a partial folder is taken for one that a killed process left


def replace_folder(
    target: Path, fill: Callable[[Path], object], *, durable: bool = False, overwrite: bool = True
) -> None:
    """Fill a new folder beside `target`, then put it in the place of `target`.

    If filling fails nothing is left behind and `target` stays as it was. Partial folders have names of their own, so
    two processes may fill the same target at once; the last one to finish wins.
    durable: make the content survive a power failure.
    overwrite: False keeps a `target` that another process has created meanwhile, as entries of a store need it.
    """
    if overwrite:
        remove_partial_folders(target, older_than=ABANDONED_AFTER)
    partial = partial_name(target)
    partial.mkdir(parents=True)
    try:
        fill(partial)
        if durable:
            for path in (*partial.rglob("*"), partial):
                sync(path)
        swap(partial, target, overwrite=overwrite)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if durable:
        sync(target.parent)


def swap(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a filled folder to `target`. An existing target is renamed aside first, so it is never half deleted."""
    asides = []
    try:
        for attempt in range(ATTEMPTS):
            if overwrite and os.path.lexists(target):
                asides.append(partial_name(target))
                with suppress(FileNotFoundError):  # another process renames it, too
                    target.rename(asides[-1])
            try:
                partial.rename(target)
                return
            except OSError:
                if not overwrite and target.exists():
                    shutil.rmtree(partial, ignore_errors=True)  # another process has created the target
                    return
                if attempt == ATTEMPTS - 1:
                    raise
    except BaseException:
        with suppress(OSError):  # unless another process has filled its place
            if asides and not os.path.lexists(target):
                asides[-1].rename(target)
        raise
    finally:
        for aside in asides:
            if aside.is_symlink() or aside.is_file():
                aside.unlink()
            else:
                shutil.rmtree(aside, ignore_errors=True)


def partial_name(target: Path) -> Path:
    """A new hidden name beside `target`."""
    return target.with_name(f".{target.name}.{uuid4().hex}.partial")


def remove_partial_folders(target: Path, *, older_than: float = 0.0) -> None:
    """Remove partial folders of `target` that killed processes have left.  older_than: seconds."""
    form = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}\.partial")
    for folder in target.parent.glob(".*.partial"):
        with suppress(FileNotFoundError):  # another process has put it in its place
            if form.fullmatch(folder.name) and time.time() - folder.stat().st_mtime >= older_than:
                shutil.rmtree(folder, ignore_errors=True)


def replace_file(target: Path, parts: Iterable[bytes | memoryview], *, durable: bool = False) -> None:
    """Write a file beside `target`, then put it in the place of `target`.

    If writing fails nothing is left behind and `target` stays as it was.
    durable: make the content survive a power failure.
    """
    partial = target.with_name(f"{target.name}.{uuid4().hex}.tmp")
    try:
        with partial.open("wb") as out:
            for part in parts:
                out.write(part)
            if durable:
                out.flush()
                os.fsync(out.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        sync(target.parent)


def sync(path: Path) -> None:
    """Make a file, or a rename within a folder, survive a power failure, where the system can."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

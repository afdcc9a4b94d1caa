"""Files and folders that are complete or absent: filled under another name, then renamed."""

import os
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path


def replace_folder(
    target: Path, fill: Callable[[Path], object], *, durable: bool = False, overwrite: bool = True
) -> None:
    """Fill a new folder beside `target`, then put it in the place of `target`.

    If filling fails nothing is left behind and `target` stays as it was.
    durable: make the content survive a power failure.
    overwrite: False keeps a `target` that another process has created meanwhile.
    """
    remove_abandoned(target)
    partial = target.with_name(f".{target.name}.{socket.gethostname()}-{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        fill(partial)
        if durable:
            for path in (*partial.rglob("*"), partial):
                sync(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if overwrite:
        shutil.rmtree(target, ignore_errors=True)
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if overwrite or not target.exists():
            raise
    if durable:
        sync(target.parent)


def remove_abandoned(target: Path) -> None:
    """Remove the partial folders of `target` that killed processes of this machine have left."""
    for partial in target.parent.glob(f".{target.name}.{socket.gethostname()}-*.partial"):
        process = int(partial.name.removesuffix(".partial").rsplit("-", 1)[1])
        if process == os.getpid() or not is_running(process):
            shutil.rmtree(partial, ignore_errors=True)


def is_running(process: int) -> bool:
    """Whether this machine runs a process of this ID."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def replace_file(target: Path, parts: Iterable[bytes | memoryview], *, durable: bool = False) -> None:
    """Write a file beside `target`, then put it in the place of `target`.

    If writing fails nothing is left behind and `target` stays as it was.
    durable: make the content survive a power failure.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as out:
            for part in parts:
                out.write(part)
            if durable:
                out.flush()
                os.fsync(out.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(target)
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

"""Checkpoints: what a killed run goes on from, and what a finished run leaves for the next that asks for the same.

A folder `.checkpoints/RUN/KEY/` holds the two newest checkpoints of one seed of one run, or its finished outs. The
key is a digest of all that decides the result, so a checkpoint of other parameters, data or code is never found.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from pipeline.core.folders import discard, sizes_by_age, sweep, sync
from pipeline.errors import UserError

MAGIC = b"group-distillation checkpoint 1\n"
Say = Callable[[str], None]


def store_root(project: Path) -> Path:
    """The store of a project. A DVC experiment in a temporary folder shares that of the repository it came from."""
    parts = project.resolve().parts
    for k in range(len(parts) - 3):
        if parts[k : k + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:k]) / ".checkpoints"
    return project / ".checkpoints"


def digest_of(files: list[Path], root: Path) -> str:
    """sha256 of files, by their paths relative to root and their content."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(file.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


class Checkpoint:
    """The checkpoints of one seed of one run. Only rank 0 touches them, but for parts that are trained apart.

    prefix: begins the names of its files.
    """

    def __init__(self, folder: Path, say: Say = print, prefix: str = ""):
        self.folder, self.say, self.prefix = folder, say, prefix

    def part(self, name: str) -> "Checkpoint":
        """For a part of the run that one process trains by itself."""
        return Checkpoint(self.folder, self.say, f"{name}-")

    @contextmanager
    def held(self, *, wait: bool) -> Iterator[None]:
        """Hold the folder: a second run of the same key waits until the first has ended, or raises UserError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.parent / f"{self.folder.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise UserError(
                    f"another run of {self.folder.parent.name} with the same key is under way: when it has ended, run "
                    f"the same command again"
                ) from None
            self.say(f"another run of {self.folder.parent.name} with the same key is under way: waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def files(self) -> list[Path]:
        """Checkpoints, newest first."""
        return sorted(self.folder.glob(f"{self.prefix}[0-9]*.ckpt"), reverse=True)

    def save(self, state: dict) -> None:
        """Write a checkpoint beside the one before it: at every moment one of them is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)  # of a part that another machine trains
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        files = self.files()
        number = int(files[0].stem.removeprefix(self.prefix)) + 1 if files else 0
        target = self.folder / f"{self.prefix}{number:09d}.ckpt"
        partial = target.with_suffix(".tmp")
        try:
            with partial.open("wb") as out:
                out.write(MAGIC + hashlib.sha256(payload).digest())
                out.write(payload)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(
                f"a checkpoint of {len(payload):,} bytes could not be written ({error.strerror}); the one before it is "
                f"whole: make room in {self.folder.parent.parent} and run the same command again"
            ) from None
        partial.replace(target)
        sync(self.folder)
        for old in files[1:]:
            old.unlink()

    def load(self) -> dict | None:
        """The newest whole checkpoint, or None. A damaged one is said and passed over."""
        for file in self.files():
            content = file.read_bytes()
            head = len(MAGIC) + 32
            payload = memoryview(content)[head:]
            whole = content.startswith(MAGIC) and hashlib.sha256(payload).digest() == content[len(MAGIC) : head]
            if whole:
                return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            self.say(f"checkpoint {file.name} of {self.folder.parent.name} is damaged: using the one before it")
            file.unlink()
        return None

    def finish(self, write: Callable[[Path], None]) -> None:
        """Keep a finished run's outs; its checkpoints may be cleared then. Raises UserError if the disk is full."""
        partial = self.folder / "finished.tmp"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            write(partial)
            for path in (*partial.rglob("*"), partial):
                sync(path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise UserError(
                f"what {self.folder.parent.name} has learnt could not be written "
                f"({getattr(error, 'strerror', None) or error}); its checkpoint is whole: make room in "
                f"{self.folder.parent.parent} and run the same command again"
            ) from None
        partial.replace(self.finished)
        sync(self.folder)

    def clear(self) -> None:
        """Remove the checkpoints that are on this machine."""
        for file in self.folder.glob("*.ckpt"):
            file.unlink(missing_ok=True)

    @property
    def finished(self) -> Path:
        """The outs of a run that ended; the folder exists only then."""
        return self.folder / "finished"


def prune(root: Path, gib: float, keep: list[Path]) -> None:
    """Remove the folders of runs that were used longest ago until the store is no larger than `gib`."""
    sweep(root.glob("*/.*"))
    sizes = sizes_by_age(root.glob("*/[!.]*"))
    excess = sum(sizes.values()) - gib * 2**30
    for folder, size in sizes.items():
        if excess <= 0:
            return
        if folder in keep:
            continue
        lock = FileLock(folder.parent / f"{folder.name}.lock")
        try:
            with lock.acquire(timeout=0):
                discard(folder)
                excess -= size
        except Timeout:
            continue

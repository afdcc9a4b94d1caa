"""Checkpoints: what a killed run resumes from, and what a finished run leaves for the next run of the same key.

A folder `.checkpoints/RUN/KEY/` holds the two newest checkpoints of one seed of one run, or its finished outputs. The
key is a digest of everything that decides the result, so a run never finds a checkpoint of other parameters, data or
code.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from pipeline.errors import UserError
from pipeline.storage.atomic import remove_partial_folders, replace_file, replace_folder
from pipeline.storage.digests import first_difference, write_digests
from pipeline.storage.folders import remove_folder
from pipeline.storage.store import Store, mark

PROBED = 1  # seconds after which a lock is held by a run, and not by `prune`, which looks whether it is
MEMO = "memo"  # the key of what a run has computed once
MAGIC = b"group-distillation checkpoint 1\n"
Log = Callable[[str], None]


def store_root(project: Path) -> Path:
    """The checkpoint store of a project. A DVC experiment in a temporary folder shares the store of its repository."""
    parts = project.resolve().parts
    for k in range(len(parts) - 3):
        if parts[k : k + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:k]) / ".checkpoints"
    return project / ".checkpoints"


class Checkpoint:
    """The checkpoints of one seed of one run. Only rank 0 reads and writes them, except for independent legs.

    prefix: of the names of its files.  log: receives messages.
    """

    def __init__(self, folder: Path, log: Log = print, prefix: str = ""):
        self.folder, self.log, self.prefix = folder, log, prefix
        self.memo: tuple[set[str], tuple[str, str]] | None = None  # the keys of the last one, its file and its digest

    def part(self, name: str) -> "Checkpoint":
        """The checkpoints of a part of the run that one rank trains alone."""
        return Checkpoint(self.folder, self.log, f"{name}-")

    @contextmanager
    def locked(self, *, wait: bool) -> Iterator[None]:
        """Lock the folder. A second run of the same key waits until the first has ended, or raises UserError.

        Raises UserError, too, if the folder cannot be created or written to.
        """
        lock = lock_of(self.folder)
        try:
            self.create()
            lock.acquire(timeout=0 if wait else PROBED)
        except Timeout:
            if not wait:
                raise UserError(
                    f"another run of {self.folder.parent.name} with the same key is in progress: run the same "
                    f"command again when it has ended"
                ) from None
            self.log(f"another run of {self.folder.parent.name} with the same key is in progress: waiting for it")
            lock.acquire()
        except OSError as error:
            raise UserError(
                f"the checkpoint store cannot be used ({error.strerror}: {error.filename or self.folder}): it must be "
                f"a folder that this process may write to"
            ) from None
        try:
            self.create()  # again: until the lock was free, another process may have evicted the folder
            yield
        finally:
            lock.release()

    def create(self) -> None:
        """Create the folder, as one of the store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark(self.folder)

    def files(self) -> list[Path]:
        """The checkpoint files, newest first."""
        form = re.compile(rf"{re.escape(self.prefix)}[0-9]{{9}}\.ckpt")
        return sorted((file for file in self.folder.glob("*.ckpt") if form.fullmatch(file.name)), reverse=True)

    def save(self, state: dict) -> None:
        """Write a checkpoint beside the previous one, so that one of them is complete at every moment.

        `state[MEMO]` may be large and seldom changes: it has a file of its own, which is written again only if its
        keys have changed.  Raises UserError if a file cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)  # another machine may train this part
        for abandoned in self.folder.glob(f"{self.prefix}[0-9m]*.tmp"):
            abandoned.unlink()  # a killed run was writing it
        if memo := state.get(MEMO):
            if self.memo is None or self.memo[0] != set(memo):
                self.memo = set(memo), self.write(f"{self.prefix}{MEMO}-{len(memo)}.ckpt", memo)
            state = {**state, MEMO: self.memo[1]}
        files = self.files()
        number = int(files[0].stem.removeprefix(self.prefix)) + 1 if files else 0
        self.write(f"{self.prefix}{number:09d}.ckpt", state)
        for old in files[1:]:
            old.unlink()

    def write(self, name: str, content: dict) -> tuple[str, str]:
        """Write a file that `read` can check. Returns its name and its SHA-256.  Raises UserError."""
        import torch

        buffer = io.BytesIO()
        torch.save(content, buffer)
        payload = buffer.getbuffer()
        digest = hashlib.sha256(payload)
        try:
            replace_file(self.folder / name, (MAGIC, digest.digest(), payload), durable=True)
        except OSError as error:
            raise UserError(
                f"a checkpoint of {len(payload):,} bytes could not be written ({error.strerror}); the previous one is "
                f"complete: free space in {self.folder.parent.parent} and run the same command again"
            ) from None
        return name, digest.hexdigest()

    def read(self, file: Path, digest: str | None = None) -> dict | None:
        """The content of a file; None if it is missing or corrupt.  digest: SHA-256 that it must have; None: any."""
        import torch

        content = file.read_bytes() if file.is_file() else b""
        head = len(MAGIC) + 32
        payload = memoryview(content)[head:]
        found = hashlib.sha256(payload)
        if not content.startswith(MAGIC) or found.digest() != content[len(MAGIC) : head]:
            return None
        if digest not in (None, found.hexdigest()):
            return None
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)

    def load(self) -> dict | None:
        """The newest complete checkpoint, or None. Corrupt checkpoints are reported and skipped."""
        for file in self.files():
            state = self.read(file)
            if state is not None and state.get(MEMO):
                name, digest = state[MEMO]
                memo = self.read(self.folder / name, digest)
                self.memo = None if memo is None else (set(memo), (name, digest))
                state = None if memo is None else {**state, MEMO: memo}
            if state is not None:
                return state
            self.log(f"checkpoint {file.name} of {self.folder.parent.name} is corrupt: using the previous one")
            file.unlink()
        return None

    def finish(self, write: Callable[[Path], None]) -> None:
        """Keep the outputs of a finished run; afterwards its checkpoints may be cleared.

        write: fills a folder.  Raises UserError if the disk is full.
        """
        remove_partial_folders(self.finished)  # this run holds the lock, so a killed run has left them

        def fill(folder: Path) -> None:
            write(folder)
            write_digests(folder)

        try:
            replace_folder(self.finished, fill, durable=True)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"the outputs of {self.folder.parent.name} could not be written "
                f"({getattr(error, 'strerror', None) or error}); its checkpoint is complete: free space in "
                f"{self.folder.parent.parent} and run the same command again"
            ) from None

    def is_finished(self) -> bool:
        """Whether the run has finished and each of its outputs is what was written.

        Outputs that are damaged are reported and removed, so that the run is trained again.
        """
        if not self.finished.exists():
            return False
        difference = first_difference(self.finished)
        if difference is None:
            return True
        self.log(f"the outputs of {self.folder.parent.name} in the store are damaged ({difference}): training again")
        remove_folder(self.finished)
        return False

    def clear(self) -> None:
        """Remove the checkpoints that are on this machine."""
        for file in (*self.folder.glob("*.ckpt"), *self.folder.glob("*.ckpt.*.tmp")):
            file.unlink(missing_ok=True)

    @property
    def finished(self) -> Path:
        """The outputs of a finished run; the folder exists only then."""
        return self.folder / "finished"


def prune(store: Store, gib: float, keep: list[Path]) -> None:
    """Remove the least recently used runs until the store is no larger than `gib`.

    keep: folders that stay. Runs in progress stay too, and do not count: they clear their checkpoints when they finish,
    so that no finished run has to go for them.
    """
    store.sweep()
    sizes = store.entries()
    if sum(sizes.values()) <= gib * 2**30:
        return
    running = {folder for folder in sizes if folder not in keep and in_progress(folder)}
    sizes = {folder: size for folder, size in store.entries().items() if folder not in running}
    excess = sum(sizes.values()) - gib * 2**30
    for folder, size in sizes.items():
        if excess <= 0:
            return
        if folder in keep:
            continue
        try:
            with lock_of(folder).acquire(timeout=0):
                store.discard(folder)
                excess -= size
        except (Timeout, OSError):
            continue


def in_progress(folder: Path) -> bool:
    """Whether a run holds the lock of its folder."""
    try:
        with lock_of(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # another user's
        return False


def lock_of(folder: Path) -> FileLock:
    """The lock of a run's folder, which lies beside it."""
    return FileLock(folder.parent / f"{folder.name}.lock")

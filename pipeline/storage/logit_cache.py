"""A cache of the logits of frozen guides, so that a sweep runs each guide once.

A guide's logits are a function of its weights and of the augmented images, which are a function of (seed, epoch,
index). The first run stores them on disk under a key of everything that decides them bit for bit, one row for each
(epoch, index); a guide that is dropped for a batch leaves a hole. Each row has a checksum, so rows that a killed run
left are used, and rows that a power failure damaged are computed again.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.storage.atomic import replace_file, replace_folder
from pipeline.storage.store import Store, mark

TYPES = {"fp16": np.float16, "fp32": np.float32}
Forward = Callable[[Tensor], Tensor]


class CachedLogits:
    """The logits of one guide in one leg: [epochs, images, classes].

    folder: holds the memory-mapped arrays `values` and `sums`.  kind: a key of TYPES.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], kind: str):
        self.folder = folder
        self.values = np.memmap(folder / "values", TYPES[kind], "r+", shape=shape)
        self.sums = np.memmap(folder / "sums", np.uint32, "r+", shape=shape[:2])
        self.x: Tensor | None = None
        self.rows = np.empty(0, np.int64)
        self.epoch = 0

    def begin_batch(self, x: Tensor, epoch: int, rows: Tensor) -> None:
        """Announce the batch whose logits are asked for next.

        x: [B, C_in, H, W].  epoch: from 1.  rows: [B] rows of the training split, on the CPU.
        """
        self.x, self.epoch, self.rows = x, epoch - 1, rows.numpy()

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        """forward(x), [B, C], from the cache if x is the announced batch. Other images are never stored."""
        if x is not self.x or x.requires_grad:
            return forward(x)
        values = self.values[self.epoch, self.rows]
        if (checksums(values) == self.sums[self.epoch, self.rows]).all():
            cached = torch.from_numpy(values)  # pinned below: a copy from pageable memory would wait for the GPU
            return (cached.pin_memory() if x.is_cuda else cached).to(x.device, non_blocking=True).float()
        z = forward(x)
        values = z.detach().cpu().numpy().astype(self.values.dtype)
        self.values[self.epoch, self.rows] = values
        self.sums[self.epoch, self.rows] = checksums(values)
        # A later run reads what fp16 keeps, so this one must use the same numbers.
        return torch.from_numpy(values).to(x.device).float() if values.dtype == np.float16 else z

    def load_value(self, name: str) -> dict[str, float] | None:
        """The numbers that were saved under a name, or None."""
        try:
            checksum, content = (self.folder / f"{name}.json").read_bytes().split(b"\n", 1)
            return json.loads(content) if int(checksum) == zlib.crc32(content) else None
        except (OSError, ValueError):  # absent, or damaged by a power failure
            return None

    def save_value(self, name: str, values: dict[str, float]) -> None:
        """Save numbers under a name, beside the logits."""
        content = json.dumps(values).encode()
        with suppress(OSError):  # another run may have evicted the folder
            replace_file(self.folder / f"{name}.json", [b"%d\n" % zlib.crc32(content), content])


def allocate_space(handle: int, size: int) -> None:
    """Allocate disk space where the system can; elsewhere only set the file's length."""
    getattr(os, "posix_fallocate", lambda handle, _, size: os.ftruncate(handle, size))(handle, 0, size)


def checksums(values: np.ndarray) -> np.ndarray:
    """A checksum of each row of [B, C], never zero: zero marks an empty row."""
    return np.array([zlib.crc32(row.tobytes()) | 1 for row in values], np.uint32)


class LogitCache:
    """The cached logits of a project, in a folder no larger than `gib`; the least recently used are evicted first.

    key: what decides the logits of every guide of a run besides its weights, the leg and the rows.
    log: receives messages.
    """

    def __init__(self, root: Path, *, kind: str, gib: float, key: dict[str, Any], log: Callable[[str], None] = print):
        self.root, self.kind, self.limit, self.key, self.log = root, kind, gib * 2**30, key, log
        self.in_use: set[Path] = set()
        self.store = Store(root, grouped=False, log=log)

    def open(self, name: str, decides: dict[str, Any], shape: tuple[int, int, int]) -> CachedLogits | None:
        """The cached logits of a guide, new or found. None, with a message that says why, if there is no space.

        decides: its weights, the leg, the rows and the seed.  shape: epochs, images, classes.
        """
        key = {"about": self.key, "decides": decides, "shape": shape, "kind": self.kind}
        folder = self.root / hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32]
        for _ in range(2):
            if not folder.is_dir() and not self.create(name, folder, shape):
                return None
            try:
                cached = CachedLogits(folder, shape, self.kind)
                os.utime(folder)
            except (FileNotFoundError, ValueError):  # another run evicts it, or was killed while it did
                self.store.discard(folder)
                continue
            except OSError as error:
                self.log(f"the logits of {name} are not cached: {error.strerror}, {folder}")
                return None
            self.in_use.add(folder)
            return cached
        self.log(f"the logits of {name} are not cached: other runs evict them")
        return None

    def create(self, name: str, folder: Path, shape: tuple[int, int, int]) -> bool:
        """Create the folder of a guide; False, with a message that says why, if that is impossible."""
        size = int(np.prod(shape)) * np.dtype(TYPES[self.kind]).itemsize + shape[0] * shape[1] * 4
        if not self.make_room(size):
            limit = f"runtime.logit_store_gib is {self.limit / 2**30:g}"
            self.log(f"the logits of {name} are not cached: they take {size / 2**30:.1f} GiB, and {limit}")
            return False
        try:
            self.allocate(folder, shape)
        except OSError as error:
            self.log(f"the logits of {name} are not cached: {error.strerror}, {size / 2**30:.1f} GiB in {self.root}")
            return False
        return True

    def allocate(self, folder: Path, shape: tuple[int, int, int]) -> None:
        """Create empty files and allocate their disk space now, so that a full disk is not found out while writing."""
        sizes = {"values": int(np.prod(shape)) * np.dtype(TYPES[self.kind]).itemsize, "sums": shape[0] * shape[1] * 4}

        def fill(partial: Path) -> None:
            mark(partial)
            for name, size in sizes.items():
                with (partial / name).open("wb") as out:
                    allocate_space(out.fileno(), size)

        replace_folder(folder, fill, overwrite=False)

    def make_room(self, size: int) -> bool:
        """Evict the least recently used logits, if that makes room for `size` bytes."""
        self.store.sweep()
        sizes = self.store.entries()
        excess = sum(sizes.values()) + size - self.limit
        others = {folder: its_size for folder, its_size in sizes.items() if folder not in self.in_use}
        if excess > sum(others.values()):
            return False
        for folder, its_size in others.items():
            if excess > 0:
                self.store.discard(folder)  # a run that has it open keeps it until it ends
                excess -= its_size
        return True

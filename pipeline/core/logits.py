"""A store of what frozen guides said, so that a sweep runs each of them once.

A guide's logits are a function of its weights and of the views, which are a function of (seed, epoch, index). They are
kept on disk as a by-product of the first run, under a key of all that decides them bit for bit, one row for each
(epoch, index). A dropped guide leaves holes. Each row carries a checksum, so what a killed run left is used, and what
a power cut tore is computed again.
"""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.core.folders import discard, sizes_by_age, sweep

TYPES = {"fp16": np.float16, "fp32": np.float32}
Answer = Callable[[Tensor], Tensor]


class Memory:
    """What one guide says in one leg: [epochs, images, classes]."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], kind: str):
        self.folder = folder
        self.values = np.memmap(folder / "values", TYPES[kind], "r+", shape=shape)
        self.sums = np.memmap(folder / "sums", np.uint32, "r+", shape=shape[:2])
        self.x: Tensor | None = None
        self.rows = np.empty(0, np.int64)
        self.epoch = 0

    def begin(self, x: Tensor, epoch: int, rows: Tensor) -> None:
        """Name the batch that will be asked for: x [B, D, H, W], rows [B] of the training split (on the CPU)."""
        self.x, self.epoch, self.rows = x, epoch - 1, rows.numpy()

    def __call__(self, x: Tensor, answer: Answer) -> Tensor:
        """answer(x), from the store where it is there. Images besides the batch's are never stored."""
        if x is not self.x or x.requires_grad:
            return answer(x)
        values = self.values[self.epoch, self.rows]
        if (checksums(values) == self.sums[self.epoch, self.rows]).all():
            there = torch.from_numpy(values)  # of pinned memory: a GPU would be waited for to copy from any other
            return (there.pin_memory() if x.is_cuda else there).to(x.device, non_blocking=True).float()
        z = answer(x)
        values = z.detach().cpu().numpy().astype(self.values.dtype)
        self.values[self.epoch, self.rows] = values
        self.sums[self.epoch, self.rows] = checksums(values)
        # What fp16 keeps is what a later run will read, so this one uses the same.
        return torch.from_numpy(values).to(x.device).float() if values.dtype == np.float16 else z

    def recall(self, name: str) -> dict[str, float] | None:
        """What was kept under a name."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text())
        except (OSError, ValueError):  # not there, or torn by a power cut
            return None

    def keep(self, name: str, values: dict[str, float]) -> None:
        partial = self.folder / f"{name}.{os.getpid()}.tmp"
        with suppress(OSError):  # another run may have made room for its own
            partial.write_text(json.dumps(values))
            partial.replace(self.folder / f"{name}.json")


def reserve(handle: int, size: int) -> None:
    """Take room on the disk, where the system can; else only say how long the file is."""
    getattr(os, "posix_fallocate", lambda handle, _, size: os.ftruncate(handle, size))(handle, 0, size)


def checksums(values: np.ndarray) -> np.ndarray:
    """One for each row [B, C], never zero: a zero is an empty place."""
    return np.array([zlib.crc32(row.tobytes()) | 1 for row in values], np.uint32)


class LogitStore:
    """The memories of a project, in a folder no larger than `gib`; those used longest ago go first.

    about: what decides the answers of every guide of a run besides its weights, the leg and the rows.
    """

    def __init__(self, root: Path, *, kind: str, gib: float, about: dict[str, Any], say: Callable[[str], None] = print):
        self.root, self.kind, self.limit, self.about, self.say = root, kind, gib * 2**30, about, say
        self.used: set[Path] = set()

    def memory(self, name: str, decides: dict[str, Any], shape: tuple[int, int, int]) -> Memory | None:
        """The memory of a guide, new or found. None, with a line that says why, where there is no room for it.

        decides: its weights, the leg, the rows and the seed.  shape: epochs, images, classes.
        """
        key = {"about": self.about, "decides": decides, "shape": shape, "kind": self.kind}
        folder = self.root / hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32]
        for _ in range(2):
            if not folder.is_dir() and not self.provide(name, folder, shape):
                return None
            try:
                memory = Memory(folder, shape, self.kind)
                os.utime(folder)
            except (FileNotFoundError, ValueError):  # another run makes room, or was killed when it did
                discard(folder)
                continue
            except OSError as error:
                self.say(f"the logits of {name} are not stored: {error.strerror}, {folder}")
                return None
            self.used.add(folder)
            return memory
        self.say(f"the logits of {name} are not stored: other runs remove them")
        return None

    def provide(self, name: str, folder: Path, shape: tuple[int, int, int]) -> bool:
        """A new folder of a guide, or a line that says why there is none."""
        size = int(np.prod(shape)) * np.dtype(TYPES[self.kind]).itemsize + shape[0] * shape[1] * 4
        if not self.make_room(size):
            limit = f"runtime.logit_store_gib is {self.limit / 2**30:g}"
            self.say(f"the logits of {name} are not stored: they take {size / 2**30:.1f} GiB, and {limit}")
            return False
        try:
            self.allocate(folder, shape)
        except OSError as error:
            self.say(f"the logits of {name} are not stored: {error.strerror}, {size / 2**30:.1f} GiB in {self.root}")
            return False
        return True

    def allocate(self, folder: Path, shape: tuple[int, int, int]) -> None:
        """Empty files, whose room on the disk is taken now: a full disk must not be found out while writing."""
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        partial.mkdir(parents=True)
        sizes = {"values": int(np.prod(shape)) * np.dtype(TYPES[self.kind]).itemsize, "sums": shape[0] * shape[1] * 4}
        try:
            for name, size in sizes.items():
                with (partial / name).open("wb") as out:
                    reserve(out.fileno(), size)
            partial.rename(folder)
        except OSError:
            shutil.rmtree(partial)
            if not folder.exists():  # else another process was first
                raise

    def make_room(self, size: int) -> bool:
        """Remove what was used longest ago, if that makes room for so many bytes."""
        sweep(self.root.glob(".*"))
        sizes = sizes_by_age(self.root.glob("[!.]*"))
        excess = sum(sizes.values()) + size - self.limit
        others = {folder: its_size for folder, its_size in sizes.items() if folder not in self.used}
        if excess > sum(others.values()):
            return False
        for folder, its_size in others.items():
            if excess > 0:
                discard(folder)  # a run that has it open keeps it until it ends
                excess -= its_size
        return True

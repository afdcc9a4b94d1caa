"""Randomness as a function of counters: the same on every device, in any order, after any restart."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def hash64(*counters: int | str) -> int:
    """A 63-bit hash of integers and words: the seed of whatever they count. Python only; the same everywhere."""
    text = "\0".join(f"{type(c).__name__}:{c}" for c in counters)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniform(seed: int, stream: str, epoch: int, index: Tensor) -> Tensor:
    """One number in [0, 1) for each index, a function of (seed, stream, epoch, index) alone.

    index: [B] integers.  Returns [B] float64.  splitmix64's finaliser in wrapping integer arithmetic, so the bits
    are the same on a CPU and on a GPU.
    """
    return uniforms(seed, (stream,), epoch, index)[0]


def uniforms(seed: int, streams: Sequence[str], epoch: int, index: Tensor) -> Tensor:
    """`uniform` for several streams at once: [S, B] float64."""
    first = torch.tensor([[hash64(seed, stream, epoch)] for stream in streams]).to(index.device, non_blocking=True)
    h = index.to(torch.int64) * signed(0x9E3779B97F4A7C15) + first
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ logical_shift(h, shift)) * signed(factor)
    h = h ^ logical_shift(h, 31)
    return logical_shift(h, 11).to(torch.float64) * 2.0**-53


def logical_shift(h: Tensor, bits: int) -> Tensor:
    """h >> bits of int64 read as unsigned: torch's own shift copies the sign."""
    return (h >> bits) & ((1 << (64 - bits)) - 1)


def signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word

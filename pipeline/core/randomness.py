"""Counter-based randomness: every draw is a pure function of counters such as seed, epoch and image index.

Results therefore do not depend on the device, on the order of draws or on restarts, and a checkpoint needs no
generator state.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def hash64(*counters: int | str) -> int:
    """Hash integers and strings to a 63-bit seed. Pure Python, so the value is the same on every machine."""
    text = "\0".join(f"{type(c).__name__}:{c}" for c in counters)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniform(seed: int, stream: str, epoch: int, index: Tensor) -> Tensor:
    """Draw one number from [0, 1) for each index, as a pure function of (seed, stream, epoch, index).

    Applies the finaliser of splitmix64 in wrapping integer arithmetic, so the result is bitwise equal on CPU and GPU.

    stream: name that makes draws for different purposes independent.  index: [B] integers.  Returns [B] float64.
    """
    return uniforms(seed, (stream,), epoch, index)[0]


def uniforms(seed: int, streams: Sequence[str], epoch: int, index: Tensor) -> Tensor:
    """`uniform` for S streams at once.  index: [B] integers.  Returns [S, B] float64."""
    first = torch.tensor([[hash64(seed, stream, epoch)] for stream in streams]).to(index.device, non_blocking=True)
    h = index.to(torch.int64) * signed(0x9E3779B97F4A7C15) + first
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ logical_shift(h, shift)) * signed(factor)
    h = h ^ logical_shift(h, 31)
    return logical_shift(h, 11).to(torch.float64) * 2.0**-53


def logical_shift(h: Tensor, bits: int) -> Tensor:
    """Shift int64 right as if it were unsigned: torch's `>>` is arithmetic and copies the sign bit."""
    return (h >> bits) & ((1 << (64 - bits)) - 1)


def signed(word: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit integer."""
    return word - 2**64 if word >= 2**63 else word

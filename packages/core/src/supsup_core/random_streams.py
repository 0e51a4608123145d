"""Random numbers that are a pure function of (seed, purpose, index): the same bits on every device and every version.

A bank stores masks over weights that exist only as a seed, so those weights must come back bit for bit, for ever. The
generators of torch promise that neither across devices nor across releases. SplitMix64 (Steele, Lea and Flood 2014) is a
counter passed through a mixing function: integer arithmetic only, any element without its predecessors.
"""

import hashlib
import math
import operator
from collections.abc import Sequence
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def stream_key(seed: int, purpose: str, *path: SupportsIndex | str) -> int:
    """Return the 64-bit key of the stream named by `seed`, `purpose` and `path` (a task, a parameter's name).

    Distinct arguments give independent streams: neighbouring seeds or tasks share nothing. Whole numbers count as such,
    NumPy's too.
    """
    parts = (part if isinstance(part, str) else operator.index(part) for part in path)
    name = repr((int(seed), purpose, *parts)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def random_bits(key: int, count: int, device: torch.device | str = "cpu") -> Int64[Tensor, " count"]:
    """Return `count` words of 64 random bits, as int64: elements 1 to `count` of SplitMix64 seeded with `key`."""
    state = torch.arange(1, count + 1, dtype=torch.int64, device=device)
    state.mul_(_signed(_GAMMA)).add_(_signed(key))
    state.bitwise_xor_(_shift_right(state, 30)).mul_(_signed(_MIX_1))
    state.bitwise_xor_(_shift_right(state, 27)).mul_(_signed(_MIX_2))
    return state.bitwise_xor_(_shift_right(state, 31))


def signs(key: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Float[Tensor, "..."]:
    """Return fair signs in {-1, +1}, float32, of the given shape."""
    negative = random_bits(key, math.prod(shape), device) < 0
    return torch.where(negative, -1.0, 1.0).reshape(tuple(shape))


def symmetric_uniform(
    key: int, shape: Sequence[int], bound: float, device: torch.device | str = "cpu"
) -> Float[Tensor, "..."]:
    """Return float32 values uniform on [-bound, bound), on a grid of 2^24 points, of the given shape."""
    grid = _shift_right(random_bits(key, math.prod(shape), device), 40).to(torch.float32)
    return grid.mul_(2.0**-23).sub_(1.0).mul_(bound).reshape(tuple(shape))


def normal(key: int, shape: Sequence[int], std: float, device: torch.device | str = "cpu") -> Float[Tensor, "..."]:
    """Return float32 values from the normal distribution N(0, std²), of the given shape.

    The inverse of its distribution function at 2^24 points, on the CPU and in double precision, so that no device has its own.
    """
    halves = symmetric_uniform(key, shape, 0.5).double() + (0.5 + 2.0**-25)  # the middle of each step of the grid
    return torch.special.ndtri(halves).mul_(std).to(torch.float32).to(device)


def _shift_right(words: Int64[Tensor, " count"], by: int) -> Int64[Tensor, " count"]:
    """Shift right and fill with zeros; torch's own shift of int64 fills with the sign."""
    return (words >> by).bitwise_and_((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    """Return the int64 that has the bits of an unsigned 64-bit word."""
    return word - (1 << 64) if word >= 1 << 63 else word

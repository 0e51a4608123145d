"""Vectors of bits to an entropy coder and back, given how many ones they have.

n bits with k ones take n H₂(k / n) bits, and a little. The coder is a stack (asymmetric numeral systems, constriction):
what is encoded last is decoded first.

- From a density of a tenth up, eight bits are a symbol, of probability p^ones (1 - p)^zeros.
- Below that, the gaps between ones are coded, which are geometric: so many bins, and an offset within the last bin.
- Of vectors that are mostly ones, the zeros take the place of the ones.

Probabilities are made by multiplications and divisions alone, which round alike on every machine.
"""

import math
from typing import Any, TypeAlias

import constriction
import numpy as np
import numpy.typing as npt

Bits: TypeAlias = npt.NDArray[np.uint8]
Coder: TypeAlias = Any  # constriction.stream.stack.AnsCoder; the library has no types

_BINS = 4096  # a longer gap is written as escapes, each this many bins without a one
_BINS_A_GAP = 256  # the mean gap has at least half as many bins, so that ones are almost uniform within a bin
_ESCAPE_RATIO = 1 / 8  # of probabilities of one escape more
_ONES_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


class UndecodableStream(ValueError):
    """A stream that nothing was encoded to."""


def new_coder() -> Coder:
    """Return an empty coder."""
    return constriction.stream.stack.AnsCoder()


def coder_bytes(coder: Coder) -> bytes:
    """Return what was encoded, as little-endian 32-bit words."""
    return bytes(coder.get_compressed().astype("<u4").tobytes())


def coder_of(stream: bytes) -> Coder:
    """Return a coder to decode from.

    Raises:
        UndecodableStream: the stream is none of `coder_bytes`.
    """
    if len(stream) % 4:
        raise UndecodableStream("a stream is made of 32-bit words")
    try:
        return constriction.stream.stack.AnsCoder(np.frombuffer(stream, dtype="<u4").astype(np.uint32))
    except ValueError as error:
        raise UndecodableStream(str(error)) from None


def encode_number(coder: Coder, value: int, largest: int) -> None:
    """Encode a number from 0 to `largest`, all alike probable."""
    if largest:
        coder.encode_reverse(value, _uniform(largest + 1))


def decode_number(coder: Coder, largest: int) -> int:
    """Undo `encode_number`."""
    return int(coder.decode(_uniform(largest + 1))) if largest else 0


def encode_bits(coder: Coder, bits: Bits) -> None:
    """Encode a vector; whoever decodes it knows its length and its ones."""
    ones = int(np.count_nonzero(bits))
    rarer, rare_bits = (ones, bits) if 2 * ones <= len(bits) else (len(bits) - ones, 1 - bits)
    if rarer == 0:
        return
    if _is_sparse(rarer, len(bits)):
        _encode_gaps(coder, rarer, rare_bits)
    else:
        coder.encode_reverse(np.packbits(bits, bitorder="little").astype(np.int32), _byte_model(ones, len(bits)))


def decode_bits(coder: Coder, size: int, ones: int) -> Bits:
    """Undo `encode_bits`.

    Raises:
        UndecodableStream: the stream holds no such vector. Not every damage shows here: compare checksums.
    """
    rarer = min(ones, size - ones)
    if rarer == 0:
        return np.full(size, ones > 0, dtype=np.uint8)
    if _is_sparse(rarer, size):
        rare_bits = _decode_gaps(coder, rarer, size)
        return rare_bits if 2 * ones <= size else 1 - rare_bits
    symbols = coder.decode(_byte_model(ones, size), -(-size // 8))
    bits = np.unpackbits(symbols.astype(np.uint8), count=size, bitorder="little")
    if int(np.count_nonzero(bits)) != ones:
        raise UndecodableStream("a stream with another number of ones than it says")
    return bits


def entropy_bits(ones: int, size: int) -> float:
    """Return n H₂(k / n) of a vector of n bits with k ones: what it takes at least where only its density is known."""
    return sum((part * math.log2(size / part) for part in (ones, size - ones) if part), 0.0)


def _is_sparse(rarer: int, size: int) -> bool:
    return 10 * rarer < size


def _uniform(size: int) -> Any:
    return constriction.stream.model.Uniform(size)


def _categorical(probabilities: npt.NDArray[np.float64]) -> Any:
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def _byte_model(ones: int, size: int) -> Any:
    """Return the law of eight bits that are one with probability ones / size each."""
    p = ones / size
    by_ones = np.array([_power(p, k) * _power(1 - p, 8 - k) for k in range(9)])
    return _categorical(by_ones[_ONES_OF_BYTE])


def _power(base: float, exponent: int) -> float:
    """Return base^exponent by multiplications, which round alike everywhere; library powers may not."""
    result = 1.0
    for _ in range(exponent):
        result *= base
    return result


def _gap_models(rarer: int, size: int) -> tuple[int, Any, Any]:
    """Return how many bits an offset within a bin has, the law of a gap's bins, and that of the number of escapes."""
    offset_bits = max(0, (size // rarer).bit_length() - _BINS_A_GAP.bit_length())
    miss = 1 - rarer / size
    for _ in range(offset_bits):
        miss *= miss
    tail = np.multiply.accumulate(np.concatenate([[1.0], np.full(_BINS, miss)]))  # that the first j bins hold no one
    bins = np.append(tail[:-1] * (1 - miss), tail[-1])
    most_escapes = size // (_BINS << offset_bits)
    escapes = np.multiply.accumulate(np.full(most_escapes + 2, _ESCAPE_RATIO))
    return offset_bits, _categorical(bins), _categorical(escapes)


def _encode_gaps(coder: Coder, rarer: int, bits: Bits) -> None:
    offset_bits, bin_model, escape_model = _gap_models(rarer, len(bits))
    gaps = np.diff(np.flatnonzero(bits), prepend=-1) - 1
    bins, offsets = gaps >> offset_bits, gaps & ((1 << offset_bits) - 1)
    escapes = bins // _BINS
    symbols = np.full(rarer + int(escapes.sum()), _BINS, dtype=np.int32)
    symbols[np.arange(rarer) + np.cumsum(escapes)] = bins % _BINS  # each behind the escapes of its gap
    if offset_bits:
        coder.encode_reverse(offsets.astype(np.int32), _uniform(1 << offset_bits))
    coder.encode_reverse(symbols, bin_model)
    coder.encode_reverse(int(escapes.sum()), escape_model)


def _decode_gaps(coder: Coder, rarer: int, size: int) -> Bits:
    offset_bits, bin_model, escape_model = _gap_models(rarer, size)
    escapes = int(coder.decode(escape_model))
    symbols = coder.decode(bin_model, rarer + escapes).astype(np.int64)
    ends = symbols < _BINS
    if int(ends.sum()) != rarer or not ends[-1]:
        raise UndecodableStream("a stream with another number of ones than it says")
    bins = np.diff(np.cumsum(symbols)[ends], prepend=0)
    offsets = coder.decode(_uniform(1 << offset_bits), rarer) if offset_bits else 0
    places = np.cumsum((bins << offset_bits) + offsets + 1) - 1
    if places[-1] >= size:
        raise UndecodableStream("a stream with a one behind its end")
    bits = np.zeros(size, dtype=np.uint8)
    bits[places] = 1
    return bits

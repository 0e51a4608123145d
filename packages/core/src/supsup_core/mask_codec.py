"""Masks as short as their statistics allow: each task's packed row becomes a stream of bytes of its own.

Layer by layer, a row's stream holds

- k, the ones of the layer, as one of the values that it takes among the rows that are coded together: nothing where a
  budget fixes it;
- the n bits, at n H₂(k / n) bits (`bit_vectors`), in the shortest of three ways:
  all together; or only those of living channels, after the sets of output and of input channels that have a one at all
  (sparse masks leave whole channels dead, and what a layer does not give, the next does not take); or those that tasks have
  in common apart from the others (masks that start from earlier masks agree on most ones).

What tasks have in common is a mask itself: the bits that at least so many of the rows have, where coding it pays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from supsup_core.bit_vectors import (
    Bits,
    Coder,
    UndecodableStream,
    coder_bytes,
    coder_of,
    decode_bits,
    decode_number,
    encode_bits,
    encode_number,
    entropy_bits,
    new_coder,
)
from supsup_core.mask_sections import (
    Channels,
    Flags,
    PackedRow,
    Section,
    sections_of,
    split_row,
    with_any_ones,
    with_ones,
)


class MaskCodec:
    """Packed rows to streams and back.

    Args:
        sections: of a row, in order.
        common: a packed row, the bits that rows have in common, or None.
    """

    def __init__(self, sections: Sequence[Section], common: PackedRow | None = None) -> None:
        self._sections = tuple(sections)
        bits = split_row(common, self._sections) if common is not None else (np.zeros(s.bits) for s in self._sections)
        self._common = [part.astype(np.bool_) for part in bits]

    @classmethod
    def fitted(cls, rows: npt.NDArray[np.uint8], shapes: Sequence[tuple[int, ...]]) -> "MaskCodec":
        """Return the codec for packed rows, uint8 of shape (tasks, bytes), of layers of these shapes."""
        sections = list(sections_of(shapes))
        ones = np.array([_ones(row, sections) for row in rows])
        fitted = with_ones(sections, ones.min(axis=0), ones.max(axis=0))
        return cls(fitted, common_bits(rows, shapes))

    @classmethod
    def from_table(
        cls, shapes: Sequence[tuple[int, ...]], table: npt.NDArray[np.int64], common: bytes | None
    ) -> "MaskCodec":
        """Return the codec that has this `table` and `common_stream`.

        Raises:
            UndecodableStream: they do not belong to layers of these shapes.
        """
        sections = list(sections_of(shapes))
        if table.shape != (len(sections), 2):
            raise UndecodableStream(f"a table of shape {table.shape} for {len(sections)} sections")
        fitted = with_ones(sections, table[:, 0], table[:, 1])
        if any(not 0 <= section.fewest <= section.most <= section.bits for section in fitted):
            raise UndecodableStream("a table with impossible numbers of ones")
        return cls(fitted, None if common is None else cls(with_any_ones(sections)).decode(common))

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """What a reader needs beside the streams: fewest and most ones of each section, shape (sections, 2)."""
        return np.array([(section.fewest, section.most) for section in self._sections], dtype=np.int64)

    @property
    def common_stream(self) -> bytes | None:
        """The other thing that a reader needs: the bits in common, as a stream; None where there are none."""
        if not any(part.any() for part in self._common):
            return None
        row = np.packbits(np.concatenate(self._common), bitorder="little")
        return MaskCodec(with_any_ones(self._sections)).encode(row)

    def encode(self, row: PackedRow) -> bytes:
        """Return the stream of a packed row."""
        parts, outputs = [], _LastOutputs()
        for index, (section, bits) in enumerate(zip(self._sections, split_row(row, self._sections), strict=True)):
            channels = Channels.of(bits, section)
            parts.append((section, bits, channels, self._context(index, outputs)))
            outputs.note(channels.outputs)
        coder = new_coder()
        for part in reversed(parts):
            _encode_section(coder, *part)
        return coder_bytes(coder)

    def decode(self, stream: bytes) -> PackedRow:
        """Return the packed row of a stream, in whole bytes.

        Raises:
            UndecodableStream: it is none. Not every damage shows here: compare a checksum of the row.
        """
        coder, parts, outputs = coder_of(stream), [], _LastOutputs()
        for index, section in enumerate(self._sections):
            bits = _decode_section(coder, section, self._context(index, outputs))
            outputs.note(Channels.of(bits, section).outputs)
            parts.append(bits)
        if not coder.is_empty():
            raise UndecodableStream("a stream that goes on behind its row")
        return np.packbits(np.concatenate(parts), bitorder="little")

    def _context(self, index: int, outputs: "_LastOutputs") -> "_Context":
        return _Context(outputs.of(self._sections[index].inputs), self._common[index], int(self._common[index].sum()))


def common_bits(rows: npt.NDArray[np.uint8], shapes: Sequence[tuple[int, ...]]) -> PackedRow | None:
    """Return the bits, packed, that so many rows have that coding them once pays, or None where none would pay."""
    sections = list(sections_of(shapes))
    counts = np.zeros(8 * rows.shape[1], dtype=np.int32)
    for row in rows:
        counts += np.unpackbits(row, bitorder="little")
    ones = [_ones(row, sections) for row in rows]
    best = None
    shortest = sum(entropy_bits(k, section.bits) for row in ones for k, section in zip(row, sections, strict=True))
    for least in sorted({2, 3, *(max(2, round(len(rows) * share)) for share in (0.25, 0.5, 0.75))}):
        common = np.packbits(counts >= least, bitorder="little")
        sizes = _ones(common, sections)
        length = sum(entropy_bits(size, section.bits) for size, section in zip(sizes, sections, strict=True))
        for row, row_ones in zip(rows, ones, strict=True):
            for k, inside, size, section in zip(row_ones, _ones(row & common, sections), sizes, sections, strict=True):
                length += entropy_bits(inside, size) + entropy_bits(k - inside, section.bits - size)
                length += math.log2(min(k, size) + 1)
        if length < shortest:
            best, shortest = common, length
    return best


def _ones(row: PackedRow, sections: Sequence[Section]) -> list[int]:
    return [int(np.count_nonzero(bits)) for bits in split_row(row, sections)]


@dataclass(frozen=True)
class _Context:
    """What is known of a section before its bits: inputs that the last such layer gave, and the bits in common."""

    given: Flags
    common: Flags
    num_common: int

    @property
    def last_way(self) -> int:
        """The ways that are open end here."""
        return _Way.COMMON_APART if self.num_common else _Way.LIVING_CHANNELS


class _LastOutputs:
    """Of each number of channels, which lived in the last section with so many outputs."""

    def __init__(self) -> None:
        self._by_number: dict[int, Flags] = {}

    def of(self, channels: int) -> Flags:
        """Return them, or all where there was no such section."""
        return self._by_number.get(channels, np.ones(channels, dtype=np.bool_))

    def note(self, outputs: Flags) -> None:
        """Remember a section's."""
        self._by_number[len(outputs)] = outputs


class _Way(IntEnum):
    """How a section's bits are coded; the stream says which."""

    TOGETHER = 0
    LIVING_CHANNELS = 1
    COMMON_APART = 2


def _encode_section(coder: Coder, section: Section, bits: Bits, channels: Channels, context: _Context) -> None:
    ones = int(np.count_nonzero(bits))
    way = _shortest_way(section, bits, channels, context)
    if way is _Way.TOGETHER:
        encode_bits(coder, bits)
    elif way is _Way.LIVING_CHANNELS:
        matrix = bits.reshape(section.outputs, section.inputs, section.depth)
        encode_bits(coder, matrix[channels.outputs][:, channels.inputs].reshape(-1))
        for part in (~context.given, context.given):
            _encode_set(coder, channels.inputs[part])
        _encode_set(coder, channels.outputs)
    else:
        inside = bits[context.common]
        encode_bits(coder, bits[~context.common])
        encode_bits(coder, inside)
        encode_number(coder, int(np.count_nonzero(inside)), min(ones, context.num_common))
    encode_number(coder, way, context.last_way)
    encode_number(coder, ones - section.fewest, section.most - section.fewest)


def _decode_section(coder: Coder, section: Section, context: _Context) -> Bits:
    ones = section.fewest + decode_number(coder, section.most - section.fewest)
    way = decode_number(coder, context.last_way)
    if way == _Way.TOGETHER:
        return decode_bits(coder, section.bits, ones)
    if way == _Way.LIVING_CHANNELS:
        outputs, inputs = _decode_set(coder, section.outputs), np.empty(section.inputs, dtype=np.bool_)
        for part in (context.given, ~context.given):
            inputs[part] = _decode_set(coder, int(np.count_nonzero(part)))
        matrix = np.zeros((section.outputs, section.inputs, section.depth), dtype=np.uint8)
        places = np.ix_(outputs, inputs)
        alive = matrix[places]
        matrix[places] = _decode_at_most(coder, alive.size, ones).reshape(alive.shape)
        return matrix.reshape(-1)
    bits, size = np.empty(section.bits, dtype=np.uint8), context.num_common
    inside = decode_number(coder, min(ones, size))
    bits[context.common] = decode_bits(coder, size, inside)
    bits[~context.common] = _decode_at_most(coder, section.bits - size, ones - inside)
    return bits


def _shortest_way(section: Section, bits: Bits, channels: Channels, context: _Context) -> _Way:
    """Estimate what each way takes."""
    ones = int(np.count_nonzero(bits))
    lengths = {_Way.TOGETHER: entropy_bits(ones, section.bits)}
    alive = int(channels.outputs.sum()) * int(channels.inputs.sum()) * section.depth
    sets = (channels.outputs, channels.inputs[context.given], channels.inputs[~context.given])
    lengths[_Way.LIVING_CHANNELS] = sum(map(_set_bits, sets)) + entropy_bits(ones, alive)
    if context.num_common:
        size, inside = context.num_common, int(np.count_nonzero(bits[context.common]))
        parts = entropy_bits(inside, size) + entropy_bits(ones - inside, section.bits - size)
        lengths[_Way.COMMON_APART] = parts + math.log2(min(ones, size) + 1)
    return min(lengths, key=lengths.__getitem__)


def _set_bits(members: Flags) -> float:
    """Return about what `_encode_set` takes."""
    return entropy_bits(int(np.count_nonzero(members)), len(members)) + math.log2(len(members) + 1)


def _encode_set(coder: Coder, members: Flags) -> None:
    encode_bits(coder, members.astype(np.uint8))
    encode_number(coder, int(members.sum()), len(members))


def _decode_set(coder: Coder, size: int) -> Flags:
    return decode_bits(coder, size, decode_number(coder, size)).astype(np.bool_)


def _decode_at_most(coder: Coder, size: int, ones: int) -> Bits:
    if ones > size:
        raise UndecodableStream("a stream with more ones than places")
    return decode_bits(coder, size, ones)

"""A packed row as the layers that it covers: sections of bits, their channels, and which of those live."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from supsup_core.bit_vectors import Bits

PackedRow: TypeAlias = npt.NDArray[np.uint8]
Flags: TypeAlias = npt.NDArray[np.bool_]

_SECTION_BITS = 2**22  # larger layers are coded in sections, which keeps symbols and working memory small
_DENSE = 4  # bits to a one


@dataclass(frozen=True)
class Section:
    """Some output channels of one layer, or a piece of a row of them: its axes, and how many ones it has."""

    outputs: int
    inputs: int
    depth: int
    fewest: int = 0
    most: int = 0

    @property
    def bits(self) -> int:
        """Number of weights."""
        return self.outputs * self.inputs * self.depth


@dataclass(frozen=True)
class Channels:
    """Which output and input channels of a section have a one."""

    outputs: Flags
    inputs: Flags

    @classmethod
    def of(cls, bits: Bits, section: Section) -> "Channels":
        """Find them; of a dense section all are said to live, as looking would take longer than it could save."""
        if section.bits < _DENSE * int(np.count_nonzero(bits)):
            return cls(np.ones(section.outputs, dtype=np.bool_), np.ones(section.inputs, dtype=np.bool_))
        outputs, inputs = np.zeros(section.outputs, dtype=np.bool_), np.zeros(section.inputs, dtype=np.bool_)
        places = np.flatnonzero(bits)
        outputs[places // (section.inputs * section.depth)] = True
        inputs[places // section.depth % section.inputs] = True
        return cls(outputs, inputs)


def with_ones(sections: Sequence[Section], fewest: npt.NDArray[Any], most: npt.NDArray[Any]) -> list[Section]:
    """Return the sections with these least and largest numbers of ones."""
    return [
        replace(section, fewest=int(low), most=int(high))
        for section, low, high in zip(sections, fewest, most, strict=True)
    ]


def with_any_ones(sections: Sequence[Section]) -> list[Section]:
    """Return the sections with any number of ones."""
    return [replace(section, fewest=0, most=section.bits) for section in sections]


def sections_of(shapes: Sequence[tuple[int, ...]]) -> Iterator[Section]:
    """Yield the sections of layers of these shapes; one has at most `_SECTION_BITS` bits."""
    for shape in shapes:
        outputs, inputs = (*shape, 1, 1)[:2]
        depth = int(np.prod(shape[2:]))
        if inputs * depth > _SECTION_BITS:
            outputs, inputs, depth = outputs * inputs * depth, 1, 1
        at_once = max(1, _SECTION_BITS // (inputs * depth))
        for start in range(0, outputs, at_once):
            yield Section(min(at_once, outputs - start), inputs, depth)


def split_row(row: PackedRow, sections: Sequence[Section]) -> Iterator[Bits]:
    """Yield the bits of a packed row's sections; the padding behind the last is left out."""
    bits, start = np.unpackbits(row, bitorder="little"), 0
    for section in sections:
        yield bits[start : start + section.bits]
        start += section.bits

"""LLVM code of `packed_lookups`: sums of a few numbers, a register of them, looked up by bits of many masks at once."""

from dataclasses import dataclass
from typing import Any

from supsup_core.machine_code import MachineCode

LOOKUPS = 8
"""In a word of a row."""
IMAGES_AT_ONCE = 4
"""Images that share the work on a word's bits."""
REGISTERS_OF_ROWS = 2
"""Registers of rows that share the loading of sums."""


@dataclass(frozen=True)
class Registers:
    """Registers of which a lookup is one permutation.

    Attributes:
        floats: of one: all 2^bits sums of so many numbers as a lookup has bits.
    """

    floats: int

    @property
    def bits(self) -> int:
        """Bits of a row that one lookup consumes."""
        return self.floats.bit_length() - 1

    @property
    def word(self) -> int:
        """Bits of a row that are used of every four bytes read: those of all lookups in them, whole bytes."""
        return LOOKUPS * self.bits

    @property
    def rows_at_once(self) -> int:
        """Rows that one pass over words looks sums up for."""
        return REGISTERS_OF_ROWS * self.floats


def intrinsics(code: MachineCode) -> tuple[Any, Any, Any]:
    """Return what compiled code calls for `_write_sums`, for `_look_up`, and for the four bytes from byte i behind an address."""
    types = code.types

    def typed_sums(_: Any, numbers: Any, numbers_an_image: Any, sums: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _write_sums(code, builder, *arguments)
            return context.get_dummy_value()

        return types.void(numbers, types.int64, sums), generate

    def typed_look_up(_: Any, turned: Any, rows: Any, sums: Any, which: Any, count: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _look_up(code, builder, *arguments)
            return context.get_dummy_value()

        return types.void(turned, types.int64, sums, which, types.int64, out), generate

    def typed_four_bytes_at(_: Any, address: Any, byte: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.inttoptr(builder.add(*arguments), code.ir.IntType(32).as_pointer())
            return code.load(builder, place, 1)

        return types.uint32(types.uint64, types.int64), generate

    return code.intrinsic(typed_sums), code.intrinsic(typed_look_up), code.intrinsic(typed_four_bytes_at)


def _write_sums(code: MachineCode, builder: Any, numbers: Any, numbers_an_image: Any, sums: Any) -> None:
    """Emit, for a word of each image: all sums of every few numbers, sum i of those where i has a bit."""
    ir, lanes, bits = code.ir, range(code.lanes), range(Registers(code.lanes).bits)
    int32, int64 = ir.IntType(32), ir.IntType(64)
    places, nothing = builder.bitcast(sums, code.floats.as_pointer()), ir.Constant(code.floats, ir.Undefined)
    everywhere = ir.Constant(ir.VectorType(int32, len(lanes)), [0] * len(lanes))
    truths = ir.VectorType(ir.IntType(1), len(lanes))
    chosen = [ir.Constant(truths, [lane >> bit & 1 for lane in lanes]) for bit in bits]
    for lookup in range(LOOKUPS):
        for image in range(IMAGES_AT_ONCE):
            first = builder.add(builder.mul(numbers_an_image, int64(image)), int64(len(bits) * lookup))
            start, total = builder.gep(numbers, [first]), code.zeros
            for bit in bits:
                number = code.load(builder, builder.gep(start, [int64(bit)]))
                spread = builder.shuffle_vector(builder.insert_element(nothing, number, int32(0)), nothing, everywhere)
                total = builder.select(chosen[bit], builder.fadd(total, spread), total)
            code.store(builder, total, builder.gep(places, [int64(IMAGES_AT_ONCE * lookup + image)]))


def _look_up(
    code: MachineCode, builder: Any, turned: Any, rows: Any, sums: Any, which: Any, count: Any, out: Any
) -> None:
    """Emit the loop over words: some bits of each row choose its sum, of each image; two registers of rows at once."""
    ir, lanes, bits = code.ir, code.lanes, Registers(code.lanes).bits
    int32, int64 = ir.IntType(32), ir.IntType(64)
    indices = ir.VectorType(int32, lanes)
    places, low_bits = builder.bitcast(sums, code.floats.as_pointer()), ir.Constant(indices, [lanes - 1] * lanes)
    halves = range(REGISTERS_OF_ROWS)

    def chosen(choices: Any, index: Any) -> Any:
        # Lane by lane, which LLVM knows as one permutation wherever the processor has one of so many floats.
        result = ir.Constant(code.floats, ir.Undefined)
        for lane in range(lanes):
            choice = builder.extract_element(choices, builder.extract_element(index, int32(lane)))
            result = builder.insert_element(result, choice, int32(lane))
        return result

    def add(index: Any, totals: list[Any]) -> list[Any]:
        totals = list(totals)
        word = builder.sext(code.load(builder, builder.gep(which, [index])), int64)
        start = builder.mul(word, rows)
        firsts = [builder.gep(turned, [builder.add(start, int64(lanes * half))]) for half in halves]
        words = [code.load(builder, builder.bitcast(first, indices.as_pointer())) for first in firsts]
        first = builder.mul(index, int64(LOOKUPS * IMAGES_AT_ONCE))
        for lookup in range(LOOKUPS):
            shift = ir.Constant(indices, [bits * lookup] * lanes)
            chosen_bits = [builder.and_(builder.lshr(each, shift), low_bits) for each in words]
            for image in range(IMAGES_AT_ONCE):
                at = builder.add(first, int64(IMAGES_AT_ONCE * lookup + image))
                choices = code.load(builder, builder.gep(places, [at]))
                for half in halves:
                    total = IMAGES_AT_ONCE * half + image
                    totals[total] = builder.fadd(totals[total], chosen(choices, chosen_bits[half]))
        return totals

    totals = code.loop(builder, count, IMAGES_AT_ONCE * len(halves), add)
    for number, total in enumerate(totals):
        half, image = divmod(number, IMAGES_AT_ONCE)
        start = builder.gep(out, [builder.add(builder.mul(rows, int64(image)), int64(lanes * half))])
        place = builder.bitcast(start, code.floats.as_pointer())
        code.store(builder, builder.fadd(code.load(builder, place), total), place)

"""Packed bits times a vector without unpacking: a machine loop for `supsup-core[fast]`, compiled by numba at first use.

Sixteen bits of a row are, as they lie, the mask of a load of sixteen floats: what they leave out is not added. Four rows share
each load, and the vector goes by in pieces that stay in the cache while all rows pass over them.
`packed_bits.inner_products` is the oracle.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from supsup_core.machine_code import LANES, MachineCode, in_threads, is_installed, machine_code

_LOADS_A_WORD = 64 // LANES
_ROWS_A_LOAD = 4
_WORDS_AT_ONCE = 256  # of the vector: 64 KiB of floats
_WORTH_COMPILING_BITS = 2**24  # below, loading the compiler (2 s) takes longer than many guesses
FEW_VECTORS = 16
"""Of more, one matrix product over unpacked bits is faster."""
# Some 6 ms of work. Less is over before torch's own threads, which spin for a while after each operation, leave the cores.
_BITS_WORTH_A_THREAD = 2**28


def compile_ahead() -> None:
    """Compile what `inner_products` runs, a second or two of work, for whoever will guess from one image, or one group."""
    if is_installed():
        rows = torch.zeros(1, 8, dtype=torch.uint8, device="cpu")
        inner_products(rows, torch.zeros(1, 64, dtype=torch.float32, device="cpu"))


def suits(vectors: Float[Tensor, "vectors bits"], tasks: int) -> bool:
    """Tell whether `inner_products` takes these vectors, and is worth its compilation for so many rows of bits."""
    return (
        vectors.device.type == "cpu"
        and vectors.dtype == torch.float32
        and len(vectors) <= FEW_VECTORS
        and tasks * vectors.shape[1] >= _WORTH_COMPILING_BITS
        and is_installed()
    )


def inner_products(
    rows: UInt8[Tensor, "tasks bytes"], vectors: Float[Tensor, "vectors bits"]
) -> Float[Tensor, "vectors tasks"]:
    """Return sum_j bit_ij v_j of every row of bits and every vector, as `packed_bits.inner_products` does.

    Threads share the rows of a large bank, as many as torch uses.
    """
    missing = 8 * rows.shape[1] - vectors.shape[1]
    padded = (torch.nn.functional.pad(vectors, (0, missing)) if missing else vectors).contiguous()
    products = vectors.new_zeros(len(vectors), len(rows))
    kernel = _kernel()
    threads = max(1, min(torch.get_num_threads(), rows.numel() * 8 // _BITS_WORTH_A_THREAD))
    at_once = max(1, -(-len(rows) // threads))

    def work(first: int) -> None:
        words = rows[first : first + at_once].contiguous().numpy().view("<u8")
        for vector, products_of_vector in zip(padded.numpy(), products.numpy(), strict=True):
            kernel(words, vector, products_of_vector[first : first + at_once])

    in_threads(work, range(0, len(rows), at_once))
    return products


@cache
def _kernel() -> Callable[..., None]:
    """Compile, which takes a second or two."""
    code = machine_code()
    types = code.types

    def adder(rows: int) -> Any:
        def typed(_: Any, words: Any, words_a_row: Any, floats: Any, count: Any, sums: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                _add_masked(code, builder, rows, *arguments)
                return context.get_dummy_value()

            return types.void(words, types.int64, floats, types.int64, sums), generate

        return code.intrinsic(typed)

    address, add_rows, add_row = code.address, adder(_ROWS_A_LOAD), adder(1)

    def products(words: Any, vector: Any, out: Any) -> None:  # pragma: no cover (it runs as machine code)
        rows, words_a_row = words.shape
        together = rows - rows % _ROWS_A_LOAD
        for start in range(0, words_a_row, _WORDS_AT_ONCE):
            count = min(_WORDS_AT_ONCE, words_a_row - start)
            floats = address(vector[LANES * _LOADS_A_WORD * start :])
            for row in range(0, together, _ROWS_A_LOAD):
                add_rows(address(words[row, start:]), words_a_row, floats, count, address(out[row:]))
            for row in range(together, rows):
                add_row(address(words[row, start:]), words_a_row, floats, count, address(out[row:]))

    return code.compiled(products)


def _add_masked(
    code: MachineCode, builder: Any, rows: int, words: Any, words_a_row: Any, floats: Any, count: Any, sums: Any
) -> None:
    """Emit the loop over words: where bit i of a row is set, its sum grows by float i; some rows at once."""
    ir = code.ir
    float32, int16, int64, bits = ir.FloatType(), ir.IntType(LANES), ir.IntType(64), ir.VectorType(ir.IntType(1), LANES)
    starts = [builder.gep(words, [builder.mul(words_a_row, int64(row))]) for row in range(rows)]
    starts = [builder.bitcast(start, int16.as_pointer()) for start in starts]
    vectors, loads = builder.bitcast(floats, code.floats.as_pointer()), builder.mul(count, int64(_LOADS_A_WORD))

    def add(index: Any, totals: list[Any]) -> list[Any]:
        values = code.load(builder, builder.gep(vectors, [index]))
        masks = [builder.bitcast(code.load(builder, builder.gep(start, [index]), 2), bits) for start in starts]
        return [
            builder.select(mask, builder.fadd(total, values), total) for mask, total in zip(masks, totals, strict=True)
        ]

    added = code.loop(builder, loads, rows, add)
    name = f"llvm.vector.reduce.fadd.v{LANES}f32"
    kind = ir.FunctionType(float32, [float32, code.floats])
    reduce = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    for row, total in enumerate(added):
        piece = builder.call(reduce, [float32(0.0), total], fastmath=("reassoc",))
        place = builder.gep(sums, [int64(row)])
        code.store(builder, builder.fadd(code.load(builder, place), piece), place)

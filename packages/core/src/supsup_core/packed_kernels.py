"""Packed bits times a vector without unpacking: a machine loop for `supsup-core[fast]`, compiled by numba at first use.

Sixteen bits of a row are, as they lie, the mask of a load of sixteen floats: what they leave out is not added. Four rows share
each load, and the vector goes by in pieces that stay in the cache while all rows pass over them.
`packed_bits.inner_products` is the oracle.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import unwrap
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_LANES = 16
_LOADS_A_WORD = 64 // _LANES
_ROWS_A_LOAD = 4
_WORDS_AT_ONCE = 256  # of the vector: 64 KiB of floats
_WORTH_COMPILING_BITS = 2**24  # below, loading the compiler (2 s) takes longer than many guesses
FEW_VECTORS = 16
"""Of more, one matrix product over unpacked bits is faster."""
# Some 6 ms of work. Less is over before torch's own threads, which spin for a while after each operation, leave the cores.
_BITS_WORTH_A_THREAD = 2**28


@cache
def is_installed() -> bool:
    """Tell whether numba is there."""
    return find_spec("numba") is not None


def compile_ahead() -> None:
    """Compile what `inner_products` runs, some seconds of work, so that the first guess of a process need not wait for it."""
    if is_installed():
        inner_products(torch.zeros(1, 8, dtype=torch.uint8), torch.zeros(1, 64))


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
    products = torch.zeros(len(vectors), len(rows))
    kernel = _kernel()
    threads = max(1, min(torch.get_num_threads(), rows.numel() * 8 // _BITS_WORTH_A_THREAD))
    at_once = max(1, -(-len(rows) // threads))

    def work(first: int) -> None:
        words = rows[first : first + at_once].contiguous().numpy().view("<u8")
        for vector, products_of_vector in zip(padded.numpy(), products.numpy(), strict=True):
            kernel(words, vector, products_of_vector[first : first + at_once])

    if threads == 1:
        work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:  # the kernel lets go of the interpreter
            list(pool.map(work, range(0, len(rows), at_once)))
    return products


@cache
def _kernel() -> Callable[..., None]:
    """Compile, which takes a second or two."""
    # By name, as the compiler is an extra and its types are no help.
    numba, ir, extending = (import_module(name) for name in ("numba", "llvmlite.ir", "numba.extending"))
    types = numba.types

    def typed_address(_: Any, array: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return context.make_array(signature.args[0])(context, builder, arguments[0]).data

        return types.CPointer(array.dtype)(array), generate

    def adder(rows: int) -> Any:
        def typed(_: Any, words: Any, words_a_row: Any, floats: Any, count: Any, sums: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                _add_masked(ir, builder, rows, *arguments)
                return context.get_dummy_value()

            return types.void(words, types.int64, floats, types.int64, sums), generate

        return extending.intrinsic(typed)

    address, add_rows, add_row = extending.intrinsic(typed_address), adder(_ROWS_A_LOAD), adder(1)

    def products(words: Any, vector: Any, out: Any) -> None:  # pragma: no cover (it runs as machine code)
        rows, words_a_row = words.shape
        together = rows - rows % _ROWS_A_LOAD
        for start in range(0, words_a_row, _WORDS_AT_ONCE):
            count = min(_WORDS_AT_ONCE, words_a_row - start)
            floats = address(vector[_LANES * _LOADS_A_WORD * start :])
            for row in range(0, together, _ROWS_A_LOAD):
                add_rows(address(words[row, start:]), words_a_row, floats, count, address(out[row:]))
            for row in range(together, rows):
                add_row(address(words[row, start:]), words_a_row, floats, count, address(out[row:]))

    # Unwrapped, as checkers of types at run time wrap every function.
    compiled: Callable[..., None] = numba.njit(nogil=True)(unwrap(products))
    return compiled


def _add_masked(
    ir: Any, builder: Any, rows: int, words: Any, words_a_row: Any, floats: Any, count: Any, sums: Any
) -> None:
    """Write the loop over words: where bit i of a row is set, its sum grows by float i; some rows at once."""
    float32, int16, int64 = ir.FloatType(), ir.IntType(_LANES), ir.IntType(64)
    lanes, bits = ir.VectorType(float32, _LANES), ir.VectorType(ir.IntType(1), _LANES)
    zero = ir.Constant(lanes, [0.0] * _LANES)
    starts = [builder.gep(words, [builder.mul(words_a_row, int64(row))]) for row in range(rows)]
    starts = [builder.bitcast(start, int16.as_pointer()) for start in starts]
    vectors, loads = builder.bitcast(floats, lanes.as_pointer()), builder.mul(count, int64(_LOADS_A_WORD))
    before, loop, after = builder.block, builder.append_basic_block("loads"), builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    index, totals = builder.phi(int64), [builder.phi(lanes) for _ in range(rows)]
    values, added = _load(builder, builder.gep(vectors, [index]), 4), []
    for start, total in zip(starts, totals, strict=True):
        mask = builder.bitcast(_load(builder, builder.gep(start, [index]), 2), bits)
        added.append(builder.select(mask, builder.fadd(total, values), total))
    following = builder.add(index, int64(1))
    for phi, first, then in ((index, int64(0), following), *((t, zero, a) for t, a in zip(totals, added, strict=True))):
        phi.add_incoming(first, before)
        phi.add_incoming(then, loop)
    builder.cbranch(builder.icmp_signed("<", following, loads), loop, after)
    builder.position_at_end(after)
    name = f"llvm.vector.reduce.fadd.v{_LANES}f32"
    kind = ir.FunctionType(float32, [float32, lanes])
    reduce = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    for row, total in enumerate(added):
        piece = builder.call(reduce, [float32(0.0), total], fastmath=("reassoc",))
        place = builder.gep(sums, [int64(row)])
        builder.store(builder.fadd(_load(builder, place, 4), piece), place)


def _load(builder: Any, place: Any, alignment: int) -> Any:
    """Load what is aligned as numbers of so many bytes are, and no more."""
    loaded = builder.load(place)
    loaded.align = alignment
    return loaded

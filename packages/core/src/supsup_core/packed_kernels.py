"""Packed bits times a vector without unpacking: a machine loop for `supsup-core[fast]`, compiled by numba at first use.

A 64-bit word of a row is, as it lies, the mask of a load of 64 floats: what it leaves out is not added. The vector goes by in
pieces that stay in the first-level cache while all rows pass over them. `packed_bits.inner_products` is the oracle.
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

_LANES = 64
_WORDS_AT_ONCE = 256  # of the vector: 64 KiB of floats
_WORTH_COMPILING_BITS = 2**24  # below, loading the compiler (2 s) takes longer than many guesses
_FEW_VECTORS = 16  # of more, one matrix product over unpacked bits is faster
_ROWS_WORTH_A_THREAD = 128


@cache
def is_installed() -> bool:
    """Tell whether numba is there."""
    return find_spec("numba") is not None


def suits(rows: UInt8[Tensor, "tasks bytes"], vectors: Float[Tensor, "vectors bits"]) -> bool:
    """Tell whether `inner_products` takes these, and is worth its compilation."""
    return (
        rows.device.type == "cpu"
        and vectors.dtype == torch.float32
        and len(vectors) <= _FEW_VECTORS
        and 8 * rows.numel() >= _WORTH_COMPILING_BITS
        and is_installed()
    )


def inner_products(
    rows: UInt8[Tensor, "tasks bytes"], vectors: Float[Tensor, "vectors bits"]
) -> Float[Tensor, "vectors tasks"]:
    """Return sum_j bit_ij v_j of every row of bits and every vector, as `packed_bits.inner_products` does.

    Threads share the rows, as many as torch uses.
    """
    padded = torch.nn.functional.pad(vectors, (0, 8 * rows.shape[1] - vectors.shape[1])).contiguous()
    products = torch.zeros(len(vectors), len(rows))
    kernel = _kernel()
    threads = max(1, min(torch.get_num_threads(), len(rows) // _ROWS_WORTH_A_THREAD))
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

    def typed_masked_sum(_: Any, words: Any, floats: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _masked_sum(ir, builder, *arguments)

        return types.float32(words, floats, types.int64), generate

    address, masked_sum = extending.intrinsic(typed_address), extending.intrinsic(typed_masked_sum)

    def products(words: Any, vector: Any, out: Any) -> None:  # pragma: no cover (it runs as machine code)
        for start in range(0, words.shape[1], _WORDS_AT_ONCE):
            count = min(_WORDS_AT_ONCE, words.shape[1] - start)
            floats = address(vector[_LANES * start :])
            for row in range(words.shape[0]):
                out[row] += masked_sum(address(words[row, start:]), floats, count)

    # Unwrapped, as checkers of types at run time wrap every function.
    compiled: Callable[..., None] = numba.njit(nogil=True)(unwrap(products))
    return compiled


def _masked_sum(ir: Any, builder: Any, words: Any, floats: Any, count: Any) -> Any:
    """Write the loop: acc += select(bits of word i, floats[64 i : 64 i + 64], 0)."""
    float32, int64 = ir.FloatType(), ir.IntType(64)
    lanes, bits = ir.VectorType(float32, _LANES), ir.VectorType(ir.IntType(1), _LANES)
    zero = ir.Constant(lanes, [0.0] * _LANES)
    before, loop, after = builder.block, builder.append_basic_block("words"), builder.append_basic_block("sum")
    builder.branch(loop)
    builder.position_at_end(loop)
    index, total = builder.phi(int64), builder.phi(lanes)
    mask = builder.bitcast(_load(builder, builder.gep(words, [index])), bits)
    place = builder.gep(floats, [builder.mul(index, ir.Constant(int64, _LANES))])
    values = _load(builder, builder.bitcast(place, lanes.as_pointer()))
    added = builder.fadd(total, builder.select(mask, values, zero))
    following = builder.add(index, ir.Constant(int64, 1))
    index.add_incoming(ir.Constant(int64, 0), before)
    index.add_incoming(following, loop)
    total.add_incoming(zero, before)
    total.add_incoming(added, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    name = f"llvm.vector.reduce.fadd.v{_LANES}f32"
    kind = ir.FunctionType(float32, [float32, lanes])
    reduce = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(reduce, [ir.Constant(float32, 0.0), added], fastmath=("reassoc",))


def _load(builder: Any, place: Any) -> Any:
    """Load what is aligned as 32-bit numbers are and no more."""
    loaded = builder.load(place)
    loaded.align = 4
    return loaded

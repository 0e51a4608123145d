"""What the machine loops of `supsup-core[fast]` are made of beside numba's Python: addresses, and LLVM code on whole registers.

numba is an extra and has no types: it is imported by name, when the first loop is compiled.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import unwrap
from typing import Any

LANES = 16
"""Floats of a step of most loops, and of the widest registers; where registers are shorter, LLVM takes several."""


@cache
def is_installed() -> bool:
    """Tell whether numba is there, and nobody has told it to leave Python as it is."""
    return find_spec("numba") is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


@cache
def permuted_floats() -> int:
    """Return how many floats the registers hold that numba compiles to permute: 16 (AVX-512), 8 (AVX2), or 0: there are none."""
    if not is_installed():
        return 0
    config = import_module("numba").config
    if config.CPU_NAME or config.CPU_FEATURES is not None or not config.ENABLE_AVX:
        return 0  # it was told to compile for less than this processor, or for another
    features = import_module("llvmlite.binding").get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx2") else 0


def in_threads(work: Callable[[int], None], starts: Sequence[int]) -> None:
    """Do a piece of work from each of these starts on, in threads; machine loops let go of the interpreter.

    All pieces are done when it returns, or raises what the first of them raised. A piece must not call it again.
    """
    if len(starts) <= 1:
        deque(map(work, starts), maxlen=0)
        return
    pieces = [_pool(os.getpid()).submit(work, start) for start in starts]
    try:
        deque((piece.result() for piece in pieces), maxlen=0)
    finally:
        wait(pieces)  # what they write to is the caller's


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process, which are started as they are needed: one that was forked has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "machine-loop")


@dataclass(frozen=True)
class MachineCode:
    """The compiler's parts.

    Attributes:
        ir: llvmlite's builder of LLVM code.
        types: numba's types.
        intrinsic: makes a function that compiled code can call from one that says its type and how to emit it.
        address: compiled code calls it for the place of an array's first number.
        lanes: floats of a register.
    """

    ir: Any
    types: Any
    intrinsic: Any
    address: Any
    lanes: int

    def compiled(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return the function as machine code, compiled at its first call, that lets go of the interpreter."""
        # Unwrapped, as checkers of types at run time wrap every function. Without exceptions for divisions by zero, whole
        # registers are divided at once.
        made: Callable[..., None] = import_module("numba").njit(nogil=True, error_model="numpy")(unwrap(function))
        return made

    @property
    def floats(self) -> Any:
        """LLVM's type of a register of floats."""
        return self.ir.VectorType(self.ir.FloatType(), self.lanes)

    @property
    def zeros(self) -> Any:
        """A register of zeros."""
        return self.ir.Constant(self.floats, [0.0] * self.lanes)

    def loop(self, builder: Any, count: Any, totals: int, body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Emit a loop that adds to registers, and return them as they are behind it; the builder goes on there.

        Args:
            builder: to emit with.
            count: of the passes, at least 1.
            totals: how many registers; they begin at zero.
            body: emits a pass, given its number and the registers, and returns them as they are after it.
        """
        int64, before = self.ir.IntType(64), builder.block
        inside, after = builder.append_basic_block("inside"), builder.append_basic_block("after")
        builder.branch(inside)
        builder.position_at_end(inside)
        index, old = builder.phi(int64), [builder.phi(self.floats) for _ in range(totals)]
        new = body(index, old)
        following = builder.add(index, int64(1))
        for phi, first, then in (
            (index, int64(0), following),
            *((o, self.zeros, n) for o, n in zip(old, new, strict=True)),
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(then, inside)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        return new

    def load(self, builder: Any, place: Any, alignment: int = 4) -> Any:
        """Load what is aligned as numbers of so many bytes are, and no more."""
        loaded = builder.load(place)
        loaded.align = alignment
        return loaded

    def store(self, builder: Any, value: Any, place: Any) -> None:
        """Store what is aligned as floats are, and no more."""
        builder.store(value, place).align = 4


@cache
def machine_code(lanes: int = LANES) -> MachineCode:
    """Return the compiler's parts, for registers of so many floats; importing them takes a second."""
    ir, extending, types = (import_module(name) for name in ("llvmlite.ir", "numba.extending", "numba.types"))

    def typed_address(_: Any, array: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return context.make_array(signature.args[0])(context, builder, arguments[0]).data

        return types.CPointer(array.dtype)(array), generate

    return MachineCode(ir, types, extending.intrinsic, extending.intrinsic(typed_address), lanes)

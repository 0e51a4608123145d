"""Machine loops for training on a CPU, compiled by numba at first use (extra `fast` of supsup-core).

A step of an optimiser by torch's operators goes over its vectors a dozen times; these go over them once. What is computed is
the same, number by number; only a processor that adds and multiplies at once may round otherwise. `optimizers.RMSprop` and
`mask_training.MaskSteps` without them are the oracles.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from supsup_core.machine_code import in_threads, is_installed, machine_code
from torch import Tensor

_WORTH_COMPILING = 10**8  # numbers moved in all; of fewer, compiling (a second) takes longer than what it saves
_WORTH_A_THREAD = 2**19  # numbers: some tenths of a millisecond


def arithmetic() -> str:
    """Return what moves long vectors in training on this machine, as the last bits of a task may depend on it."""
    return f"numba {version('numba')}" if is_installed() else "torch"


def suits(values: Tensor, steps: int) -> bool:
    """Tell whether these loops move such values, and so many steps are worth the compilation.

    Args:
        values: what is trained.
        steps: how many there will be, about.
    """
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and values.is_contiguous()
        and steps * values.numel() >= _WORTH_COMPILING
        and is_installed()
    )


def move_by_rmsprop(values: Tensor, gradient: Tensor, mean_square: Tensor, rate: float) -> None:
    """Take a step of `optimizers.RMSprop`: v <- 0.99 v + 0.01 g², x <- x - rate g / (sqrt(v) + 1e-8).

    Args:
        values: x; it is changed, as v is. All are of one shape, and `suits` holds of them.
        gradient: g.
        mean_square: v.
        rate: how far the step goes.
    """
    _run(_loops()["rmsprop"], (values, gradient, mean_square), rate)


def move_mask_by_rmsprop(
    scores: Tensor, gradient: Tensor, mean_square: Tensor, frozen: Tensor, effective: Tensor, rate: float
) -> None:
    """Take a step of RMSprop on the scores S of M = 1[S >= 0], and write W ⊙ M (Section 3.1).

    Args:
        scores: S; it is changed, as v is. All are of one shape, and `suits` holds of them.
        gradient: dL/d(W ⊙ M), so that g = W ⊙ gradient.
        mean_square: v.
        frozen: W.
        effective: W ⊙ M is written there.
        rate: how far the step goes.
    """
    _run(_loops()["rmsprop of a mask"], (scores, gradient, mean_square, frozen, effective), rate)


def _run(loop: Callable[..., None], tensors: Sequence[Tensor], rate: float) -> None:
    """Run a loop, by as many threads as torch uses where each has enough to do."""
    vectors = [tensor.detach().view(-1).numpy() for tensor in tensors]
    size, step = len(vectors[0]), _loops()["float32"](rate)
    threads = max(1, min(torch.get_num_threads(), size // _WORTH_A_THREAD))
    part = -(-size // threads)
    in_threads(lambda start: loop(*(vector[start : start + part] for vector in vectors), step), range(0, size, part))


@cache
def _loops() -> dict[str, Callable[..., Any]]:
    """Compile, which takes a second."""
    numpy = import_module("numpy")
    number, root = numpy.float32, numpy.sqrt
    keep, new, least, zero = number(0.99), number(1 - 0.99), number(1e-8), number(0.0)

    def rmsprop(values: Any, gradient: Any, mean_square: Any, rate: Any) -> None:  # pragma: no cover (machine code)
        for place in range(len(values)):
            slope = gradient[place]
            square = mean_square[place] * keep + new * slope * slope
            mean_square[place] = square
            values[place] = values[place] - rate * slope / (root(square) + least)

    def of_mask(  # pragma: no cover (machine code)
        scores: Any, gradient: Any, mean_square: Any, frozen: Any, effective: Any, rate: Any
    ) -> None:
        for place in range(len(scores)):
            weight = frozen[place]
            slope = gradient[place] * weight
            square = mean_square[place] * keep + new * slope * slope
            mean_square[place] = square
            score = scores[place] - rate * slope / (root(square) + least)
            scores[place] = score
            effective[place] = weight if score >= zero else zero

    compiled = machine_code().compiled
    return {"rmsprop": compiled(rmsprop), "rmsprop of a mask": compiled(of_mask), "float32": number}

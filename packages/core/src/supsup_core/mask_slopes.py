"""Slopes along every task's mask: of gradients as they are, and of gradients g aᵀ, one for each image, of which few are formed.

Of the latter dO/dα_i = sum over layers of gᵀ ((W ⊙ M^i) a).
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from supsup_core import packed_kernels, packed_lookups
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.packed_bits import inner_products, unpack_to
from supsup_core.packed_lookups import MaskedLayer
from supsup_core.shapes import OuterProducts

_Blocks = Callable[[int], Iterator[UInt8[Tensor, "some bytes"]]]
_GRADIENT_FLOATS = 2**24  # formed at once
_FLOATS_OF_PRODUCTS = 2**21
_TASKS_MULTIPLIED = 256  # rows of one matrix product
_TASKS_UNPACKED = 8  # a few masked copies of W are in memory at once
_TASKS_LOOKED_UP = 1024  # as many as stay, some words of each, in the processor's cache


def compile_ahead() -> None:
    """Compile the machine loops of task inference on a CPU (extra `fast`), which is some seconds of work, once in a process.

    For whoever will be asked: else the first guess among many masks waits for it. Without the extra there is nothing to do.
    """
    packed_kernels.compile_ahead()
    packed_lookups.compile_ahead()


def by_rows(vectors: Float[Tensor, "vectors bits"], tasks: int, blocks: _Blocks) -> Float[Tensor, "vectors tasks"]:
    """Return the inner product of each vector with every task's mask.

    Args:
        vectors: a number for each bit.
        tasks: how many there are.
        blocks: the packed masks in order, in blocks of at most so many tasks.
    """
    slopes = vectors.new_empty((len(vectors), tasks))
    multiply = packed_kernels.inner_products if packed_kernels.suits(vectors, tasks) else inner_products
    start = 0
    for block in blocks(_TASKS_MULTIPLIED):
        slopes[:, start : start + len(block)] = multiply(block, vectors)
        start += len(block)
    return slopes


def formed_in_parts(
    gradients: Mapping[str, OuterProducts], num_bits: int
) -> Iterator[dict[str, Float[Tensor, "some out in"]]]:
    """Yield the gradients g aᵀ of some images after others, as many as do not take much memory, for `by_rows`.

    Args:
        gradients: a and g of each maskable weight, of shape (out, in), by name.
        num_bits: of a mask.
    """
    images, at_once = len(next(iter(gradients.values()))[0]), max(1, _GRADIENT_FLOATS // num_bits)
    for first in range(0, images, at_once):
        some = slice(first, first + at_once)
        yield {name: g[some].unsqueeze(-1) * a[some].unsqueeze(-2) for name, (a, g) in gradients.items()}


def by_lookups(
    net: FrozenNetwork, tasks: int, blocks: _Blocks, gradients: Mapping[str, OuterProducts]
) -> Float[Tensor, "images tasks"]:
    """Return the slopes of each image's gradient along every task's mask, where `packed_lookups.suits` says so.

    Args:
        net: the network.
        tasks: how many there are.
        blocks: the packed masks in order, in blocks of at most so many tasks.
        gradients: a and g of each maskable weight, of shape (out, in), by name.
    """
    layers, first_bit = [], 0
    for entry in net.maskable:
        layers.append(MaskedLayer(first_bit, net.frozen[entry.name], *gradients[entry.name]))
        first_bit += entry.size
    slopes = layers[0].frozen.new_empty(len(layers[0].inputs), tasks)
    start = 0
    for some in _together(blocks(_TASKS_LOOKED_UP)):
        found = packed_lookups.lookups(some, layers)
        slopes[:, start : start + found.shape[1]] = found
        start += found.shape[1]
    return slopes


def _together(blocks: Iterator[UInt8[Tensor, "some bytes"]]) -> Iterator[list[UInt8[Tensor, "_ bytes"]]]:
    """Yield blocks, several together while they are small."""
    some: list[Tensor] = []
    for block in blocks:
        if some and sum(map(len, some)) + len(block) > _TASKS_LOOKED_UP:
            yield some
            some = []
        some.append(block)
    if some:
        yield some


def by_matrix_products(
    net: FrozenNetwork,
    frozen: Float[Tensor, " bits"],
    tasks: int,
    blocks: _Blocks,
    gradients: Mapping[str, OuterProducts],
) -> Float[Tensor, "images tasks"]:
    """Do as `by_lookups` on any device, by a matrix product for each layer and task."""
    images = len(next(iter(gradients.values()))[0])
    largest = max(outputs.numel() for _, outputs in gradients.values())
    at_once = min(_TASKS_UNPACKED, max(1, _FLOATS_OF_PRODUCTS // max(1, largest)))
    slopes = frozen.new_zeros((images, tasks))
    scratch = frozen.new_empty(at_once * largest)  # filled again and again: fresh memory costs more than it
    start = 0
    for block in blocks(at_once):
        masked = unpack_to(block, net.num_bits, frozen.dtype).mul_(frozen)
        for name, weights in net.unflatten(masked).items():
            inputs, outputs = gradients[name]
            products = scratch[: len(block) * outputs.numel()].view(len(block), *outputs.shape)
            torch.bmm(inputs.expand(len(block), -1, -1), weights.mT, out=products)
            slopes[:, start : start + len(block)] += products.mul_(outputs).sum(dim=-1).T
        start += len(block)
    return slopes

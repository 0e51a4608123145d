"""Slopes of many images over packed bits: a machine loop for `supsup-core[fast]`, compiled by numba at first use.

What the masks say of an image is a sum of the numbers W ⊙ g aᵀ where their bits are set. Of four numbers there are sixteen such
sums; they fill one register of AVX-512, and four bits of each of sixteen masks look theirs up in one instruction, where a matrix
product takes four (the method of the four Russians). A register of AVX2 holds the eight sums of three numbers, for three bits of
each of eight masks. Masks lie side by side for that, turned some words at a time; four images share the turning; and neurons that
are at rest in all four, whose g is 0, are passed over. `mask_slopes.by_matrix_products` is the oracle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad

from supsup_core.errors import InvalidArgument
from supsup_core.lookup_code import IMAGES_AT_ONCE, LOOKUPS, Registers, intrinsics
from supsup_core.machine_code import LANES, MachineCode, in_threads, machine_code, permuted_floats
from supsup_core.packed_bits import row_bytes

_WORDS_AT_ONCE = 8  # whose sums, at most 4 KiB an image, stay in the nearest cache while all masks look them up
_FEWEST_ROWS = 48  # of fewer, matrix products are faster
# Bits looked up in a call, some hundredths of a second of matrix products. A checkpoint makes a call for each task, and with
# hundreds of them compiling, which takes some seconds, pays. What was compiled before must not decide: results would hang on it.
_WORTH_COMPILING = 2**31


@dataclass(frozen=True)
class MaskedLayer:
    """Gradients g aᵀ of one layer, an image each, where its bits begin in a row, and its W.

    Attributes:
        first_bit: of the layer in a row of bits.
        frozen: W.
        inputs: a of each image.
        outputs: g of each image.

    Raises:
        InvalidArgument: a and g are not of W's width and height, or of other numbers of images.
    """

    first_bit: int
    frozen: Float[Tensor, "out in"]
    inputs: Float[Tensor, "images in"]
    outputs: Float[Tensor, "images out"]

    def __post_init__(self) -> None:
        """Refuse what a machine loop would read beyond."""
        shapes = tuple(self.inputs.shape), tuple(self.outputs.shape)
        height, width = self.frozen.shape
        if shapes != ((len(self.inputs), width), (len(self.inputs), height)):
            raise InvalidArgument(
                f"gradients: a and g of shapes {shapes[0]} and {shapes[1]} for a weight of {height} x {width}; pass "
                f"(images, {width}) and (images, {height})"
            )

    @property
    def end_bit(self) -> int:
        """Where the layer's bits end."""
        return self.first_bit + self.frozen.numel()


def suits(frozen: Float[Tensor, " bits"], images: int, tasks: int) -> bool:
    """Tell whether `lookups` takes such weights, and is worth its compilation for so many images and rows of bits."""
    return (
        frozen.device.type == "cpu"
        and frozen.dtype == torch.float32
        and images >= IMAGES_AT_ONCE
        and tasks >= _FEWEST_ROWS
        and images * tasks * len(frozen) >= _WORTH_COMPILING
        and permuted_floats() > 0
    )


def compile_ahead() -> None:
    """Compile what `lookups` runs, some seconds of work, for whoever will guess from many images."""
    if permuted_floats():
        nothing = _zeros(IMAGES_AT_ONCE, 8)
        lookups([_zeros(1, 8, dtype=torch.uint8)], [MaskedLayer(0, _zeros(8, 8), nothing, nothing)])


def lookups(blocks: Sequence[UInt8[Tensor, "_ bytes"]], layers: Sequence[MaskedLayer]) -> Float[Tensor, "images tasks"]:
    """Return sum over layers and weights of bit · W · g aᵀ, for each image and row of bits.

    Threads share the images, as many as torch uses.

    Args:
        blocks: the rows, which are read where they lie; uint8.
        layers: whose gradients they are.

    Raises:
        InvalidArgument: layers have other numbers of images, or reach beyond the rows.
    """
    images = len(layers[0].inputs)
    for layer in layers:
        if len(layer.inputs) != images:
            raise InvalidArgument(
                f"gradients: of {images} images and of {len(layer.inputs)}; pass those of the same images"
            )
    if any(block.shape[1] < row_bytes(max(layer.end_bit for layer in layers)) for block in blocks):
        raise InvalidArgument("blocks: rows of fewer bits than the layers have; pass those of the same network")
    blocks = [block if block.stride(1) == 1 else block.contiguous() for block in blocks]
    registers, bytes_of_row = Registers(permuted_floats() or LANES), min(block.shape[1] for block in blocks)
    rows = torch.cat([_addresses(block) for block in blocks]).numpy().view("<u8")
    padded = [_padded(layer, -images % IMAGES_AT_ONCE) for layer in layers]
    products = _zeros(len(padded[0].inputs), -(-len(rows) // registers.rows_at_once) * registers.rows_at_once)
    threads = max(1, min(torch.get_num_threads(), len(products) // IMAGES_AT_ONCE))
    at_once = max(1, -(-len(products) // (threads * IMAGES_AT_ONCE))) * IMAGES_AT_ONCE
    kernel = _kernel(registers)

    def work(first: int) -> None:
        scratch, some = _scratch(registers, products.shape[1]), slice(first, first + at_once)
        for layer in padded:
            tensors = layer.frozen, layer.outputs[some], layer.inputs[some], products[some]
            kernel(rows, bytes_of_row, layer.first_bit, *(each.numpy() for each in tensors), *scratch)

    in_threads(work, range(0, len(products), at_once))
    for layer in padded:  # nothing times infinity is no number, and neurons at rest are passed over
        products[~layer.inputs.isfinite().all(dim=1)] = torch.nan
    return products[:images, : len(rows)]


def _padded(layer: MaskedLayer, missing: int) -> MaskedLayer:
    """Return the layer with so many images more, of zeros, and everything side by side."""
    inputs, outputs = (pad(each, (0, 0, 0, missing)).contiguous() for each in (layer.inputs, layer.outputs))
    return MaskedLayer(layer.first_bit, layer.frozen.contiguous(), inputs, outputs)


def _addresses(block: UInt8[Tensor, "some bytes"]) -> Int64[Tensor, " some"]:
    """Return where each row lies."""
    return block.data_ptr() + block.stride(0) * torch.arange(len(block), dtype=torch.int64, device="cpu")


def _zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return zeros, whatever torch's own choices are."""
    return torch.zeros(shape, dtype=dtype, device="cpu")


def _scratch(registers: Registers, rows: int) -> tuple[Any, ...]:
    """Return memory for turned masks, numbers formed, their sums, and which words have any: torch's, as it is well aligned."""
    turned = _zeros(_WORDS_AT_ONCE, rows, dtype=torch.int32).numpy().view("<u4")
    formed = _zeros(IMAGES_AT_ONCE, registers.word * _WORDS_AT_ONCE).numpy()
    sums = _zeros(_WORDS_AT_ONCE, LOOKUPS, IMAGES_AT_ONCE, registers.floats).numpy()
    return turned, formed, sums, *_zeros(2, _WORDS_AT_ONCE, dtype=torch.int32).numpy()


@cache
def _kernel(registers: Registers) -> Callable[..., None]:
    """Compile, which takes some seconds."""
    code, word_bits, rows_at_once = machine_code(registers.floats), registers.word, registers.rows_at_once
    address, form, bytes_of_word = code.address, _former(code, word_bits), word_bits // 8
    write_sums, look_up, four_bytes_at = intrinsics(code)

    def lookups_of_layer(  # pragma: no cover (machine code)
        rows: Any, bytes_of_row: Any, first_bit: Any, frozen: Any, outputs: Any, inputs: Any, out: Any,
        turned: Any, formed: Any, sums: Any, active: Any, which: Any,
    ) -> None:  # fmt: skip
        end_word = -(-(first_bit + frozen.size) // word_bits)
        for first_word in range(first_bit // word_bits, end_word, _WORDS_AT_ONCE):
            count = min(_WORDS_AT_ONCE, end_word - first_word)
            for word in range(count):
                first_byte = bytes_of_word * (first_word + word)
                beyond = max(0, first_byte + 4 - bytes_of_row)  # of the row's end
                for row in range(len(rows)):
                    turned[word, row] = four_bytes_at(rows[row], first_byte - beyond) >> (8 * beyond)
            formed[:] = 0  # where the bits of a word are another layer's
            for image in range(0, len(inputs), IMAGES_AT_ONCE):
                form(frozen, outputs[image:], inputs[image:], word_bits * first_word - first_bit, formed, active)
                found = 0
                for word in range(count):
                    if active[word]:
                        write_sums(address(formed[0, word_bits * word :]), formed.shape[1], address(sums[found]))
                        which[found] = word
                        found += 1
                for row in range(0, out.shape[1] if found else 0, rows_at_once):
                    place = address(out[image, row:])
                    look_up(address(turned[0, row:]), out.shape[1], address(sums), address(which), found, place)

    return code.compiled(lookups_of_layer)


def _former(code: MachineCode, word_bits: int) -> Callable[..., None]:
    """Compile what forms W ⊙ g aᵀ of some images for some words, and tells which words hold more than neurons at rest."""

    def multiply(numbers: Any, frozen: Any, inputs: Any, slope: Any) -> None:  # pragma: no cover (machine code)
        for place in range(len(numbers)):
            numbers[place] = frozen[place] * (slope * inputs[place])

    multiply = code.compiled(multiply)

    def form(  # pragma: no cover (machine code)
        frozen: Any, outputs: Any, inputs: Any, first_weight: Any, formed: Any, active: Any
    ) -> None:
        width = frozen.shape[1]
        active[:] = 0
        weight, end = max(0, first_weight), min(frozen.size, first_weight + formed.shape[1])
        while weight < end:
            neuron = weight // width
            column = weight - neuron * width
            length, at = min(width - column, end - weight), weight - first_weight
            for image in range(IMAGES_AT_ONCE):
                slope = outputs[image, neuron]
                columns, numbers = slice(column, column + length), formed[image, at : at + length]
                multiply(numbers, frozen[neuron, columns], inputs[image, columns], slope)
                if slope != 0:
                    active[at // word_bits : -(-(at + length) // word_bits)] = 1
            weight += length

    return code.compiled(form)

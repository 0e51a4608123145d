"""Convolutions by the ones of a mask alone: machine loops for `supsup-core[fast]`, compiled by numba at first use.

A channel of an image is laid out as a plane for each way in which the ones of a weight look at it: shifted by a column, or every
second pixel. A row further up or down is then an offset within the plane, with zeros around it, so that each one of the weight
adds a multiple of one stretch of numbers to its output's plane, and nothing is left to decide for a single pixel.
`torch.conv2d` is the oracle. NumPy, which numba needs and masks do not, is imported by name, with the first convolution.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from supsup_core.machine_code import MachineCode, in_threads, machine_code

Pair = tuple[int, int]
"""Of rows and of columns."""

# Multiplications for each thread, some milliseconds of work. Less is over before torch's own threads, which spin for a while
# after each operation, leave the cores.
_WORTH_A_THREAD = 2**24
# Of memory that a thread keeps from call to call: enough for a ResNet-50 on images of 224 × 224.
_KEPT_BYTES = 2**24
_OF_THREAD = threading.local()


@dataclass(frozen=True)
class Geometry:
    """Of a convolution."""

    image: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def output(self) -> Pair:
        """Rows and columns of what comes out."""
        rows, columns = (
            (image + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for image, kernel, stride, padding, dilation in zip(
                self.image, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return rows, columns

    @property
    def plane(self) -> Pair:
        """Rows and columns of a plane: every one of `stride` pixels of an image fits, and so does the output."""
        rows, columns = (
            max(output, -(-image // stride))
            for output, image, stride in zip(self.output, self.image, self.stride, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class SparseKernel:
    """The ones of a weight of shape (out, in, rows, columns), and where they look.

    Attributes:
        geometry: of the convolution.
        outputs: how many channels come out.
        planes: of an image: the channel, and the row, the column and the columns to the right at which it begins, for each.
            There are none where the channels of an image serve as they are.
        guard: zeros before the first plane and behind each.
        starts: of the ones of each output, in turn, and where the last ends.
        offsets: where in the planes each looks for its first number.
        values: of each.
    """

    geometry: Geometry
    outputs: int
    planes: Any
    guard: int
    starts: Any
    offsets: Any
    values: Any

    @classmethod
    def of(cls, weight: Float[Tensor, "out in rows columns"], geometry: Geometry) -> "SparseKernel":
        """Find the numbers of a weight that are not zero."""
        np, numbers = import_module("numpy"), weight.detach().contiguous().numpy()
        ones = np.flatnonzero(numbers)
        outputs, inputs, rows, columns = np.unravel_index(ones, numbers.shape)
        (stride_y, stride_x), (pad_y, pad_x), (step_y, step_x) = geometry.stride, geometry.padding, geometry.dilation
        down, first_row = np.divmod(rows * step_y - pad_y, stride_y)
        right, first_column = np.divmod(columns * step_x - pad_x, stride_x)
        leftmost, rightmost = (int(right.min()), int(right.max())) if len(ones) else (0, 0)
        sides = (numbers.shape[1], stride_y, stride_x, rightmost - leftmost + 1)
        numbered = np.ravel_multi_index((inputs, first_row, first_column, right - leftmost), sides)
        distinct, plane = np.unique(numbered, return_inverse=True)
        height, width = geometry.plane
        guard = width * int(np.abs(down).max(initial=0))
        planes = np.stack(np.unravel_index(distinct, sides), axis=1) + np.array((0, 0, 0, leftmost))
        if geometry.kernel == geometry.stride == (1, 1) and geometry.padding == (0, 0):
            planes, plane = planes[:0], inputs
        return cls(
            geometry,
            len(numbers),
            planes,
            guard,
            np.searchsorted(outputs, np.arange(len(numbers) + 1)),
            guard + plane * (height * width + guard) + down * width,
            numbers.reshape(-1)[ones],
        )

    def convolved(self, x: Float[Tensor, "images in height width"]) -> Float[Tensor, "images out up across"]:
        """Return the convolution of images; threads share them, or if these are few the outputs, as many as torch uses."""
        np, found = import_module("numpy"), x.new_empty((len(x), self.outputs, *self.geometry.output))
        numbers, out, loop = x.detach().contiguous().numpy(), found.numpy(), _loop()
        products = len(x) * len(self.values) * math.prod(self.geometry.output)
        threads = max(1, min(torch.get_num_threads(), products // _WORTH_A_THREAD))
        by_image = len(x) >= threads
        shared = len(x) if by_image else self.outputs
        part = -(-shared // threads)
        height, width = self.geometry.plane
        sizes = (self.guard, height, width, *self.geometry.stride)

        def work(start: int) -> None:
            images = slice(start, start + part) if by_image else slice(None)
            first, last = (0, self.outputs) if by_image else (start, min(start + part, self.outputs))
            planes = self.guard + len(self.planes) * (height * width + self.guard)
            total, scratch = np.split(_numbers(height * width + planes, out.dtype), [height * width])
            ones = (self.starts, self.offsets, self.values)
            loop(numbers[images], self.planes, *ones, first, last, out[images], scratch, total, *sizes)

        in_threads(work, range(0, shared, part))
        return found


def _numbers(size: int, dtype: Any) -> Any:
    """Return memory of this thread's own, whatever is in it: fresh memory would cost more than what is done with it."""
    np = import_module("numpy")
    wanted = size * np.dtype(dtype).itemsize
    if wanted > _KEPT_BYTES:
        return np.empty(size, dtype)
    if len(getattr(_OF_THREAD, "memory", b"")) < wanted:
        _OF_THREAD.memory = bytearray(wanted)
    return np.frombuffer(_OF_THREAD.memory, dtype, size)


@cache
def _loop() -> Callable[..., None]:
    """Compile, which takes some seconds."""
    code = machine_code()
    lay_out, add_terms = _layout(code), _sums(code)

    def convolve(  # pragma: no cover (machine code)
        x: Any, planes: Any, starts: Any, offsets: Any, values: Any, first: Any, last: Any, out: Any, scratch: Any,
        total: Any, guard: Any, height: Any, width: Any, stride_y: Any, stride_x: Any,
    ) -> None:  # fmt: skip
        outputs, up, across = out.shape[1:]
        count, numbers = (up - 1) * width + across, out.reshape(out.size)
        pixels, size = x.reshape(x.size), x[0].size
        for image in range(len(x)):
            if len(planes):
                lay_out(x[image], planes, scratch, guard, height, width, stride_y, stride_x)
            else:
                scratch = pixels[image * size : (image + 1) * size]
            for output in range(first, last):
                begin = (image * outputs + output) * up * across
                if width == across:
                    target = numbers[begin : begin + count]
                    add_terms(target, scratch, offsets, values, starts[output], starts[output + 1], count)
                else:
                    add_terms(total, scratch, offsets, values, starts[output], starts[output + 1], count)
                    for y in range(up):
                        for c in range(across):
                            numbers[begin + y * across + c] = total[y * width + c]

    return code.compiled(convolve)


def _layout(code: MachineCode) -> Callable[..., None]:
    """Return what lays the channels of an image out as planes."""

    def reach(size: int, first: int, stride: int, shift: int, wide: int) -> Any:  # pragma: no cover (machine code)
        """Return which positions c of a plane lie in the image: 0 <= (c + shift) * stride + first < size."""
        low = min(wide, max(0, -shift))
        return low, max(low, min(wide, (size - 1 - first) // stride + 1 - shift))

    reach = code.compiled(reach)

    def lay_out(  # pragma: no cover (machine code)
        image: Any, planes: Any, scratch: Any, guard: Any, height: Any, width: Any, stride_y: Any, stride_x: Any
    ) -> None:
        """Write the planes of an image, and zeros where they lie outside of it, before them and between."""
        image_height, image_width = image.shape[1:]
        numbers = image.reshape(image.size)
        for place in range(guard):
            scratch[place] = 0
        for plane in range(len(planes)):
            channel, row, column, shift = planes[plane]
            begin = guard + plane * (height * width + guard)
            _, rows = reach(image_height, row, stride_y, 0, height)
            low, high = reach(image_width, column, stride_x, shift, width)
            for y in range(rows):
                from_ = (channel * image_height + y * stride_y + row) * image_width + column + shift * stride_x
                target = scratch[begin + y * width : begin + (y + 1) * width]
                for c in range(low):
                    target[c] = 0
                if stride_x == 1:
                    source = numbers[from_ + low : from_ + high]
                    for c in range(len(source)):
                        target[low + c] = source[c]
                else:
                    for c in range(low, high):
                        target[c] = numbers[from_ + c * stride_x]
                for c in range(high, width):
                    target[c] = 0
            for place in range(begin + rows * width, begin + height * width + guard):
                scratch[place] = 0

    return code.compiled(lay_out)


def _sums(code: MachineCode) -> Callable[..., None]:
    """Return what adds up the terms of an output."""

    def add_terms(  # pragma: no cover (machine code)
        total: Any, scratch: Any, offsets: Any, values: Any, first: Any, last: Any, count: Any
    ) -> None:
        """Write the sum of some terms, four at a time."""
        for q in range(count):
            total[q] = 0
        z = first
        while z + 4 <= last:
            v0, v1, v2, v3 = values[z], values[z + 1], values[z + 2], values[z + 3]
            a0 = scratch[offsets[z] : offsets[z] + count]
            a1 = scratch[offsets[z + 1] : offsets[z + 1] + count]
            a2 = scratch[offsets[z + 2] : offsets[z + 2] + count]
            a3 = scratch[offsets[z + 3] : offsets[z + 3] + count]
            for q in range(count):
                total[q] += v0 * a0[q] + v1 * a1[q] + v2 * a2[q] + v3 * a3[q]
            z += 4
        while z < last:
            v0 = values[z]
            a0 = scratch[offsets[z] : offsets[z] + count]
            for q in range(count):
                total[q] += v0 * a0[q]
            z += 1

    return code.compiled(add_terms)

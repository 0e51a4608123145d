"""A forward pass that costs what is in a mask, not what is in the network: convolutions by their ones alone, on a CPU.

Of masks with the Erdős-Rényi budget (Appendix E) a few weights in a hundred are left, and a convolution over the others adds
zeros. Here it goes over those that are left (`sparse_loops`, extra `fast`), in any module whose layers call `torch.conv2d`:
nothing in it is replaced. What is computed is the same but for the order of the sums, of finite images. Where weights are many,
or this is no CPU, or the extra is not installed, or a tensor is of a kind of its own (under vmap, for example), it is torch that
computes. Whoever counts torch's convolutions from outside does not see those that go over ones.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch.overrides import TorchFunctionMode

from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.machine_code import is_installed
from supsup_core.shapes import Weights
from supsup_core.sparse_loops import Geometry, Pair, SparseKernel

_SIZES_KEPT = 4  # of images, for which the ones of a weight are kept
_WORTH_A_LOOP = 2**20  # multiplications of a dense convolution; fewer are over before a loop begins


class SparseForward:
    """f(x, W) for the weights of one task, as `net(x, weights)` has it; a task switch is to make another.

    Where the ones lie is found at the first call for images of a size, and kept.

    Args:
        net: the network.
        weights: of the task, `bank.weights(task)`; they must not change.
        most_density: of weights of a convolution that are not zero, up to which it goes over those alone: of more, a dense
            convolution is about as fast.

    Raises:
        InvalidArgument: `most_density` is no share from 0 to 1.
    """

    def __init__(self, net: FrozenNetwork, weights: Weights, most_density: float = 0.25) -> None:
        if not isinstance(most_density, int | float) or not 0 <= most_density <= 1:
            raise InvalidArgument(f"most_density={most_density}: a share of the weights lies between 0 and 1")
        self._net, self._weights = net, weights
        self._convolutions = _Convolutions(weights, most_density)

    def __call__(self, x: Shaped[Tensor, "images *input"]) -> Float[Tensor, "images *out"]:
        """Return f(x, W), without a gradient.

        Raises:
            InvalidArgument: as `net(x, weights)`.
        """
        with torch.no_grad(), self._convolutions:
            return self._net(x, self._weights)


class _Convolutions(TorchFunctionMode):
    """Answers `torch.conv2d` while it is entered, where the weight is one of a task's, and suits."""

    def __init__(self, weights: Weights, most_density: float) -> None:
        super().__init__()
        self._weights, self._most_density = weights, most_density
        self._found: dict[str, dict[Geometry, SparseKernel]] = {}
        self._few: dict[str, bool] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Answer in place of torch, or let it."""
        if func is torch.conv2d:
            found = self._convolved(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))

    def _convolved(
        self,
        input: Tensor,  # noqa: A002  # torch's name, by which it may be passed
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
    ) -> Tensor | None:
        """Return what `torch.conv2d` does, or None where it should: it, too, refuses what it does not take."""
        name = next((name for name, value in self._weights.items() if value is weight), None)
        if name is None or groups != 1 or not _suit(input, weight, bias):
            return None
        geometry = _geometry(input, weight, stride, padding, dilation)
        if geometry is None or len(input) * weight.numel() * math.prod(geometry.output) < _WORTH_A_LOOP:
            return None
        if name not in self._few:
            self._few[name] = int(torch.count_nonzero(weight)) <= self._most_density * weight.numel()
        if not self._few[name]:
            return None
        found = self._kernel(name, geometry).convolved(input)
        return found if bias is None else found.add_(bias.detach().view(1, -1, 1, 1))

    def _kernel(self, name: str, geometry: Geometry) -> SparseKernel:
        """Return the ones of a weight for images of a size; of several sizes the last few are kept."""
        kept = self._found.setdefault(name, {})
        if geometry not in kept:
            if len(kept) == _SIZES_KEPT:
                del kept[next(iter(kept))]
            kept[geometry] = SparseKernel.of(self._weights[name], geometry)
        return kept[geometry]


def _suit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether these are plain numbers of one kind on a CPU, in the shapes of a batch of images and its weight."""
    tensors = [x, weight] if bias is None else [x, weight, bias]
    return (
        all(_is_plain(tensor) and tensor.dtype == weight.dtype for tensor in tensors)
        and weight.dtype in (torch.float32, torch.float64)
        and x.ndim == weight.ndim == 4
        and x.shape[1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and is_installed()
    )


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not functorch.is_functorch_wrapped_tensor(tensor)
    )


def _geometry(x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Geometry | None:
    """Return a convolution's geometry, or None where it has no output, or is none that these loops know."""
    pairs = _pair(stride, 1), _pair(padding, 0), _pair(dilation, 1)
    if None in pairs:
        return None
    geometry = Geometry(_sides(x), _sides(weight), *(pair for pair in pairs if pair is not None))
    return geometry if min(geometry.output) >= 1 else None


def _sides(images: Tensor) -> Pair:
    return images.shape[2], images.shape[3]


def _pair(numbers: Any, least: int) -> Pair | None:
    """Return a number for rows and one for columns, as torch does of one for both; None of anything else."""
    try:
        pair = (operator.index(numbers),) * 2
    except TypeError:
        if not isinstance(numbers, tuple | list) or len(numbers) not in (1, 2):
            return None
        if not all(isinstance(number, int) for number in numbers):
            return None
        pair = numbers[0], numbers[-1]
    return pair if min(pair) >= least else None

"""A forward pass that costs what is in a mask, not what is in the network: convolutions by their ones alone, on a CPU.

Of masks with the Erdős-Rényi budget (Appendix E) a few weights in a hundred are left, and a convolution over the others adds
zeros. Here it goes over those that are left (`sparse_loops`, extra `fast`), in any module whose layers call `torch.conv2d`:
nothing in it is replaced. What is computed is the same but for the order of the sums, of finite images. Where weights are many,
or this is no CPU, or the extra is not installed, it is torch that computes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.overrides import TorchFunctionMode

from supsup_core.frozen_network import FrozenNetwork
from supsup_core.machine_code import is_installed
from supsup_core.shapes import Weights
from supsup_core.sparse_loops import Geometry, Pair, SparseKernel

_WORTH_A_LOOP = 2**20  # multiplications of a dense convolution; fewer are over before a loop begins


class SparseForward:
    """f(x, W) for the weights of one task, as `net(x, weights)` has it; a task switch is to make another.

    Where the ones lie is found at the first call for images of a size, and kept.

    Args:
        net: the network.
        weights: of the task, `bank.weights(task)`; they must not change.
        most_density: of weights of a convolution that are not zero, up to which it goes over those alone: of more, a dense
            convolution is about as fast.
    """

    def __init__(self, net: FrozenNetwork, weights: Weights, most_density: float = 0.25) -> None:
        self._net, self._weights = net, weights
        self._convolutions = _Convolutions(most_density)

    def __call__(self, x: Shaped[Tensor, "images *input"]) -> Float[Tensor, "images *out"]:
        """Return f(x, W), without a gradient.

        Raises:
            InvalidArgument: as `net(x, weights)`.
        """
        with torch.no_grad(), self._convolutions:
            return self._net(x, self._weights)


class _Convolutions(TorchFunctionMode):
    """Answers `torch.conv2d` while it is entered, where a weight suits."""

    def __init__(self, most_density: float) -> None:
        super().__init__()
        self._most_density = most_density
        self._found: dict[tuple[int, Geometry], tuple[Tensor, SparseKernel | None]] = {}

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
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor | None:
        """Return what `torch.conv2d` does, or None where it should."""
        if groups != 1 or isinstance(padding, str) or not _suit(input, weight):
            return None
        sizes = (input.shape[2:], weight.shape[2:], stride, padding, dilation)
        kernel = self._kernel(weight, Geometry(*(_pair(each) for each in sizes)), len(input))
        if kernel is None:
            return None
        found = kernel.convolved(input)
        return found if bias is None else found.add_(bias.view(1, -1, 1, 1))

    def _kernel(self, weight: Tensor, geometry: Geometry, images: int) -> SparseKernel | None:
        """Return the ones of a weight where they are few, and the images large enough."""
        rows, columns = geometry.output
        if min(rows, columns) < 1 or images * weight.numel() * rows * columns < _WORTH_A_LOOP:
            return None  # no output at all is torch's to refuse
        key = id(weight), geometry
        if key not in self._found:
            few = int(torch.count_nonzero(weight)) <= self._most_density * weight.numel()
            # With the weight, so that no other gets its id.
            self._found[key] = weight, SparseKernel.of(weight, geometry) if few else None
        return self._found[key][1]


def _suit(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and x.ndim == weight.ndim == 4
        and x.shape[1] == weight.shape[1]
        and not torch.is_autocast_enabled("cpu")
        and is_installed()
    )


def _pair(numbers: int | Sequence[int]) -> Pair:
    """Return a number for rows and one for columns; torch takes one for both, too."""
    if isinstance(numbers, int):
        return numbers, numbers
    return int(numbers[0]), int(numbers[-1])

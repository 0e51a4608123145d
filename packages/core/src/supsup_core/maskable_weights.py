"""Which weights of a module supermasks cover, and the fan-in that their constants are drawn by (Section 3.1)."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from supsup_core.errors import InvalidArgument

Selector: TypeAlias = Callable[[nn.Module, str], float | None]
"""(layer, its parameter's name) to the parameter's effective fan-in if it is maskable, else None."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FUSED_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class MaskableParameter:
    """A parameter that a supermask covers."""

    name: str
    shape: tuple[int, ...]
    fan_in: float

    @property
    def size(self) -> int:
        """Number of weights, which is the number of bits a mask spends on it."""
        return math.prod(self.shape)


def maskable_fan_in(layer: nn.Module, parameter: str) -> float | None:
    """Return the effective fan-in of a weight that masks should cover, or None for one that they should not.

    The number of inputs that one output neuron sums over, averaged over output positions:

    * linear: in_features; convolution: in_channels / groups · kernel size;
    * transposed convolution: in_channels / groups · kernel size / stride;
    * fused or separate attention projections: the width of the projected input;
    * embedding: 1, as a token picks one row.

    Biases, normalisation and everything else are not maskable.
    """
    if isinstance(layer, nn.MultiheadAttention) and parameter in _FUSED_ATTENTION:
        return float(getattr(layer, parameter).shape[1])
    if parameter != "weight":
        return None
    if isinstance(layer, nn.Linear):
        return float(layer.in_features)
    if isinstance(layer, _CONVOLUTIONS):
        return float(math.prod(layer.weight.shape[1:]))
    if isinstance(layer, _TRANSPOSED):
        return layer.in_channels / layer.groups * math.prod(layer.kernel_size) / math.prod(layer.stride)
    if isinstance(layer, nn.Embedding):
        return 1.0
    return None


def find_maskable(module: nn.Module, select: Selector) -> tuple[MaskableParameter, ...]:
    """Ask the selector about every parameter once; a tied parameter counts under its first name.

    Raises:
        InvalidArgument: what it returns is neither None nor a number above 0.
    """
    found, seen = [], set()
    for prefix, layer in module.named_modules():
        for local_name, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            fan_in = select(layer, local_name)
            if isinstance(fan_in, bool) or (fan_in is not None and not fan_in > 0):
                raise InvalidArgument(
                    f"select: it returns {fan_in} for {local_name!r} of {type(layer).__name__}; return the fan-in of a "
                    "maskable parameter, a number above 0, and None for another"
                )
            if fan_in is not None:
                name = f"{prefix}.{local_name}" if prefix else local_name
                found.append(MaskableParameter(name, tuple(parameter.shape), fan_in))
    return tuple(found)


def refuse_moving_weights(module: nn.Module) -> None:
    """Check that no layer changes its weights when it is called.

    Raises:
        InvalidArgument: one does.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None:
            raise InvalidArgument(
                f"module: {name or type(layer).__name__!r} has max_norm={layer.max_norm}, and scales its weights whenever it is "
                "called, where they must stay frozen; set max_norm=None"
            )


def give_plain_gradients(module: nn.Module) -> None:
    """Have embeddings return the gradient of what they compute: dense, and not divided by how often a token occurs."""
    for layer in module.modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            layer.sparse = layer.scale_grad_by_freq = False


def zero_padding_rows(module: nn.Module, maskable: Iterable[MaskableParameter]) -> None:
    """Set the row of padding in maskable embeddings to 0, as torch has it: it gets no gradient, and adds nothing to a sum."""
    names = {entry.name for entry in maskable}
    of_masks = {id(parameter) for name, parameter in module.named_parameters() if name in names}
    for layer in module.modules():
        if isinstance(layer, nn.Embedding) and layer.padding_idx is not None and id(layer.weight) in of_masks:
            layer.weight[layer.padding_idx] = 0.0


def zero_biases(module: nn.Module) -> None:
    """Set the biases of layers that hold a maskable kind of weight to 0; normalisation keeps its own."""
    kinds = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED, nn.MultiheadAttention)
    for layer in module.modules():
        if isinstance(layer, kinds):
            for name, parameter in layer.named_parameters(recurse=False):
                if "bias" in name:
                    parameter.zero_()

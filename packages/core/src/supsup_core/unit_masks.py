"""Masks over units in place of weights: a bit for each scale of a normalisation layer (Appendix B.3, Eq. 8).

The paper multiplies the output of a batch norm without parameters by a mask over its units. That is a batch norm with parameters
whose scale is frozen at 1 and whose bias is 0: the mask multiplies the scale, and everything that holds for masks over weights
holds for these.
"""

import copy

import torch
from torch import Tensor, nn

from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.weight_init import WeightInit, keep_weights, signed_kaiming_constant

_BATCH_OR_INSTANCE = nn.modules.batchnorm._NormBase
_NORMALISATION = (_BATCH_OR_INSTANCE, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def normalisation_scale(layer: nn.Module, parameter: str) -> float | None:
    """Return the fan-in 1 of a normalisation layer's scale, None for every other parameter: a `Selector`."""
    return 1.0 if isinstance(layer, _NORMALISATION) and parameter == "weight" else None


def unit_widths(module: nn.Module) -> dict[str, int]:
    """Return the units of each normalisation layer, by the name of the scale that a mask covers (`bn1.weight`).

    A layer need not have a scale yet.
    """
    layers = ((name, layer) for name, layer in module.named_modules() if isinstance(layer, _NORMALISATION))
    return {f"{name}.weight" if name else "weight": torch.Size(_shape(layer)).numel() for name, layer in layers}


def unit_masked(module: nn.Module, seed: int, *, init: WeightInit = signed_kaiming_constant) -> FrozenNetwork:
    """Return a network whose masks cover the units of its normalisation layers.

    Weights are frozen as `FrozenNetwork` draws them. Every normalisation layer gets a frozen scale of 1, and a bias of 0 if it
    has one; what it had is dropped. Batch norm always uses the mean and variance of the batch at hand and keeps no running ones,
    so that nothing but its mask belongs to a task (Eq. 8): show it at least two images.

    Args:
        module: with normalisation layers (batch, instance, layer, group or RMS norm); it is copied.
        seed: decides the frozen weights.
        init: values of the linear and convolution weights.

    Raises:
        InvalidArgument: there is no normalisation layer, or no weight to freeze; or the seed is negative.
    """
    if not unit_widths(module):
        raise InvalidArgument(
            f"module={type(module).__name__}: it has no normalisation layer whose units masks could cover; add batch norm"
        )
    frozen = FrozenNetwork(module, seed, init=init)
    prepared = copy.deepcopy(frozen.module)
    for layer in prepared.modules():
        if isinstance(layer, _NORMALISATION):
            _freeze_scale(layer, torch.ones(_shape(layer), device=frozen.device, dtype=frozen.dtype))
    return FrozenNetwork(prepared, seed, select=normalisation_scale, init=keep_weights)


def _freeze_scale(layer: nn.Module, scale: Tensor) -> None:
    has_bias = "bias" in dict(layer.named_parameters(recurse=False))
    layer.weight = nn.Parameter(scale, requires_grad=False)
    if has_bias:
        layer.bias = nn.Parameter(torch.zeros_like(scale), requires_grad=False)
    if isinstance(layer, _BATCH_OR_INSTANCE):
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None


def _shape(layer: nn.Module) -> tuple[int, ...]:
    match layer:
        case nn.GroupNorm():
            return (layer.num_channels,)
        case nn.LayerNorm() | nn.RMSNorm():
            return tuple(layer.normalized_shape)
        case _BATCH_OR_INSTANCE():
            return (layer.num_features,)
        case _:
            raise AssertionError("unreachable: a layer of another kind")

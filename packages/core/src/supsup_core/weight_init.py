"""Values of the frozen weights W, bit-exact from a seed on every device (Section 3.1)."""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from supsup_core.random_streams import normal, signs, stream_key, symmetric_uniform

WeightInit: TypeAlias = Callable[[str, Tensor, float, int], Tensor]
"""(parameter name, current value, fan-in, seed) to the frozen value, of the same shape, dtype and device."""


def kaiming_std(fan_in: float) -> float:
    """Return the Kaiming-normal standard deviation sqrt(2 / fan_in), for a ReLU network."""
    return math.sqrt(2.0 / fan_in)


def signed_kaiming_constant(
    name: str, parameter: Float[Tensor, "*shape"], fan_in: float, seed: int
) -> Float[Tensor, "*shape"]:
    """Return weights that are +c or -c with equal probability, c = sqrt(2 / fan_in).

    The signs depend on the seed, the parameter's name and its shape, and on nothing else.
    """
    drawn = signs(stream_key(seed, "weights", name), parameter.shape, parameter.device)
    return drawn.to(parameter.dtype).mul_(kaiming_std(fan_in))


def kaiming_normal(name: str, parameter: Float[Tensor, "*shape"], fan_in: float, seed: int) -> Float[Tensor, "*shape"]:
    """Return normal weights of standard deviation sqrt(2 / fan_in): BatchE's W (Section 4)."""
    drawn = normal(stream_key(seed, "weights", name), parameter.shape, kaiming_std(fan_in), parameter.device)
    return drawn.to(parameter.dtype)


def xavier_normal(name: str, parameter: Float[Tensor, "*shape"], fan_in: float, seed: int) -> Float[Tensor, "*shape"]:
    """Return normal weights of standard deviation sqrt(2 / (fan_in + fan_out)): PSP's W.

    The fan-out of a weight of shape (out, in, ...) is out times the kernel's positions.
    """
    fan_out = parameter.shape[0] * math.prod(parameter.shape[2:])
    std = math.sqrt(2.0 / (fan_in + fan_out))
    return normal(stream_key(seed, "weights", name), parameter.shape, std, parameter.device).to(parameter.dtype)


def keep_weights(name: str, parameter: Float[Tensor, "*shape"], fan_in: float, seed: int) -> Float[Tensor, "*shape"]:
    """Return the weights as they are: the choice for a pretrained backbone."""
    return parameter.detach().clone()


def initial_scores(
    key: int, shape: tuple[int, ...], fan_in: float, device: torch.device | str = "cpu"
) -> Float[Tensor, "..."]:
    """Return fresh scores S, Kaiming uniform with a = sqrt(5): uniform on ±1/sqrt(fan_in), float32."""
    return symmetric_uniform(key, shape, 1.0 / math.sqrt(fan_in), device)

"""Any `nn.Module` as the frozen function f(x, W) of the paper, with a functional forward pass."""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call

from supsup_core.errors import InvalidArgument
from supsup_core.packed_bits import raw_bytes
from supsup_core.shapes import Weights
from supsup_core.weight_init import WeightInit, keep_weights, signed_kaiming_constant

_NORMALISATION = nn.modules.batchnorm._NormBase

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


@dataclass(frozen=True)
class TaskBuffer:
    """A running statistic of a normalisation layer, of which every task has its own."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
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


class FrozenNetwork:
    """The function f(x, W) with frozen W.

    The module given is copied and never changed. In the copy every maskable weight takes its value from `init`, and the biases
    of linear, convolution and attention layers become 0 (Section 3.1); all other parameters keep the values they have. With
    `init=keep_weights` nothing changes.

    Batch normalisation: running means and variances are part of a task's state (`task_buffers`). There are three ways to
    call the network: as `net(x, weights)` it uses the statistics that it is given; `on_batch_statistics` uses those of the
    batch, for a superposition, which has none of its own; `in_training` does that too, and updates the running statistics
    that it is given.

    A call puts weights into the module while it lasts, so two threads must not call one network at once; give each a copy.

    Args:
        module: any module whose forward takes one input.
        seed: decides the frozen weights, together with the names and shapes of the parameters.
        select: which parameters are maskable, and their fan-in.
        init: values of the maskable weights.

    Raises:
        InvalidArgument: no parameter is maskable, or the seed is negative.
    """

    def __init__(
        self,
        module: nn.Module,
        seed: int,
        *,
        select: Selector = maskable_fan_in,
        init: WeightInit = signed_kaiming_constant,
    ) -> None:
        if seed < 0:
            raise InvalidArgument(f"seed={seed}: a seed is a whole number from 0 up; choose another")
        self.seed = seed
        self._module = copy.deepcopy(module).requires_grad_(False).eval()
        self.maskable = _find_maskable(self._module, select)
        if not self.maskable:
            raise InvalidArgument(
                f"module={type(module).__name__}: it has no maskable parameter (linear, convolution, attention or "
                "embedding weight); pass select= to choose parameters yourself"
            )
        parameters = dict(self._module.named_parameters())
        for entry in self.maskable:
            parameters[entry.name].copy_(init(entry.name, parameters[entry.name], entry.fan_in, seed))
        if init is not keep_weights:
            _zero_biases(self._module)

    @property
    def frozen(self) -> dict[str, Tensor]:
        """The maskable weights W, by name, in the order of `maskable`."""
        parameters = dict(self._module.named_parameters())
        return {entry.name: parameters[entry.name] for entry in self.maskable}

    @property
    def num_bits(self) -> int:
        """Number of maskable weights: the bits of one supermask."""
        return sum(entry.size for entry in self.maskable)

    @property
    def task_buffers(self) -> tuple[TaskBuffer, ...]:
        """The running statistics of which every task has its own; empty for a network without them."""
        found = []
        for prefix, layer in self._module.named_modules():
            if isinstance(layer, _NORMALISATION):
                for local_name, buffer in layer.named_buffers(recurse=False):
                    if buffer.is_floating_point():
                        found.append(
                            TaskBuffer(f"{prefix}.{local_name}" if prefix else local_name, tuple(buffer.shape))
                        )
        return tuple(found)

    def fresh_buffers(self) -> dict[str, Tensor]:
        """Return a copy of the running statistics that the module came with, for a new task to train on."""
        buffers = dict(self._module.named_buffers())
        return {entry.name: buffers[entry.name].clone() for entry in self.task_buffers}

    @property
    def device(self) -> torch.device:
        """Where the frozen weights live."""
        return next(self._module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the maskable weights."""
        return next(iter(self.frozen.values())).dtype

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and values (as float32) of all parameters, and which of them are maskable.

        Two networks with one fingerprint give one mask the same meaning, whatever device they live on.
        """
        digest = hashlib.sha256()
        maskable = {entry.name for entry in self.maskable}
        for name, value in self._module.named_parameters():
            digest.update(repr((name, tuple(value.shape), name in maskable)).encode())
            digest.update(raw_bytes(value.to(torch.float32)))
        return digest.hexdigest()

    @property
    def module(self) -> nn.Module:
        """The frozen module, in evaluation mode. It is shared: look at it, do not change it."""
        return self._module

    def flatten(self, values: Mapping[str, Tensor]) -> Shaped[Tensor, " bits"]:
        """Join one tensor for each maskable parameter to a vector, in the order of `maskable`."""
        return torch.cat([values[entry.name].flatten() for entry in self.maskable])

    def unflatten(self, flat: Shaped[Tensor, "*rows bits"]) -> dict[str, Tensor]:
        """Undo `flatten`: views of the vector, or of each of several, by parameter name; leading axes stay in front."""
        parts = flat.split([entry.size for entry in self.maskable], dim=-1)
        return {entry.name: part.unflatten(-1, entry.shape) for entry, part in zip(self.maskable, parts, strict=True)}

    def __call__(
        self, x: Shaped[Tensor, "images *input"], weights: Weights | None = None
    ) -> Float[Tensor, "images *out"]:
        """Return f(x, W) with `weights` in place of the parameters and buffers that they name (Section 3.1).

        Raises:
            InvalidArgument: a name is unknown or a shape differs from the module's.
        """
        output: Tensor = functional_call(self._module, self._replaced(weights or {}), (x,), strict=True)
        return output

    def on_batch_statistics(self, x: Shaped[Tensor, "images *input"], weights: Weights) -> Float[Tensor, "images *out"]:
        """Return f(x, W) where batch normalisation uses the mean and variance of this batch and keeps nothing of them."""
        if not self.task_buffers:
            return self(x, weights)
        twin = self._without_statistics
        kept = {name for name, _ in twin.named_parameters()} | {name for name, _ in twin.named_buffers()}
        replaced = {name: value for name, value in self._replaced(weights).items() if name in kept}
        output: Tensor = functional_call(twin, replaced, (x,), strict=True)
        return output

    def in_training(self, x: Shaped[Tensor, "images *input"], weights: Weights) -> Float[Tensor, "images *out"]:
        """Return f(x, W) in training mode: batch statistics, dropout, and the running statistics in `weights` updated in place.

        Raises:
            InvalidArgument: as a call, or `weights` lacks a running statistic: the network's own are shared by all tasks; or
                statistics are averages over all batches (momentum=None), whose number would be shared as well.
        """
        for entry in self.task_buffers:
            if entry.name not in weights:
                raise InvalidArgument(f"weights: no {entry.name!r}; training updates it, so pass fresh_buffers() along")
        if any(isinstance(layer, _NORMALISATION) and layer.momentum is None for layer in self._module.modules()):
            raise InvalidArgument(
                "module: normalisation with momentum=None counts the batches of all tasks; give it a momentum"
            )
        replaced = self._replaced(weights)
        counters = {name: value.clone() for name, value in replaced.items() if not value.is_floating_point()}
        output: Tensor = functional_call(self._training, replaced | counters, (x,), strict=True)
        return output

    @cached_property
    def _training(self) -> nn.Module:
        """The module in training mode, on the same parameters."""
        return self._twin().train()

    @cached_property
    def _without_statistics(self) -> nn.Module:
        """The module without running statistics, on the same parameters."""
        twin = self._twin()
        for layer in twin.modules():
            if isinstance(layer, _NORMALISATION):
                layer.track_running_stats = False
                for name, _ in tuple(layer.named_buffers(recurse=False)):
                    setattr(layer, name, None)
        return twin

    def _twin(self) -> nn.Module:
        """Return a copy of the module that shares its parameters."""
        shared = {id(parameter): parameter for parameter in self._module.parameters()}
        return copy.deepcopy(self._module, shared)

    def _replaced(self, weights: Weights) -> dict[str, Tensor]:
        """Return all parameters and buffers, those in `weights` in place of the module's."""
        replaced = {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}
        for name, value in weights.items():
            if name not in replaced:
                raise InvalidArgument(
                    f"weights[{name!r}]: the module has no such parameter; known: {', '.join(replaced)}"
                )
            if value.shape != replaced[name].shape:
                raise InvalidArgument(
                    f"weights[{name!r}]: shape {tuple(value.shape)} where the module has "
                    f"{tuple(replaced[name].shape)}; pass one of that shape"
                )
            replaced[name] = value
        return replaced

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "FrozenNetwork":
        """Return this network on another device or in another floating-point type, with the same weights."""
        moved = copy.copy(self)
        moved._module = copy.deepcopy(self._module).to(device=device, dtype=dtype)
        for cached in ("fingerprint", "_training", "_without_statistics"):
            moved.__dict__.pop(cached, None)
        return moved


def _find_maskable(module: nn.Module, select: Selector) -> tuple[MaskableParameter, ...]:
    """Ask the selector about every parameter once; a tied parameter counts under its first name."""
    found, seen = [], set()
    for prefix, layer in module.named_modules():
        for local_name, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            fan_in = select(layer, local_name)
            if fan_in is not None:
                name = f"{prefix}.{local_name}" if prefix else local_name
                found.append(MaskableParameter(name, tuple(parameter.shape), fan_in))
    return tuple(found)


def _zero_biases(module: nn.Module) -> None:
    """Set the biases of layers that hold a maskable kind of weight to 0; normalisation keeps its own."""
    kinds = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED, nn.MultiheadAttention)
    for layer in module.modules():
        if isinstance(layer, kinds):
            for name, parameter in layer.named_parameters(recurse=False):
                if "bias" in name:
                    parameter.zero_()

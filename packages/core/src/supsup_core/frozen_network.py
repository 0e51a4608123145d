"""Any `nn.Module` as the frozen function f(x, W) of the paper, with a functional forward pass."""

import copy
import hashlib
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsIndex

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call

from supsup_core.errors import InvalidArgument
from supsup_core.inference_mode import outside_inference_mode
from supsup_core.maskable_weights import (
    Selector,
    find_maskable,
    give_plain_gradients,
    maskable_fan_in,
    refuse_moving_weights,
    zero_biases,
    zero_padding_rows,
)
from supsup_core.module_twins import NORMALISATION, ModuleTwins, forget_statistics
from supsup_core.packed_bits import as_compared, checksum, raw_bytes
from supsup_core.shapes import Weights
from supsup_core.weight_init import WeightInit, keep_weights, signed_kaiming_constant


@dataclass(frozen=True)
class TaskBuffer:
    """A running statistic of a normalisation layer, of which every task has its own."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class FrozenNetwork:
    """The function f(x, W) with frozen W.

    The module given is copied and never changed. In the copy every maskable weight takes its value from `init`, and the biases
    of linear, convolution and attention layers become 0 (Section 3.1), and so does the row of an embedding's padding; all other
    parameters keep the values they have. With `init=keep_weights` nothing changes. What keeps its values does not come from the
    seed: to open a bank in another process, load the module's `state_dict` there first (`unseeded` names them).

    The function has no memory: what a forward pass writes to a buffer is forgotten.

    Batch normalisation: running means and variances are part of a task's state (`task_buffers`). There are three ways to
    call the network: as `net(x, weights)` it uses the statistics that it is given; `on_batch_statistics` uses those of the
    batch, for a superposition, which has none of its own; `in_training` does that too, and updates the running statistics
    that it is given.

    Threads may call one network at once.

    Args:
        module: any module whose forward takes one input.
        seed: decides the frozen weights, together with the names and shapes of the parameters.
        select: which parameters are maskable, and their fan-in.
        init: values of the maskable weights.

    Raises:
        InvalidArgument: no parameter is maskable, or they are of several dtypes; the selector returns what is no fan-in; the
            seed is no whole number from 0 up; the init returns another shape; or a layer changes its weights when it is called.
    """

    @outside_inference_mode
    def __init__(
        self,
        module: nn.Module,
        seed: SupportsIndex,
        *,
        select: Selector = maskable_fan_in,
        init: WeightInit = signed_kaiming_constant,
    ) -> None:
        self.seed = _checked_seed(seed)
        self._module = copy.deepcopy(module).requires_grad_(False).eval()
        self._works_in_place = any(getattr(layer, "inplace", False) for layer in self._module.modules())
        refuse_moving_weights(self._module)
        give_plain_gradients(self._module)
        self.maskable = find_maskable(self._module, select)
        if not self.maskable:
            raise InvalidArgument(
                f"module={type(module).__name__}: it has no maskable parameter (linear, convolution, attention or "
                "embedding weight); pass select= to choose parameters yourself"
            )
        parameters = dict(self._module.named_parameters())
        dtypes = {parameters[entry.name].dtype for entry in self.maskable}
        if len(dtypes) > 1:
            found = " and ".join(sorted(map(str, dtypes)))
            raise InvalidArgument(
                f"module={type(module).__name__}: maskable weights are {found}; bring it to one dtype"
            )
        for entry in self.maskable:
            values = init(entry.name, parameters[entry.name], entry.fan_in, self.seed)
            if tuple(values.shape) != entry.shape:
                raise InvalidArgument(
                    f"init: shape {tuple(values.shape)} for {entry.name!r}; return one of {entry.shape}"
                )
            parameters[entry.name].copy_(values)
        if init is not keep_weights:
            zero_biases(self._module)
            zero_padding_rows(self._module, self.maskable)

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
            if isinstance(layer, NORMALISATION):
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
        """SHA-256 over names, shapes and values (as float32) of all parameters, and which are maskable; and of constant buffers.

        Of two networks with one fingerprint and one forward pass, a mask means the same, whatever device they live on. What the
        forward pass does between the layers, an activation for example, it cannot see. Running statistics are no part of it: they
        belong to tasks.
        """
        digest = hashlib.sha256()
        maskable = {entry.name for entry in self.maskable}
        for name, value in self._module.named_parameters():
            digest.update(repr((name, tuple(value.shape), name in maskable)).encode())
            digest.update(raw_bytes(as_compared(value)))
        for name, buffer in self._constant_buffers().items():
            digest.update(repr((name, tuple(buffer.shape), "buffer")).encode())
            digest.update(raw_bytes(as_compared(buffer)))
        return digest.hexdigest()

    @cached_property
    def unseeded(self) -> dict[str, str]:
        """Parameters and constant buffers that no mask covers, by name, with a checksum of their values (as float32).

        The seed does not decide them, and `fingerprint` covers them.
        """
        maskable = {entry.name for entry in self.maskable}
        values = {**dict(self._module.named_parameters()), **self._constant_buffers()}
        return {name: f"{checksum(as_compared(value)):08x}" for name, value in values.items() if name not in maskable}

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
        replaced, x = self._replaced(weights or {}), self._as_input(x)
        if torch.compiler.is_compiling():  # what is compiled takes the weights as arguments, and puts them nowhere
            return _called(self._module, replaced, x)
        with self._evaluating.one() as twin:
            return _called(twin, replaced, x)

    def on_batch_statistics(self, x: Shaped[Tensor, "images *input"], weights: Weights) -> Float[Tensor, "images *out"]:
        """Return f(x, W) where batch normalisation uses the mean and variance of this batch and keeps nothing of them.

        Raises:
            InvalidArgument: as a call, or the batch is too small for a mean and a variance.
        """
        if not self.task_buffers:
            return self(x, weights)
        with self._without_statistics.one() as twin:
            kept = {name for name, _ in twin.named_parameters()} | {name for name, _ in twin.named_buffers()}
            replaced = {name: value for name, value in self._replaced(weights).items() if name in kept}
            return _called(twin, replaced, self._as_input(x))

    def in_training(self, x: Shaped[Tensor, "images *input"], weights: Weights) -> Float[Tensor, "images *out"]:
        """Return f(x, W) in training mode: batch statistics, dropout, and the running statistics in `weights` updated in place.

        Whatever else the module would note in a buffer is forgotten: the function stays frozen.

        Raises:
            InvalidArgument: as a call, or `weights` lacks a running statistic: the network's own are shared by all tasks; or
                statistics are averages over all batches (momentum=None), whose number would be shared as well.
        """
        for entry in self.task_buffers:
            if entry.name not in weights:
                raise InvalidArgument(f"weights: no {entry.name!r}; training updates it, so pass fresh_buffers() along")
        if any(isinstance(layer, NORMALISATION) and layer.momentum is None for layer in self._module.modules()):
            raise InvalidArgument(
                "module: normalisation with momentum=None counts the batches of all tasks; give it a momentum"
            )
        with self._training.one() as twin:
            return _called(twin, self._replaced(weights), self._as_input(x))

    def _as_input(self, x: Shaped[Tensor, "images *input"]) -> Shaped[Tensor, "images *input"]:
        """Return the images, or a copy where layers that work in place might write over them."""
        return x.clone() if self._works_in_place else x

    @cached_property
    def _evaluating(self) -> ModuleTwins:
        return ModuleTwins(self._module, nn.Module.eval)

    @cached_property
    def _training(self) -> ModuleTwins:
        return ModuleTwins(self._module, nn.Module.train)

    @cached_property
    def _without_statistics(self) -> ModuleTwins:
        return ModuleTwins(self._module, forget_statistics)

    def __getstate__(self) -> dict[str, object]:
        """Return what a copy takes over: not the twins, which other threads may be calling."""
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, ModuleTwins)}

    def _constant_buffers(self) -> dict[str, Tensor]:
        """Return all buffers but those of normalisation layers."""
        of_tasks = {
            f"{prefix}.{name}" if prefix else name
            for prefix, layer in self._module.named_modules()
            if isinstance(layer, NORMALISATION)
            for name, _ in layer.named_buffers(recurse=False)
        }
        return {name: value for name, value in self._module.named_buffers() if name not in of_tasks}

    def _replaced(self, weights: Weights) -> dict[str, Tensor]:
        """Return all parameters and buffers, those in `weights` in place of the module's; of buffers that are not, copies."""
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
        own = {name: value.clone() for name, value in self._module.named_buffers() if name not in weights}
        return replaced | own

    @outside_inference_mode
    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "FrozenNetwork":
        """Return this network on another device or in another floating-point type, with the same weights."""
        moved = copy.copy(self)
        moved._module = copy.deepcopy(self._module).to(device=device, dtype=dtype)
        for cached in ("fingerprint", "unseeded"):
            moved.__dict__.pop(cached, None)
        return moved


def _checked_seed(seed: SupportsIndex) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise InvalidArgument(f"seed={seed}: a seed is a whole number from 0 up; choose another")
    return number


def _called(module: nn.Module, replaced: Mapping[str, Tensor], x: Tensor) -> Tensor:
    try:
        output: Tensor = functional_call(module, dict(replaced), (x,), strict=True)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InvalidArgument(
            "x: normalisation takes the mean and variance of the images shown, and these are too few; show two or more "
            "(images_per_guess)"
        ) from None
    return output

"""Optimisers on one tensor, in place.

The arithmetic and defaults of `torch.optim`, which the tests hold them to. Those import torch's compiler with their first step,
which is seconds in every process, and take a list of small tensors where all layers can lie in one.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from supsup_methods import machine_loops


class Optimizer(Protocol):
    """Moves values by their gradient."""

    def step(self, gradient: Tensor, share: float = 1.0) -> None:
        """Move the values against the gradient, at this share of the learning rate."""

    @property
    def state(self) -> Mapping[str, Tensor]:
        """What the next step needs beside the values: the tensors themselves, which steps change. Write to them to restore."""


class MakeOptimizer(Protocol):
    """Makes an optimiser."""

    def __call__(self, values: Tensor, learning_rate: float, *, steps: int = 0) -> Optimizer:
        """Return one that moves the values; `steps` is how many it will take, about, should that matter to it."""


class SGD:
    """x <- x - lr g."""

    state: Mapping[str, Tensor] = MappingProxyType({})
    """Nothing."""

    def __init__(self, values: Tensor, learning_rate: float, *, steps: int = 0) -> None:
        self._values = values
        self._learning_rate = learning_rate

    def step(self, gradient: Tensor, share: float = 1.0) -> None:
        """Move the values against the gradient, at this share of the learning rate."""
        self._values.sub_(gradient, alpha=share * self._learning_rate)


class RMSprop:
    """v <- 0.99 v + 0.01 g², x <- x - lr g / (sqrt(v) + 1e-8).

    Args:
        values: x.
        learning_rate: lr.
        mean_square: v to go on from; 0 by default. It is changed in place.
        steps: how many will be taken, about; of many a machine loop takes them, where there is one.
    """

    def __init__(
        self, values: Tensor, learning_rate: float, mean_square: Tensor | None = None, *, steps: int = 0
    ) -> None:
        self.mean_square = torch.zeros_like(values) if mean_square is None else mean_square
        self.learning_rate = learning_rate
        self.by_machine = machine_loops.suits(values, steps) and self.mean_square.is_contiguous()
        self._values = values
        self._scale = torch.empty(0 if self.by_machine else values.shape, dtype=values.dtype, device=values.device)

    @property
    def state(self) -> Mapping[str, Tensor]:
        """V, which steps change."""
        return {"mean_square": self.mean_square}

    def step(self, gradient: Tensor, share: float = 1.0) -> None:
        """Move the values against the gradient, at this share of the learning rate."""
        if self.by_machine:
            machine_loops.move_by_rmsprop(self._values, gradient, self.mean_square, share * self.learning_rate)
            return
        self.mean_square.mul_(0.99).addcmul_(gradient, gradient, value=1 - 0.99)
        torch.sqrt(self.mean_square, out=self._scale).add_(1e-8)
        self._values.addcdiv_(gradient, self._scale, value=-share * self.learning_rate)


class Adam:
    """m <- 0.9 m + 0.1 g, v <- 0.999 v + 0.001 g², x <- x - lr m̂ / (sqrt(v̂) + 1e-8), both without bias: m̂ = m / (1 - 0.9ᵗ).

    Args:
        values: x.
        learning_rate: lr.
        weight_decay: λ of the λ x that is added to every gradient, as the slope of λ x² / 2.
        steps: how many will be taken, about.
    """

    def __init__(self, values: Tensor, learning_rate: float, weight_decay: float = 0.0, *, steps: int = 0) -> None:
        self._values = values
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._mean = torch.zeros_like(values)
        self._mean_square = torch.zeros_like(values)
        self._scale = torch.empty_like(values)
        self._steps = torch.zeros((), dtype=torch.int64)

    @property
    def state(self) -> Mapping[str, Tensor]:
        """M, v and t, which steps change."""
        return {"mean": self._mean, "mean_square": self._mean_square, "steps": self._steps}

    def step(self, gradient: Tensor, share: float = 1.0) -> None:
        """Move the values against the gradient, at this share of the learning rate."""
        self._steps += 1
        steps = int(self._steps)
        if self._weight_decay:
            gradient = gradient.add(self._values, alpha=self._weight_decay)
        self._mean.lerp_(gradient, 1 - 0.9)
        self._mean_square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        torch.sqrt(self._mean_square, out=self._scale).div_((1 - 0.999**steps) ** 0.5).add_(1e-8)
        self._values.addcdiv_(self._mean, self._scale, value=-share * self._learning_rate / (1 - 0.9**steps))


OptimizerName: TypeAlias = Literal["rmsprop", "adam"]

OPTIMIZERS: Mapping[OptimizerName, MakeOptimizer] = MappingProxyType({"rmsprop": RMSprop, "adam": Adam})
"""What a recipe can name."""

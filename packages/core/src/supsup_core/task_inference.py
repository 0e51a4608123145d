"""Which task does this input belong to? The slope of an objective along each task's context tells (Section 3.3, App. A).

Nothing in this module ever sees a label or a task's identity: its inputs are images, frozen weights and contexts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.shapes import Objective, Weights


@runtime_checkable
class ContextStore(Protocol):
    """The three questions that task inference asks about k learned tasks.

    With W_i the effective parameters of task i, and beliefs α on the simplex:
    """

    def __len__(self) -> int:
        """Return k."""

    def weights(self, task: int) -> Weights:
        """Return W_i."""

    def blend(self, beliefs: Float[Tensor, " tasks"]) -> Weights:
        """Return W(α) = sum_i α_i W_i."""

    def slopes(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, " tasks"]:
        """Return dO/dα_i = <dO/dW(α), W_i>, one for each task."""


@dataclass(frozen=True)
class Guess:
    """The answer of a search over tasks.

    Attributes:
        task: the task inferred.
        beliefs: α before each round; for One-Shot the uniform ones alone.
        slopes: dO/dα of each round; the steepest descent wins.
    """

    task: int
    beliefs: tuple[Float[Tensor, " tasks"], ...]
    slopes: tuple[Float[Tensor, " tasks"], ...]


def belief_slopes(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Float[Tensor, "images *input"],
    beliefs: Float[Tensor, " tasks"],
) -> Float[Tensor, " tasks"]:
    """Return dO/dα, where O is the mean objective of f(x, W(α)) over the images.

    One forward and one backward pass whatever the number of tasks, then one pass over the stored contexts.
    """
    blended = {name: value.detach().requires_grad_() for name, value in store.blend(beliefs).items()}
    with torch.enable_grad():
        value = objective(net(x, blended)).mean()
        gradients = torch.autograd.grad(value, list(blended.values()))
    return store.slopes(dict(zip(blended, gradients, strict=True)))


def one_shot(objective: Objective, net: FrozenNetwork, store: ContextStore, x: Float[Tensor, "images *input"]) -> Guess:
    """Return argmax_i -dO/dα_i at the uniform beliefs α = 1/k (Algorithm 1); of equals, the lowest task.

    Raises:
        InvalidArgument: the store is empty, there is no image, or the slopes are not finite.
    """
    if len(store) == 0:
        raise InvalidArgument("store: it holds no task to choose from; append at least one")
    if x.shape[0] == 0:
        raise InvalidArgument(f"x: shape {tuple(x.shape)} holds no image; show at least one")
    beliefs = torch.full((len(store),), 1.0 / len(store), dtype=net.dtype, device=net.device)
    slopes = belief_slopes(objective, net, store, x, beliefs)
    if not bool(torch.isfinite(slopes).all()):
        raise InvalidArgument(
            "x: the slopes are not finite, so no task stands out; check the input for NaN or infinity"
        )
    return Guess(task=int(slopes.argmin()), beliefs=(beliefs,), slopes=(slopes,))

"""Learning supermasks over frozen weights, one or several at once, by the straight-through gradient of scores (Section 3.1)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from supsup_core import FrozenNetwork, InvalidArgument, Masks, Weights, initial_scores
from supsup_core.random_streams import stream_key
from supsup_datasets import Batch
from torch import Tensor
from torch.nn.functional import cross_entropy

from supsup_methods.bounds import Bounds
from supsup_methods.optimizers import Optimizer, RMSprop
from supsup_methods.training_length import BatchesATask

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class MaskTraining(BatchesATask):
    """Training of one task's mask; the defaults are the paper's for MNIST."""

    learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-4
    """Learning rate of RMSprop on the scores."""
    precision: Precision = "float32"
    """What matrix products multiply; scores stay float32. bfloat16 pays where the hardware has units for it, and only there."""


def fresh_scores(net: FrozenNetwork, seed: int, task: int) -> Tensor:
    """Return the initial scores of a task, Kaiming uniform with a = sqrt(5), flattened over all maskable weights."""
    scores = {}
    for entry in net.maskable:
        key = stream_key(seed, "scores", task, entry.name)
        scores[entry.name] = initial_scores(key, entry.shape, entry.fan_in, net.device)
    return net.flatten(scores).to(net.dtype)


def fresh_mask(net: FrozenNetwork, seed: int, task: int) -> Masks:
    """Return the mask that a task starts from: 1[S >= 0] of its initial scores."""
    return net.unflatten(fresh_scores(net, seed, task) >= 0)


def train_threshold_mask(
    net: FrozenNetwork,
    scores: Tensor,
    batches: Iterable[Batch],
    learning_rate: float,
    on_batch: Callable[[], None] = lambda: None,
    *,
    precision: Precision = "float32",
    optimizer: Callable[[Tensor, float], Optimizer] = RMSprop,
) -> Masks:
    """Train `scores` in place on the cross-entropy over all outputs, with RMSprop by default, and return M = 1[S >= 0].

    The same arithmetic as autograd through `supsup_core.threshold`, without a graph over the mask: with W(M) = W ⊙ M as
    the leaf, the straight-through gradient is dL/dS = W ⊙ dL/dW(M). One buffer holds all layers, and it is reused.

    Raises:
        InvalidArgument: the scores are not finite at the end; the learning rate is too high.
    """
    steps = MaskSteps(net, scores, optimizer(scores, learning_rate), task_loss(net, precision))
    for batch in batches:
        steps.take(batch)
        on_batch()
    check_finite(scores, learning_rate)
    return net.unflatten(scores >= 0)


def train_side_by_side(
    net: FrozenNetwork,
    scores: Tensor,
    batches: Iterable[Batch],
    learning_rate: float,
    on_batch: Callable[[], None] = lambda: None,
    *,
    precision: Precision = "float32",
) -> list[Masks]:
    """Train the scores of several tasks in place, all in each step, and return their masks.

    Each task sees what `train_threshold_mask` would show it: the tasks share nothing but W. On a GPU this costs little more
    than one task; on a CPU it saves nothing.

    Args:
        net: the network.
        scores: of shape (tasks, bits).
        batches: with a leading axis for tasks (`supsup_datasets.TaskGroup`).
        learning_rate: of RMSprop.
        on_batch: called after each step, once for each task.
        precision: of matrix products.

    Raises:
        InvalidArgument: the scores are not finite at the end; the learning rate is too high.
    """
    forward = torch.func.vmap(lambda weights, images: net(images, weights))

    def loss(weights: Weights, batch: Batch) -> Tensor:
        with matrix_products(net, precision):
            logits = forward(weights, batch.images).flatten(0, 1)
        each = cross_entropy(logits.to(net.dtype), batch.labels.flatten(), reduction="none")
        return each.view_as(batch.labels).mean(dim=1).sum()  # the sum: a task's gradient is that of its own mean

    steps = MaskSteps(net, scores, RMSprop(scores, learning_rate), loss)
    for batch in batches:
        steps.take(batch)
        for _ in range(len(scores)):
            on_batch()
    check_finite(scores, learning_rate)
    return [net.unflatten(mask) for mask in scores >= 0]


def matrix_products(net: FrozenNetwork, precision: Precision) -> torch.autocast:
    """Return a context in which the network's matrix products, and what they remember for the backward pass, are so precise."""
    return torch.autocast(net.device.type, torch.bfloat16, enabled=precision == "bfloat16")


Loss: TypeAlias = Callable[[Weights, Batch], Tensor]
"""Effective weights and a batch to what is minimised."""


def task_loss(net: FrozenNetwork, precision: Precision = "float32") -> Loss:
    """Return the cross-entropy over all outputs, of one task."""

    def loss(weights: Weights, batch: Batch) -> Tensor:
        with matrix_products(net, precision):
            logits = net(batch.images, weights)
        return cross_entropy(logits.to(net.dtype), batch.labels)

    return loss


class MaskSteps:
    """Training steps on scores, which they change in place; the tensors that they need are made once.

    Args:
        net: the network.
        scores: of shape (bits,) or (tasks, bits).
        optimizer: that moves them.
        loss: of the effective weights.
    """

    def __init__(self, net: FrozenNetwork, scores: Tensor, optimizer: Optimizer, loss: Loss) -> None:
        self._scores, self._optimizer, self._loss = scores, optimizer, loss
        self._frozen = net.flatten(net.frozen)
        self._effective, self._gradient = torch.empty_like(scores), torch.empty_like(scores)
        self._leaves = {name: view.requires_grad_() for name, view in net.unflatten(self._effective).items()}

    def take(self, batch: Batch) -> None:
        """Take one step: the straight-through gradient is dL/dS = W ⊙ dL/dW(M) with W(M) = W ⊙ 1[S >= 0]."""
        with torch.no_grad():
            self._effective.copy_(self._scores).ge_(0.0).mul_(self._frozen)
        by_layer = torch.autograd.grad(self._loss(self._leaves, batch), list(self._leaves.values()))
        flat = [part.flatten(self._scores.ndim - 1) for part in by_layer]
        torch.cat(flat, dim=-1, out=self._gradient).mul_(self._frozen)
        self._optimizer.step(self._gradient)


def check_finite(scores: Tensor, learning_rate: float) -> None:
    """Make sure that a training went well.

    Raises:
        InvalidArgument: the scores are not finite; the learning rate is too high.
    """
    if not bool(torch.isfinite(scores).all()):
        raise InvalidArgument(f"learning_rate={learning_rate}: the scores diverged to infinity or NaN; lower it")

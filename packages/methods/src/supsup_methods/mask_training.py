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

    def loss(weights: Weights, batch: Batch) -> Tensor:
        with matrix_products(net, precision):
            logits = net(batch.images, weights)
        return cross_entropy(logits.to(net.dtype), batch.labels)

    _train(scores, optimizer(scores, learning_rate), net, batches, loss, on_batch)
    _check_finite(scores, learning_rate)
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

    def after_step() -> None:
        for _ in range(len(scores)):
            on_batch()

    _train(scores, RMSprop(scores, learning_rate), net, batches, loss, after_step)
    _check_finite(scores, learning_rate)
    return [net.unflatten(mask) for mask in scores >= 0]


def matrix_products(net: FrozenNetwork, precision: Precision) -> torch.autocast:
    """Return a context in which the network's matrix products, and what they remember for the backward pass, are so precise."""
    return torch.autocast(net.device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _train(
    scores: Tensor,
    optimizer: Optimizer,
    net: FrozenNetwork,
    batches: Iterable[Batch],
    loss: Callable[[Weights, Batch], Tensor],
    on_batch: Callable[[], None],
) -> None:
    frozen = net.flatten(net.frozen)
    effective, gradient = torch.empty_like(scores), torch.empty_like(scores)
    leaves = {name: view.requires_grad_() for name, view in net.unflatten(effective).items()}
    for batch in batches:
        with torch.no_grad():
            effective.copy_(scores).ge_(0.0).mul_(frozen)
        by_layer = torch.autograd.grad(loss(leaves, batch), list(leaves.values()))
        flat = [part.flatten(scores.ndim - 1) for part in by_layer]
        torch.cat(flat, dim=-1, out=gradient).mul_(frozen)
        optimizer.step(gradient)
        on_batch()


def _check_finite(scores: Tensor, learning_rate: float) -> None:
    if not bool(torch.isfinite(scores).all()):
        raise InvalidArgument(f"learning_rate={learning_rate}: the scores diverged to infinity or NaN; lower it")

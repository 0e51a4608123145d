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
from supsup_methods.optimizers import RMSprop

_CACHED_WEIGHTS = 2**16

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class MaskTraining:
    """Training of one task's mask; the defaults are the paper's for MNIST."""

    batches: Annotated[int, Bounds(ge=1, le=10_000_000)] = 1000
    """Training batches for each task."""
    batch_size: Annotated[int, Bounds(ge=1, le=1_000_000)] = 128
    """Images in a batch."""
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
) -> Masks:
    """Train `scores` in place with RMSprop on the cross-entropy over all outputs, and return M = 1[S >= 0].

    The same arithmetic as autograd through `supsup_core.threshold`, without a graph over the mask: with W(M) = W ⊙ M as
    the leaf, the straight-through gradient is dL/dS = W ⊙ dL/dW(M). One buffer holds all layers, and it is reused.

    Raises:
        InvalidArgument: the scores are not finite at the end; the learning rate is too high.
    """

    def loss(weights: Weights, batch: Batch) -> Tensor:
        with matrix_products(net, precision):
            logits = net(batch.images, weights)
        return cross_entropy(logits.to(net.dtype), batch.labels)

    _train(net, scores, batches, learning_rate, loss, on_batch)
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

    _train(net, scores, batches, learning_rate, loss, after_step)
    return [net.unflatten(mask) for mask in scores >= 0]


def matrix_products(net: FrozenNetwork, precision: Precision) -> torch.autocast:
    """Return a context in which the network's matrix products, and what they remember for the backward pass, are so precise."""
    return torch.autocast(net.device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _train(
    net: FrozenNetwork,
    scores: Tensor,
    batches: Iterable[Batch],
    learning_rate: float,
    loss: Callable[[Weights, Batch], Tensor],
    on_batch: Callable[[], None],
) -> None:
    effective = torch.empty_like(scores)
    leaves = {name: view.requires_grad_() for name, view in net.unflatten(effective).items()}
    pieces = _pieces(net, scores, effective, learning_rate)
    with torch.no_grad():
        for piece in pieces:
            piece.mask()
    for batch in batches:
        by_layer = torch.autograd.grad(loss(leaves, batch), list(leaves.values()))
        gradient_pieces = [part for layer in by_layer for part in _split(layer.flatten(scores.ndim - 1))]
        with torch.no_grad():
            for piece, gradient in zip(pieces, gradient_pieces, strict=True):
                piece.step(gradient)
        on_batch()
    if not bool(torch.isfinite(scores).all()):
        raise InvalidArgument(f"learning_rate={learning_rate}: the scores diverged to infinity or NaN; lower it")


@dataclass(frozen=True)
class _Piece:
    """Some weights of a layer, small enough that a step's operations on them find them in the processor's cache."""

    scores: Tensor
    frozen: Tensor
    effective: Tensor
    optimizer: RMSprop

    def mask(self) -> None:
        """Set W ⊙ 1[S >= 0]."""
        self.effective.copy_(self.scores).ge_(0.0).mul_(self.frozen)

    def step(self, gradient: Tensor) -> None:
        """Move the scores against W ⊙ dL/dW(M), which takes the place of the gradient given, and mask anew."""
        self.optimizer.step(gradient.mul_(self.frozen))
        self.mask()


def _pieces(net: FrozenNetwork, scores: Tensor, effective: Tensor, learning_rate: float) -> list[_Piece]:
    sizes = [entry.size for entry in net.maskable]
    layers = zip(*(flat.split(sizes, dim=-1) for flat in (scores, net.flatten(net.frozen), effective)), strict=True)
    parts = [part for layer in layers for part in zip(*map(_split, layer), strict=True)]
    scratch = torch.empty(max(score.numel() for score, _, _ in parts), dtype=scores.dtype, device=scores.device)
    return [
        _Piece(score, frozen, mask, RMSprop(score, learning_rate, scratch[: score.numel()].view(score.shape)))
        for score, frozen, mask in parts
    ]


def _split(flat: Tensor) -> tuple[Tensor, ...]:
    """Split the weights of a layer; where an operation is a launch on another device, not at all."""
    return flat.split(_CACHED_WEIGHTS, dim=-1) if flat.device.type == "cpu" else (flat,)

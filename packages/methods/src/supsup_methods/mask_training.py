"""Learning supermasks over frozen weights, one or several at once, by the straight-through gradient of scores (Section 3.1)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from supsup_core import FrozenNetwork, InvalidArgument, Masks, Weights
from supsup_datasets import Batch
from torch import Tensor
from torch.nn.functional import cross_entropy

from supsup_methods import machine_loops
from supsup_methods.bounds import Bounds
from supsup_methods.gradients import (
    ByAutograd,
    Gradients,
    Loss,
    chain_gradients,
    cross_entropy_loss,
    forward_gradients,
    network_gradients,
)
from supsup_methods.mask_rules import MaskRule, Threshold, fresh_scores
from supsup_methods.optimizers import OPTIMIZERS, MakeOptimizer, Optimizer, OptimizerName, RMSprop
from supsup_methods.precision import Precision, matrix_products
from supsup_methods.training_length import TaskTraining
from supsup_methods.training_loop import TrainingLoop


@dataclass(frozen=True)
class MaskTraining(TaskTraining):
    """Training of one task's mask; the defaults are the paper's for MNIST."""

    learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-4
    """Learning rate on the scores."""
    optimizer: OptimizerName = "rmsprop"
    """What moves the scores: RMSprop on MNIST, Adam on SplitCIFAR100 and SplitImageNet (Appendix D)."""


def fresh_mask(net: FrozenNetwork, seed: int, task: int) -> Masks:
    """Return the mask that a task starts from: 1[S >= 0] of its initial scores."""
    return net.unflatten(fresh_scores(net, seed, task) >= 0)


def train_masks(
    loop: TrainingLoop,
    training: MaskTraining,
    scores: Tensor,
    rule: MaskRule,
    batches: Callable[[int], Iterable[Batch]],
    buffers: Mapping[str, Tensor],
) -> Tensor:
    """Train scores in place on the cross-entropy over all outputs, and return their masks as flat bits.

    Several tasks at once share nothing but W: each sees what it would see alone. On a GPU this costs little more than one task;
    on a CPU it saves nothing.

    Args:
        loop: the steps to take.
        training: the optimiser and its rate.
        scores: of shape (bits,), or (tasks, bits) for several tasks at once.
        rule: scores to masks.
        batches: from a number of batches to pass over to those that follow; with a leading axis where scores have one.
        buffers: running statistics of normalisation layers, for one task; steps update them.

    Raises:
        InvalidArgument: the scores are not finite at the end; the learning rate is too high.
    """
    net = loop.net
    precision = training.precision
    gradients = task_gradients(net, precision, buffers) if scores.ndim == 1 else _gradients_of_several(net, precision)
    optimizer = OPTIMIZERS[training.optimizer](scores, training.learning_rate, steps=loop.steps)
    steps = MaskSteps(net, scores, optimizer, gradients, rule)
    loop.run(batches, steps.take, {"scores": scores, **optimizer.state, **buffers})
    check_finite(scores, training.learning_rate)
    return rule.mask(scores)


def train_threshold_mask(
    net: FrozenNetwork,
    scores: Tensor,
    batches: Iterable[Batch],
    learning_rate: float,
    on_batch: Callable[[], None] = lambda: None,
    *,
    precision: Precision = "float32",
    optimizer: MakeOptimizer = RMSprop,
) -> Masks:
    """Train `scores` in place on the cross-entropy over all outputs, at one rate, and return M = 1[S >= 0].

    Raises:
        InvalidArgument: the scores are not finite at the end; the learning rate is too high.
    """
    steps = MaskSteps(net, scores, optimizer(scores, learning_rate), task_gradients(net, precision))
    for batch in batches:
        steps.take(batch)
        on_batch()
    check_finite(scores, learning_rate)
    return net.unflatten(scores >= 0)


def task_loss(
    net: FrozenNetwork, precision: Precision = "float32", buffers: Mapping[str, Tensor] | None = None
) -> Loss:
    """Return the cross-entropy over all outputs, of one task.

    Args:
        net: the network.
        precision: of matrix products.
        buffers: running statistics, and whatever else layers do in training they do then; None where they should not.
    """
    if buffers is None:
        return cross_entropy_loss(net, precision, net)
    return cross_entropy_loss(net, precision, lambda images, weights: net.in_training(images, {**weights, **buffers}))


def task_gradients(
    net: FrozenNetwork, precision: Precision = "float32", buffers: Mapping[str, Tensor] | None = None
) -> Gradients:
    """Return the gradients of `task_loss`."""
    if buffers is None:
        return chain_gradients(net, precision, {}) or forward_gradients(net, precision, net)
    return network_gradients(net, precision, buffers)


def _gradients_of_several(net: FrozenNetwork, precision: Precision) -> Gradients:
    """Return the gradients of the sum of the losses of several tasks, of which each has an axis of weights and of images."""
    forward = torch.func.vmap(lambda weights, images: net(images, weights))

    def loss(weights: Weights, batch: Batch) -> Tensor:
        with matrix_products(net, precision):
            logits = forward(weights, batch.images).flatten(0, 1)
        each = cross_entropy(logits.to(net.dtype), batch.labels.flatten(), reduction="none")
        return each.view_as(batch.labels).mean(dim=1).sum()  # the sum: a task's gradient is that of its own mean

    return ByAutograd(loss)


class MaskSteps:
    """Training steps on scores, which they change in place; the tensors that they need are made once.

    The same arithmetic as autograd through `supsup_core.threshold` or `supsup_core.top_k`, without a graph over the mask: with
    W(M) = W ⊙ M, the gradient of the mask is dL/dM = W ⊙ dL/dW(M). One buffer holds all layers, and it is reused.

    Args:
        net: the network.
        scores: of shape (bits,) or (tasks, bits). Others may change them until the first step.
        optimizer: that moves them; by a machine loop where it has one, and the mask is a threshold's.
        gradients: dL/dW(M).
        rule: scores to masks.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        scores: Tensor,
        optimizer: Optimizer,
        gradients: Gradients,
        rule: MaskRule | None = None,
    ) -> None:
        self._scores, self._optimizer, self._gradients, self._rule = scores, optimizer, gradients, rule or Threshold()
        self._frozen = net.flatten(net.frozen)
        self._effective, self._gradient = torch.empty_like(scores), torch.empty_like(scores)
        self._weights, self._parts = net.unflatten(self._effective), net.unflatten(self._gradient)
        alone = scores.ndim == 1 and type(self._rule) is Threshold
        self._rmsprop = optimizer if alone and isinstance(optimizer, RMSprop) and optimizer.by_machine else None
        self._is_written = False  # whether W ⊙ M is that of the scores

    @torch.no_grad()
    def take(self, batch: Batch, share: float = 1.0) -> None:
        """Take one step, at this share of the learning rate."""
        if not self._is_written:
            self._rule.write_mask(self._scores, self._effective)
            self._effective.mul_(self._frozen)
        self._gradients.write(self._weights, batch, self._parts)
        if self._rmsprop is not None:
            rate = share * self._rmsprop.learning_rate
            square, written = self._rmsprop.mean_square, self._effective
            machine_loops.move_mask_by_rmsprop(self._scores, self._gradient, square, self._frozen, written, rate)
            self._is_written = True
            return
        self._gradient.mul_(self._frozen)
        self._rule.to_scores(self._scores, self._gradient)
        self._optimizer.step(self._gradient, share)


def check_finite(scores: Tensor, learning_rate: float) -> None:
    """Make sure that a training went well.

    Raises:
        InvalidArgument: the scores are not finite; the learning rate is too high.
    """
    if not bool(torch.isfinite(scores).all()):
        raise InvalidArgument(f"learning_rate={learning_rate}: the scores diverged to infinity or NaN; lower it")

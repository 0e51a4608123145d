"""Trying every task's context: whose network is surest of its output (Appendix C)? No gradient, k forward passes.

Where One-Shot asks one superposition of all tasks, this asks each task's own network, f(x, W_i), and answers with the task
whose objective is lowest, argmin_i O(f(x, W_i)) (Eq. 15). It costs k forward passes where One-Shot costs one pass and its
gradient, and it is what a superposition stands in for. As nothing is differentiated, an objective may be anything that is
low where the network is sure: `max_confidence` or `max_logit` as well as `entropy`.

Contexts of rank one need no weights of their own: their vectors multiply a layer's inputs and outputs, so many tasks go
through the frozen weights in one matrix product (ABatchE, Eqs. 13 and 14).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from supsup_core.calibration import answer_confidences
from supsup_core.context_stores import ContextStore, RankOneStore
from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.image_groups import image_groups, refuse_unanswerable
from supsup_core.linear_chain import LinearChain
from supsup_core.over_groups import over_groups
from supsup_core.shapes import Objective

# Pixels of images that go through a network at once; its layers may be several times as wide.
_IMAGE_FLOATS = 2**21
# Inputs and outputs of a chain's layers that may be in memory at once, those of repeated images too.
_ACTIVATION_FLOATS = 2**22


@dataclass(frozen=True)
class Trial:
    """The answer of trying every task.

    Attributes:
        task: the task of lowest value; of equals, the lowest.
        values: the mean objective of the images under each task.
    """

    task: int
    values: Float[Tensor, " tasks"]

    def confidence(self, temperature: float = 1.0) -> float:
        """Return the answer's share of softmax(-values / temperature).

        Raises:
            InvalidArgument: as `answer_confidences`.
        """
        answer = torch.tensor([self.task], device=self.values.device)
        return float(answer_confidences(self.values.unsqueeze(0), answer, temperature))


@dataclass(frozen=True)
class Trials:
    """The answers of trying every task for each image, or group of images.

    Attributes:
        tasks: the task of lowest value for each; of equals, the lowest.
        values: the mean objective of its images under each task.
    """

    tasks: Int64[Tensor, " guesses"]
    values: Float[Tensor, "guesses tasks"]

    def confidences(self, temperature: float = 1.0) -> Float[Tensor, " guesses"]:
        """Return the answer's share of softmax(-values / temperature) for each guess.

        Raises:
            InvalidArgument: as `answer_confidences`.
        """
        return answer_confidences(self.values, self.tasks, temperature)


def every_task(
    objective: Objective, net: FrozenNetwork, store: ContextStore, x: Shaped[Tensor, "images *input"]
) -> Trial:
    """Return argmin_i of the mean of O(f(x, W_i)) over the images, which share one task (Eq. 15); of equals, the lowest task.

    Args:
        objective: low where a network is sure of its output; it need not be differentiable.
        net: the network.
        store: the contexts of k tasks.
        x: the images.

    Raises:
        InvalidArgument: the store is empty, there is no image, or a value is not finite.
    """
    trials = every_task_each(objective, net, store, x, max(1, len(x)))
    return Trial(int(trials.tasks), trials.values[0])


def every_task_each(
    objective: Objective,
    net: FrozenNetwork,
    store: ContextStore,
    x: Shaped[Tensor, "images *input"],
    images_per_guess: int = 1,
) -> Trials:
    """Return what `every_task` says of each image alone, or of each `images_per_guess` images in a row that share a task.

    Each task's weights are formed once, for all images; no more than a chunk of images goes through the network at once. Where
    images may see each other on their way, they see those of their own guess, and no guess is taken apart. In a chain of
    linear layers under contexts of rank one no weights are formed, and chunks are of tasks and images.

    Raises:
        InvalidArgument: as `every_task`, or the images are not whole groups.
    """
    groups = image_groups(x, images_per_guess)
    refuse_unanswerable(store, groups)
    of_images = image_values([objective], net, store, groups.flatten(0, 1))
    if of_images is None:
        with torch.no_grad():
            values = _finite(_values_of_groups(objective, net, store, groups))
    else:
        values = of_images[0].unflatten(0, (len(groups), -1)).mean(dim=1)
    return Trials(values.argmin(dim=1), values)  # argmin is the first of equals


@torch.no_grad()
def image_values(
    objectives: Sequence[Objective], net: FrozenNetwork, store: ContextStore, x: Shaped[Tensor, "images *input"]
) -> Float[Tensor, "objectives images tasks"] | None:
    """Return each O(f(x, W_i)) of each image alone, from the same forward pass for all objectives.

    The means over any images are what `every_task_each` answers by for a guess from these, so that guesses by several
    objectives and from several numbers of images cost no more than those of one.

    Args:
        objectives: as for `every_task`.
        net: the network.
        store: the contexts of k tasks.
        x: the images.

    Returns:
        the values, or None where images may see each other on their way: in all networks but chains of linear layers.

    Raises:
        InvalidArgument: as `every_task`, or no objective is given.
    """
    refuse_unanswerable(store, x)
    if not objectives:
        raise InvalidArgument("objectives: none is given; pass one or more")
    chain = LinearChain.of(net)
    if chain is None:
        return None
    if isinstance(store, RankOneStore):
        return _finite(_values_by_factors(objectives, chain, store, x))
    return _finite(_values_by_weights(objectives, net, chain, store, x))


def _finite(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return values as they are.

    Raises:
        InvalidArgument: one is not finite.
    """
    if not bool(torch.isfinite(values).all()):
        raise InvalidArgument(
            "x: the values are not finite, so no task stands out; check the input for NaN or infinity"
        )
    return values


def _values_of_groups(
    objective: Objective, net: FrozenNetwork, store: ContextStore, groups: Shaped[Tensor, "groups shown *input"]
) -> Float[Tensor, "groups tasks"]:
    """Return the mean objective of each group under each task, in any network: a group's images may see each other."""
    values = torch.empty((len(groups), len(store)), dtype=net.dtype, device=net.device)
    if len(groups) == 1:
        for task in range(len(store)):
            values[:, task] = objective(net(groups[0], store.weights(task))).mean()
        return values
    rows = torch.arange(len(groups)).split(max(1, _IMAGE_FLOATS // max(1, groups[0].numel())))
    for task in range(len(store)):
        weights = store.weights(task)
        for part in rows:
            logits = over_groups(lambda images, weights=weights: net(images, weights), groups[part])
            values[part, task] = objective(logits.flatten(0, 1)).unflatten(0, logits.shape[:2]).flatten(1).mean(dim=1)
    return values


def _values_by_weights(
    objectives: Sequence[Objective],
    net: FrozenNetwork,
    chain: LinearChain,
    store: ContextStore,
    images: Shaped[Tensor, "images *input"],
) -> Float[Tensor, "objectives images tasks"]:
    """Return the objectives of each image under each task's weights, in a network that takes each image alone."""
    values = torch.empty((len(objectives), len(images), len(store)), dtype=net.dtype, device=net.device)
    parts = images.split(_images_at_once(chain))
    for task in range(len(store)):
        weights = store.weights(task)
        values[..., task] = torch.cat([_per_image(objectives, net(part, weights)) for part in parts], dim=1)
    return values


def _values_by_factors(
    objectives: Sequence[Objective], chain: LinearChain, store: RankOneStore, images: Shaped[Tensor, "images *input"]
) -> Float[Tensor, "objectives images tasks"]:
    """Return the objectives of each image under each task, several tasks in one matrix product (Eq. 14)."""
    at_once = _images_at_once(chain)
    columns = []
    tasks_at_once = max(1, at_once // len(images))
    for first in range(0, len(store), tasks_at_once):
        factors = store.factors_between(first, min(first + tasks_at_once, len(store)))
        rows = []
        for part in images.split(at_once):
            logits = chain.rank_one_outputs(factors, part)
            rows.append(_per_image(objectives, logits.flatten(0, 1)).unflatten(1, logits.shape[:2]))
        columns.append(torch.cat(rows, dim=2))
    return torch.cat(columns, dim=1).mT


def _per_image(
    objectives: Sequence[Objective], logits: Float[Tensor, "images *outputs"]
) -> Float[Tensor, "objectives images"]:
    """Return each objective of each image: its mean over the positions, where a network has an output for each of them."""
    values = [objective(logits) for objective in objectives]
    return torch.stack([each.flatten(1).mean(dim=1) if each.ndim > 1 else each for each in values])


def _images_at_once(chain: LinearChain) -> int:
    return max(1, _ACTIVATION_FLOATS // max(1, chain.floats_an_image))

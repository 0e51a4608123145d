"""Supermasks in Superposition: a mask for each task, the task found by one gradient of the blend (Section 3).

Frozen W = ±sqrt(2 / fan_in); task i learns M^i = 1[S^i >= 0] and nothing else; the outputs of task i are f(x, W ⊙ M^i).
Masks are independent: learning a task changes no bit of another.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, assert_never

import torch
from jaxtyping import Float
from supsup_core import (
    FrozenNetwork,
    Guess,
    MaskBank,
    Objective,
    entropy,
    one_shot,
    one_shot_each,
    superfluous_logsumexp,
)
from supsup_datasets import Task, side_by_side
from supsup_datasets.seeds import generator
from torch import Tensor

from supsup_methods.bounds import Bounds
from supsup_methods.mask_training import MaskTraining, fresh_scores, train_side_by_side, train_threshold_mask


@dataclass(frozen=True)
class TaskInference:
    """How the task of test images is found when nobody gives it."""

    objective: Literal["H", "G"] = "H"
    """H: entropy of the outputs; G: logsumexp with gradient through the superfluous neurons only."""
    images_per_guess: Annotated[int, Bounds(ge=1, le=1_000_000)] = 1
    """Images of a test batch that infer the task of the whole batch; more than it has means all."""


@dataclass(frozen=True)
class SupSupSettings:
    """Supermasks in Superposition with threshold masks and One-Shot."""

    kind: Literal["supsup"] = "supsup"
    """Which method."""
    training: MaskTraining = field(default_factory=MaskTraining)
    inference: TaskInference = field(default_factory=TaskInference)


class SupSup:
    """The method; see the module.

    Args:
        net: the frozen network.
        bank: masks learned earlier, or an empty bank.
        num_labels: labels of a task; outputs from there on are superfluous neurons.
        seed: decides initial scores and the order of training images, with the task's index.
    """

    def __init__(
        self, net: FrozenNetwork, bank: MaskBank, settings: SupSupSettings, num_labels: int, seed: int
    ) -> None:
        self.net = net
        self.bank = bank
        self._settings = settings
        self._seed = seed
        self._objective = _objective(settings.inference.objective, num_labels)

    @property
    def tasks_learned(self) -> int:
        """Number of masks in the bank."""
        return len(self.bank)

    def learn(self, tasks: Sequence[Task], on_batch: Callable[[], None]) -> None:
        """Train each task's mask from fresh scores, several tasks in every step, and append them to the bank.

        Raises:
            DatasetError: several tasks do not go side by side (`supsup_datasets.side_by_side`).
        """
        training = self._settings.training
        orders = [generator(self._seed, "training order", task.index) for task in tasks]
        scores = torch.stack([fresh_scores(self.net, self._seed, task.index) for task in tasks])
        if len(tasks) == 1:
            batches = tasks[0].train.shuffled(training.batch_size, training.batches, orders[0])
            masks = [train_threshold_mask(self.net, scores[0], batches, training.learning_rate, on_batch)]
        else:
            group = side_by_side([task.train for task in tasks])
            batches = group.shuffled(training.batch_size, training.batches, orders)
            masks = train_side_by_side(self.net, scores, batches, training.learning_rate, on_batch)
        for mask in masks:
            self.bank.append(mask)

    def infer(self, images: Float[Tensor, "images *input"]) -> Guess:
        """Return One-Shot's guess from the first `images_per_guess` images."""
        return one_shot(self._objective, self.net, self.bank, images[: self._settings.inference.images_per_guess])

    def infer_each(self, batches: Sequence[Float[Tensor, "images *input"]]) -> list[int]:
        """Return One-Shot's guess for each batch, many in one matrix product."""
        shown = [batch[: self._settings.inference.images_per_guess] for batch in batches]
        tasks: list[int] = []
        for size, alike in itertools.groupby(shown, key=len):
            guesses = one_shot_each(self._objective, self.net, self.bank, torch.cat(list(alike)), images_per_guess=size)
            tasks.extend(guesses.tasks.tolist())
        return tasks

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, W ⊙ M^task)."""
        with torch.no_grad():
            return self.net(images, self.bank.weights(task))


def _objective(name: Literal["H", "G"], num_labels: int) -> Objective:
    match name:
        case "H":
            return entropy
        case "G":
            return superfluous_logsumexp(num_labels)
        case _:
            assert_never(name)

"""Supermasks in Superposition: a mask for each task, the task found by one gradient of the blend (Section 3).

Frozen W = ±sqrt(2 / fan_in); task i learns M^i = 1[S^i >= 0] and nothing else; the outputs of task i are f(x, W ⊙ M^i).
Masks are independent: learning a task changes no bit of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, MaskBank
from supsup_core.bank_manifest import MANIFEST
from supsup_core.packed_bits import row_bytes
from supsup_datasets import Task, side_by_side
from supsup_datasets.seeds import generator
from torch import Tensor

from supsup_methods.continual_method import (
    InferEach,
    MethodBytes,
    MethodKind,
    OnBatch,
    Opened,
    Problem,
    WholeGroups,
    check_turn,
)
from supsup_methods.mask_training import MaskTraining, fresh_scores, train_side_by_side, train_threshold_mask
from supsup_methods.mended_bank import mended_bank
from supsup_methods.task_guessing import OneShot, TaskInference, infer_by


@dataclass(frozen=True)
class SupSupSettings:
    """Supermasks in Superposition with threshold masks and One-Shot."""

    kind: Literal["supsup"] = "supsup"
    """Which method."""
    training: MaskTraining = field(default_factory=MaskTraining)
    inference: TaskInference = field(default_factory=OneShot)


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
        self._num_labels = num_labels
        self._seed = seed

    @property
    def tasks_learned(self) -> int:
        """Number of masks in the bank."""
        return len(self.bank)

    @property
    def bytes(self) -> MethodBytes:
        """Packed masks and running statistics; W is a seed."""
        return MethodBytes(contexts=self.bank.context_bytes, shared=0, buffers=self.bank.buffer_bytes)

    @property
    def infer_each(self) -> InferEach:
        """The search that the settings name, many batches in one matrix product."""
        return infer_by(self._settings.inference, self.net, self.bank, self._num_labels)

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Train each task's mask from fresh scores, several tasks in every step, and append them to the bank.

        Raises:
            InvalidArgument: a task is not the next one, or the learning rate is too high.
            DatasetError: several tasks do not go side by side (`supsup_datasets.side_by_side`).
        """
        for later, task in enumerate(tasks):
            check_turn(task, self.tasks_learned + later)
        training = self._settings.training
        orders = [generator(self._seed, "training order", task.index) for task in tasks]
        scores = torch.stack([fresh_scores(self.net, self._seed, task.index) for task in tasks])
        rate, precision = training.learning_rate, training.precision
        if len(tasks) == 1:
            batches = tasks[0].train.shuffled(training.batch_size, training.batches, orders[0])
            masks = [train_threshold_mask(self.net, scores[0], batches, rate, on_batch, precision=precision)]
        else:
            group = side_by_side([task.train for task in tasks])
            batches = group.shuffled(training.batch_size, training.batches, orders)
            masks = train_side_by_side(self.net, scores, batches, rate, on_batch, precision=precision)
        for mask in masks:
            self.bank.append(mask)

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, W ⊙ M^task)."""
        with torch.no_grad():
            return self.net(images, self.bank.weights(task))

    def save(self, folder: Path) -> None:
        """Add the tasks that the bank's files lack."""
        self.bank.save(folder)

    def first(self, tasks: int) -> "SupSup":
        """Return the method with the first masks only."""
        bank = MaskBank(self.net, self.bank.buffers.dtype)
        bank.append_rows(self.bank.rows[:tasks], self.bank.buffers[:tasks])
        return SupSup(self.net, bank, self._settings, self._num_labels, self._seed)


def _open(folder: Path, settings: SupSupSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net = problem.network()
    notes: tuple[str, ...] = ()
    if whole_groups is not None:
        bank, notes = mended_bank(folder, net, whole_groups)
    else:
        bank = MaskBank.open(folder, net) if (folder / MANIFEST).exists() else MaskBank(net)
    return Opened(SupSup(net, bank, settings, problem.num_labels, problem.seed), notes)


def _stored_bytes(settings: SupSupSettings, net: FrozenNetwork, tasks: int) -> int:
    return tasks * row_bytes(net.num_bits)


KIND = MethodKind(
    SupSupSettings, _open, _stored_bytes, inference=lambda settings: settings.inference, side_by_side=True
)
"""As recipes and runs know the method."""

"""Supermasks in Superposition: a mask for each task, the task found by one gradient of the blend (Section 3).

Frozen W = ±sqrt(2 / fan_in); task i learns the scores S^i of its mask M^i and nothing else; the outputs of task i are
f(x, W ⊙ M^i). Masks are 1[S >= 0], or of a fixed size for each layer (`mask_rules`). A task has running statistics of
normalisation layers of its own. Learning a task changes no bit of another, and depends on none but where scores start from
the mean of earlier masks (Transfer).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank
from supsup_core.bank_manifest import MANIFEST
from supsup_core.linear_chain import LinearChain
from supsup_core.packed_bits import pack, row_bytes, unpack
from supsup_datasets import Batch, Task, side_by_side
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
from supsup_methods.dense_training import buffer_floats
from supsup_methods.mask_rules import (
    EdgePopupMasks,
    MaskKind,
    MaskRule,
    ThresholdMasks,
    fresh_scores,
    rule_of,
    transferred_scores,
)
from supsup_methods.mask_training import MaskTraining, train_masks
from supsup_methods.mended_bank import mended_bank
from supsup_methods.snapshots import Snapshots
from supsup_methods.task_guessing import OneShot, TaskInference, infer_by
from supsup_methods.training_loop import TrainingLoop

_DTYPES = {"float16": torch.float16, "float32": torch.float32}
_MASK = "packed mask"  # beside the statistics of layers, whose names have no space


@dataclass(frozen=True)
class SupSupSettings:
    """Supermasks in Superposition; the defaults are the paper's for MNIST."""

    kind: Literal["supsup"] = "supsup"
    """Which method."""
    training: MaskTraining = field(default_factory=MaskTraining)
    masks: MaskKind = field(default_factory=ThresholdMasks)
    statistics: Literal["float16", "float32"] = "float32"
    """How running statistics of normalisation layers are kept; they are rounded as soon as a task is learned."""
    inference: TaskInference = field(default_factory=OneShot)


@dataclass(frozen=True)
class MaskInTraining:
    """A task's mask while it is trained. The tensors are those that steps change: look at them, and leave them as they are."""

    task: int
    training: MaskTraining
    steps: int
    """How many there are in all."""
    scores: Float[Tensor, " bits"]
    rule: MaskRule
    buffers: Mapping[str, Tensor]
    """Running statistics of normalisation layers."""


Watch: TypeAlias = Callable[[MaskInTraining, int, Batch], None]
"""Called with each step's number, from 0, and its batch just before it is taken; and after the last, with its batch again."""

_Batches: TypeAlias = Callable[[int], Iterable[Batch]]


class SupSup:
    """The method; see the module.

    Args:
        net: the frozen network.
        bank: masks learned earlier, or an empty bank.
        num_labels: labels of a task; outputs from there on are superfluous neurons.
        seed: decides initial scores and the order of training images, with the task's index.
        snapshots: where a task in training is kept now and then.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        bank: MaskBank,
        settings: SupSupSettings,
        num_labels: int,
        seed: int,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.net = net
        self.bank = bank
        self._settings = settings
        self._num_labels = num_labels
        self._seed = seed
        self._snapshots = snapshots or Snapshots()

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
        """Train each task's mask, several tasks in every step, and append them to the bank.

        Raises:
            InvalidArgument: a task is not the next one, or the learning rate is too high.
            DatasetError: several tasks do not go side by side (`supsup_datasets.side_by_side`).
        """
        for later, task in enumerate(tasks):
            check_turn(task, self.tasks_learned + later)
        for task, own in zip(tasks, self.learn_apart(tasks, on_batch), strict=True):
            self.adopt(task, own)

    def learn_apart(
        self, tasks: Sequence[Task], on_batch: OnBatch, watch: Watch | None = None
    ) -> list[dict[str, Tensor]]:
        """Return the packed mask of each task, several tasks trained in every step, and its running statistics.

        Args:
            tasks: to learn.
            on_batch: called after each step, once for each task.
            watch: looks on while a single task is trained; what is learned does not depend on it.

        Raises:
            InvalidArgument: the learning rate is too high, or several tasks should be watched.
            DatasetError: several tasks do not go side by side (`supsup_datasets.side_by_side`).
        """
        if watch is not None and len(tasks) > 1:
            raise InvalidArgument(f"watch: {len(tasks)} tasks in every step; watch one task by itself")
        images, first = len(tasks[0].train), tasks[0].index
        training, seed = self._settings.training.of_task(first), self._seed
        loop = TrainingLoop(self.net, tuple(task.index for task in tasks), training, images, on_batch, self._snapshots)
        orders = [generator(seed, "training order", task.index) for task in tasks]
        rule, buffers = rule_of(self._settings.masks, self.net, seed, first), self.net.fresh_buffers()

        def batches(skip: int) -> Iterable[Batch]:
            if len(tasks) == 1:
                return tasks[0].train.shuffled(training.batch_size, loop.steps, orders[0], skip=skip)
            group = side_by_side([task.train for task in tasks])
            return group.shuffled(training.batch_size, loop.steps, orders, skip=skip)

        scores = torch.stack([self._start(task.index) for task in tasks])
        scores = scores if len(tasks) > 1 else scores[0]
        mask = MaskInTraining(first, training, loop.steps, scores, rule, buffers)
        shown = batches if watch is None else _watched(batches, watch, mask)
        bits = train_masks(loop, training, scores, rule, shown, buffers)
        return [{_MASK: pack(mask), **buffers} for mask in bits.view(len(tasks), -1)]

    def adopt(self, task: Task, own: Mapping[str, Tensor]) -> None:
        """Append a task's mask and running statistics to the bank.

        Raises:
            InvalidArgument: the task is not the next one.
        """
        check_turn(task, self.tasks_learned)
        tensors = {name: tensor.to(self.net.device) for name, tensor in own.items()}
        mask = unpack(tensors.pop(_MASK), self.net.num_bits)
        self.bank.append(self.net.unflatten(mask), tensors)

    def _start(self, task: int) -> Tensor:
        """Return the scores that a task starts from."""
        if task == 0 or not _transfers(self._settings):
            return fresh_scores(self.net, self._seed, task)
        return transferred_scores(self.net, self.bank)

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


def _watched(batches: _Batches, watch: Watch, mask: MaskInTraining) -> _Batches:
    """Return the same batches. Whoever takes one is where the step before has ended, so that this is the moment to look."""

    def shown(skip: int) -> Iterable[Batch]:
        last: Batch | None = None
        for step, batch in enumerate(batches(skip), start=skip):
            watch(mask, step, batch)
            yield batch
            last = batch
        if last is not None:
            watch(mask, mask.steps, last)

    return shown


def _open(folder: Path, settings: SupSupSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net, dtype = problem.network(), _DTYPES[settings.statistics]
    notes: tuple[str, ...] = ()
    if whole_groups is not None:
        bank, notes = mended_bank(folder, net, whole_groups, dtype)
    else:
        bank = MaskBank.open(folder, net) if (folder / MANIFEST).exists() else MaskBank(net, dtype)
    return Opened(SupSup(net, bank, settings, problem.num_labels, problem.seed, problem.snapshots), notes)


def _stored_bytes(settings: SupSupSettings, net: FrozenNetwork, tasks: int) -> int:
    return tasks * (row_bytes(net.num_bits) + _DTYPES[settings.statistics].itemsize * buffer_floats(net))


def _transfers(settings: SupSupSettings) -> bool:
    """Tell whether tasks start from the mean of earlier masks (Transfer), not from scores of their own."""
    return isinstance(settings.masks, EdgePopupMasks) and settings.masks.transfer


def _side_by_side(settings: SupSupSettings, net: FrozenNetwork) -> bool:
    """Tell whether tasks share a step: not where each updates statistics of its own, or is ranked by itself, or convolves."""
    alike = isinstance(settings.masks, ThresholdMasks) and settings.training.first_epochs is None
    return alike and LinearChain.of(net, training=True) is not None


KIND = MethodKind(
    SupSupSettings,
    _open,
    _stored_bytes,
    inference=lambda settings: settings.inference,
    side_by_side=_side_by_side,
    apart_from=lambda settings: None if _transfers(settings) else 0,
)
"""As recipes and runs know the method."""

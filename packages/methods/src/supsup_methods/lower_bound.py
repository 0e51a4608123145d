"""The lower bound: one trunk trained on the tasks in turn, and a head for each task (Tables 6, 8 and 9; Section 4.1).

The outputs of task i are f(x, (T, h_i)). T are the weights of all layers but the last, which every task goes on training, and h_i
those of the last layer, which only task i trains and nobody changes afterwards. T moves away from what the earlier heads were
trained on: that is forgetting, and this method is there to show how much there is of it if nothing is done about it.

RMSprop at 1e-4, 1000 batches of 128 for each task (Section 4.2), weights that start Kaiming-normal.
Each task's running statistics of normalisation layers are its own. The task must be given.

With `heads="shared"` the last layer is trained on like the others, nothing tells tasks apart, and forgetting is worse. That is
what the paper seems to do on PermutedMNIST: 71.67 % over 10 tasks with LeNet 300-100 (Table 8). Measured, with one seed: 73.9 %
with a shared head of 10 outputs, 70.9 % with one of 100, and 81.8 % where each task has a head of its own.

Deviations: the paper does not say how the weights start. RMSprop starts each task with fresh running means, so that a run that
stops after a task has nothing but weights to store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, MaskableParameter, Weights, kaiming_normal
from supsup_datasets import Task
from torch import Tensor

from supsup_methods.continual_method import MethodBytes, MethodKind, OnBatch, Opened, Problem, WholeGroups, check_turn
from supsup_methods.dense_training import (
    FLOAT_BYTES,
    DenseTask,
    DenseTraining,
    apart,
    buffer_floats,
    check_fits,
    check_learned,
    fresh_weights,
    method_bytes,
    train_weights,
)
from supsup_methods.gradients import network_gradients
from supsup_methods.snapshots import Snapshots
from supsup_methods.state_files import TaskFiles, open_sequence, write_shared


@dataclass(frozen=True)
class LowerBoundSettings:
    """One trunk for all tasks, trained on them in turn."""

    kind: Literal["lower-bound"] = "lower-bound"
    """Which method."""
    training: DenseTraining = field(default_factory=DenseTraining)
    heads: Literal["own", "shared"] = "own"
    """Whether each task has a last layer of its own, or all train one: what Tables 6, 8 and 9 seem to show (see the module)."""

    def own(self, net: FrozenNetwork) -> tuple[MaskableParameter, ...]:
        """Return the weights that each task has of its own."""
        return net.maskable[-1:] if self.heads == "own" else ()

    def common(self, net: FrozenNetwork) -> tuple[MaskableParameter, ...]:
        """Return the weights that all tasks train."""
        return net.maskable[:-1] if self.heads == "own" else net.maskable


class LowerBound:
    """The method; see the module.

    Args:
        net: the network; its own weights are where the trunk starts.
        settings: of the training.
        trunk: as earlier tasks left it, or None before the first.
        heads: head and running statistics of each task learned earlier.
        files: where those lie already.
        snapshots: where a task in training is kept now and then.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        settings: LowerBoundSettings,
        trunk: Weights | None = None,
        heads: Sequence[Weights] = (),
        files: TaskFiles | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.net = net
        self.trunk = apart(net.frozen if trunk is None else trunk, [entry.name for entry in settings.common(net)])
        self.heads = list(heads)
        self._settings = settings
        self._files = files or TaskFiles()
        self._snapshots = snapshots or Snapshots()

    @property
    def tasks_learned(self) -> int:
        """Number of heads."""
        return len(self.heads)

    @property
    def bytes(self) -> MethodBytes:
        """The trunk and all heads."""
        return method_bytes(self.net, self.heads, self.trunk if self.heads else {})

    @property
    def infer_each(self) -> None:
        """None: the task must be given."""
        return

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Train the trunk and a new head, on one task after the other."""
        for task in tasks:
            check_turn(task, self.tasks_learned)
            statistics = self.net.fresh_buffers()
            head = fresh_weights(self.net, self._settings.own(self.net), kaiming_normal, task.index)
            trained = train_weights(
                DenseTask(self.net, task, self._settings.training, on_batch, self._snapshots),
                network_gradients(self.net, self._settings.training.precision, statistics),
                {**self.trunk, **head},
                self._settings.training.descent,
                statistics,
            )
            self.trunk = apart(trained, self.trunk)
            self.heads.append({**apart(trained, head), **statistics})

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, (T, h_task)), with T as the last task left it."""
        check_learned(task, self.tasks_learned)
        with torch.no_grad():
            return self.net(images, {**self.trunk, **self.heads[task]})

    def save(self, folder: Path) -> None:
        """Write the heads that the folder lacks, and then replace the trunk: until that is done, the folder is as it was."""
        if self.heads:
            self._files.write_new(folder, self.heads)
            write_shared(folder, self.tasks_learned, self.trunk)

    def first(self, tasks: int) -> "LowerBound | None":
        """Return the method itself for all of its tasks, and None for fewer: the trunk is no longer what it was."""
        return self if tasks == self.tasks_learned else None


def _open(folder: Path, settings: LowerBoundSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net = problem.network(kaiming_normal)
    state, notes = open_sequence(folder, problem.device, task_files=True, mend=whole_groups is not None)
    for stored in state.tasks:
        check_fits(folder, net, stored, [*(entry.name for entry in settings.own(net)), *net.fresh_buffers()])
    if state.shared is not None:
        check_fits(folder, net, state.shared, [entry.name for entry in settings.common(net)])
    files = TaskFiles(folder, len(state.tasks))
    return Opened(LowerBound(net, settings, state.shared, state.tasks, files, problem.snapshots), notes)


def _stored_bytes(settings: LowerBoundSettings, net: FrozenNetwork, tasks: int) -> int:
    trunk = sum(entry.size for entry in settings.common(net)) if tasks else 0
    own = sum(entry.size for entry in settings.own(net)) + buffer_floats(net)
    return FLOAT_BYTES * (trunk + tasks * own)


KIND = MethodKind(LowerBoundSettings, _open, _stored_bytes)
"""As recipes and runs know the method."""

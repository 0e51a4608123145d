"""Separate heads: one trunk that does not change after task 0, and a head for each task (Table 2).

The outputs of task i are f(x, (T, h_i)): h_i are the weights of the last layer, T those of all others. T is trained on task 0
together with h_0 and then frozen ("Separate Heads"), or it is random and never trained ("Separate Heads - Rand W"), and costs
nothing but its seed. All other heads are trained on features that stay as they are, so no gradient reaches the trunk, and
learning a task changes no answer of another. Each task's running statistics of normalisation layers are its own. The task must
be given.

Adam at 1e-3 on trunk and head for task 0, and at 1e-2 on heads over a frozen trunk (Section 4.1 and Appendix D.1); 1000 batches
of 128 for each task, which the paper uses on MNIST (Section 4.2). Weights start Kaiming-normal.

The paper shows this method on SplitCIFAR100 only, for 250 epochs a task with a cosine schedule (`table2-separate-heads`); the
defaults are for MNIST. The trunk lies in the file of task 0, which trained it: either both are there or none is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, Weights, kaiming_normal
from supsup_datasets import Task
from torch import Tensor

from supsup_methods.bounds import Bounds
from supsup_methods.continual_method import (
    MethodBytes,
    MethodKind,
    OnBatch,
    Opened,
    Problem,
    WholeGroups,
    check_turn,
    learn_in_turn,
)
from supsup_methods.dense_training import (
    FLOAT_BYTES,
    DenseTask,
    Descent,
    apart,
    buffer_floats,
    check_fits,
    check_learned,
    check_trunk,
    fresh_weights,
    method_bytes,
    train_weights,
)
from supsup_methods.gradients import network_gradients
from supsup_methods.optimizers import Adam
from supsup_methods.snapshots import Snapshots
from supsup_methods.state_files import TaskFiles, open_tasks
from supsup_methods.training_length import TaskTraining


@dataclass(frozen=True)
class HeadTraining(TaskTraining):
    """Training of a head over a frozen trunk, and of the trunk with the first one."""

    trunk_learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-3
    """Learning rate of Adam on task 0 where it trains the trunk (Appendix D.1)."""
    head_learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-2
    """Learning rate of Adam on a head over a frozen trunk (Section 4.1)."""


@dataclass(frozen=True)
class SeparateHeadsSettings:
    """A head for each task over a trunk that does not change."""

    kind: Literal["separate-heads"] = "separate-heads"
    """Which method."""
    training: HeadTraining = field(default_factory=HeadTraining)
    trunk: Literal["task-0", "random"] = "task-0"
    """Whether the trunk is trained on task 0 or random: "Separate Heads" or "Separate Heads - Rand W" of Table 2."""


class SeparateHeads:
    """The method; see the module.

    Args:
        net: the network; its own weights are the random trunk, and where a trained one starts.
        settings: of the training.
        trunk: as task 0 left it, or None before it and where it is random.
        heads: head and running statistics of each task learned earlier.
        files: where those lie already.
        snapshots: where a task in training is kept now and then.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        settings: SeparateHeadsSettings,
        trunk: Weights | None = None,
        heads: Sequence[Weights] = (),
        files: TaskFiles | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.net = net
        *below, self._head = net.maskable
        self.trunk = apart(net.frozen if trunk is None else trunk, [entry.name for entry in below])
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
        """All heads, and the trunk if it was trained."""
        return method_bytes(self.net, self.heads, self._trained_trunk)

    @property
    def infer_each(self) -> None:
        """None: the task must be given."""
        return

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Train a head for each task, and with the first the trunk."""
        learn_in_turn(self, tasks, on_batch)

    def learn_apart(self, tasks: Sequence[Task], on_batch: OnBatch) -> list[dict[str, Tensor]]:
        """Return the head and running statistics of each task, and with task 0's the trunk that it trained.

        Raises:
            InvalidArgument: the trunk is trained on task 0, which is learned already or is not yet; or the learning rate is
                too high.
        """
        return [self._train(task, on_batch) for task in tasks]

    def adopt(self, task: Task, own: Mapping[str, Tensor]) -> None:
        """Keep a task's head and running statistics, and the trunk that task 0 trained.

        Raises:
            InvalidArgument: the task is not the next one.
        """
        check_turn(task, self.tasks_learned)
        tensors = {name: tensor.to(self.net.device) for name, tensor in own.items()}
        trunk = tensors.keys() & self.trunk.keys()
        self.trunk = {**self.trunk, **apart(tensors, trunk)}
        self.heads.append(apart(tensors, tensors.keys() - trunk))

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, (T, h_task))."""
        check_learned(task, self.tasks_learned)
        with torch.no_grad():
            return self.net(images, {**self.trunk, **self.heads[task]})

    def save(self, folder: Path) -> None:
        """Write the heads that the folder lacks; a trained trunk lies with the first."""
        first = [{**self._trained_trunk, **head} for head in self.heads[:1]]
        self._files.write_new(folder, first + self.heads[1:])

    def first(self, tasks: int) -> "SeparateHeads":
        """Return the method with the first heads only."""
        return SeparateHeads(self.net, self._settings, self.trunk if tasks else None, self.heads[:tasks])

    @property
    def _trained_trunk(self) -> Weights:
        return self.trunk if self.heads and self._settings.trunk == "task-0" else {}

    def _train(self, task: Task, on_batch: OnBatch) -> dict[str, Tensor]:
        """Return the trained weights, which are the head's or all, and the running statistics."""
        training, trains_trunk = self._settings.training, False
        if self._settings.trunk == "task-0":
            check_trunk(task, is_trained=bool(self.heads))
            trains_trunk = task.index == 0
        head, statistics = fresh_weights(self.net, [self._head], kaiming_normal, task.index), self.net.fresh_buffers()
        of = DenseTask(self.net, task, training, on_batch, self._snapshots)
        if trains_trunk:
            start, fixed = {**self.trunk, **head}, statistics
            descent = Descent(Adam, training.trunk_learning_rate, "trunk_learning_rate")
        else:
            start, fixed = head, {**self.trunk, **statistics}
            descent = Descent(Adam, training.head_learning_rate, "head_learning_rate")
        gradients = network_gradients(self.net, training.precision, fixed)
        return train_weights(of, gradients, start, descent, statistics) | statistics


def _open(folder: Path, settings: SeparateHeadsSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net = problem.network(kaiming_normal)
    state, notes = open_tasks(folder, problem.device, mend=whole_groups is not None)
    *below, head = (entry.name for entry in net.maskable)
    own = [head, *net.fresh_buffers()]
    for task, stored in enumerate(state.tasks):
        check_fits(folder, net, stored, own + (below if task == 0 and settings.trunk == "task-0" else []))
    trunk = state.tasks[0] if state.tasks and settings.trunk == "task-0" else None
    heads = [{name: stored[name] for name in own} for stored in state.tasks]
    files = TaskFiles(folder, len(heads))
    return Opened(SeparateHeads(net, settings, trunk, heads, files, problem.snapshots), notes)


def _stored_bytes(settings: SeparateHeadsSettings, net: FrozenNetwork, tasks: int) -> int:
    head = net.maskable[-1].size
    trunk = net.num_bits - head if tasks and settings.trunk == "task-0" else 0
    return FLOAT_BYTES * (trunk + tasks * (head + buffer_floats(net)))


KIND = MethodKind(
    SeparateHeadsSettings, _open, _stored_bytes, apart_from=lambda settings: int(settings.trunk == "task-0")
)
"""As recipes and runs know the method."""

"""The upper bound: a model for each task, all of its weights trained (Tables 2 to 9).

Task i learns W^i by plain training, and the outputs of task i are f(x, W^i): nothing is shared, nothing is forgotten, and the
memory of a whole model is paid for each task. On MNIST every W^i starts from its own random weights. On SplitCIFAR100 the trunk
is carried on: W^i starts from the trunk of W^(i-1), and so has been trained on tasks 1 to i; `carry_on` does that, and every task
keeps the copy that it ended with. Where the backbone keeps weights that somebody made, W^i starts from their trunk. The head,
which is the last layer, is new for each task either way.

RMSprop at 1e-4, 1000 batches of 128 for each task (Section 4.2), weights that start Kaiming-normal.
Each task's running statistics of normalisation layers are its own. The task must be given.

Deviation: the paper does not say how the weights start: 95.5 % over 10 PermutedMNIST tasks is measured with these, 94.9 % is in
Table 3. On SplitCIFAR100 it trains with Adam at 1e-3 and a cosine schedule
(Appendix D.1), as the recipes of Table 2 do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from supsup_core import FrozenNetwork, Weights, kaiming_normal
from supsup_datasets import Task
from torch import Tensor

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
from supsup_methods.state_files import TaskFiles, open_tasks


@dataclass(frozen=True)
class UpperBoundSettings:
    """A model for each task."""

    kind: Literal["upper-bound"] = "upper-bound"
    """Which method."""
    training: DenseTraining = field(default_factory=DenseTraining)
    carry_on: bool = False
    """Whether a task starts from the trunk of the task before (Section 4.1, SplitCIFAR100), not from random weights (MNIST)."""


class UpperBound:
    """The method; see the module.

    Args:
        net: the network, for its function, its seed and its shapes.
        settings: of the training.
        models: weights and running statistics of each task learned earlier.
        files: where those lie already.
        snapshots: where a task in training is kept now and then.
        keeps_weights: whether trunks start from the network's own weights, which somebody made, and not from random ones.
    """

    def __init__(
        self,
        net: FrozenNetwork,
        settings: UpperBoundSettings,
        models: Sequence[Weights] = (),
        files: TaskFiles | None = None,
        snapshots: Snapshots | None = None,
        keeps_weights: bool = False,
    ) -> None:
        self.net = net
        self.models = list(models)
        self._settings = settings
        self._files = files or TaskFiles()
        self._snapshots = snapshots or Snapshots()
        self._keeps_weights = keeps_weights

    @property
    def tasks_learned(self) -> int:
        """Number of models."""
        return len(self.models)

    @property
    def bytes(self) -> MethodBytes:
        """All models."""
        return method_bytes(self.net, self.models, {})

    @property
    def infer_each(self) -> None:
        """None: the task must be given."""
        return

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Train a model for each task."""
        learn_in_turn(self, tasks, on_batch)

    def learn_apart(self, tasks: Sequence[Task], on_batch: OnBatch) -> list[dict[str, Tensor]]:
        """Return a model for each task: its weights and running statistics.

        Raises:
            InvalidArgument: the learning rate is too high.
        """
        models = []
        for task in tasks:
            statistics = self.net.fresh_buffers()
            trained = train_weights(
                DenseTask(self.net, task, self._settings.training, on_batch, self._snapshots),
                network_gradients(self.net, self._settings.training.precision, statistics),
                self._start(task.index),
                self._settings.training.descent,
                statistics,
            )
            models.append({**trained, **statistics})
        return models

    def adopt(self, task: Task, own: Mapping[str, Tensor]) -> None:
        """Keep a task's model.

        Raises:
            InvalidArgument: the task is not the next one.
        """
        check_turn(task, self.tasks_learned)
        self.models.append({name: tensor.to(self.net.device) for name, tensor in own.items()})

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, W^task)."""
        check_learned(task, self.tasks_learned)
        with torch.no_grad():
            return self.net(images, self.models[task])

    def save(self, folder: Path) -> None:
        """Write the models that the folder lacks."""
        self._files.write_new(folder, self.models)

    def first(self, tasks: int) -> "UpperBound":
        """Return the method with the first models only."""
        return UpperBound(self.net, self._settings, self.models[:tasks], keeps_weights=self._keeps_weights)

    def _start(self, task: int) -> dict[str, Tensor]:
        fresh = fresh_weights(self.net, self.net.maskable, kaiming_normal, task)
        trunk = [entry.name for entry in self.net.maskable[:-1]]
        if self._settings.carry_on and self.models:
            fresh.update(apart(self.models[-1], trunk))
        elif self._keeps_weights:
            fresh.update(apart(self.net.frozen, trunk))
        return fresh


def _open(folder: Path, settings: UpperBoundSettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    net = problem.network(kaiming_normal)
    state, notes = open_tasks(folder, problem.device, mend=whole_groups is not None)
    for model in state.tasks:
        check_fits(folder, net, model, [*net.frozen, *net.fresh_buffers()])
    files = TaskFiles(folder, len(state.tasks))
    method = UpperBound(net, settings, state.tasks, files, problem.snapshots, problem.keeps_weights)
    return Opened(method, notes)


def _stored_bytes(settings: UpperBoundSettings, net: FrozenNetwork, tasks: int) -> int:
    return FLOAT_BYTES * tasks * (net.num_bits + buffer_floats(net))


KIND = MethodKind(
    UpperBoundSettings, _open, _stored_bytes, apart_from=lambda settings: None if settings.carry_on else 0
)
"""As recipes and runs know the method."""

"""BatchE: two vectors a layer for each task, over weights that were trained on the first (Wen et al.; Appendix C).

W is trained on task 0 and then frozen. Task i has r_i over the inputs and s_i over the outputs of each layer, and

    f(x, W_i),  W_i = W ⊙ (s_i r_iᵀ)           (Eq. 10; a weight here is (out, in), the paper's is (in, out))
    W_i x = (W (x ⊙ r_i)) ⊙ s_i                 (Eq. 11; Eq. 12 for a batch)

Chains of linear layers train by the second line, where no gradient of a frozen W is formed; all other networks by the first.

| hyperparameter | value | source |
|---|---|---|
| W | Kaiming normal, sqrt(2 / fan_in) | Appendix D.3 |
| learning rate | 0.0001 on task 0, with W; then 0.01 | Appendix D.3 |
| last layer | a rank-one factor too on MNIST; a head a task on SplitCIFAR100 | Appendix D.3; Table 2 |
| outputs | 10 where the task is given, 500 where it is inferred | Tables 3, 4, 6; Table 7 |
| optimiser; r and s at first | Adam; ±1 at random | BatchE's own; the paper names neither for MNIST |
| weight decay, W | none, trained; in Table 7 0.0001, random | the paper is silent; see `recipes.table7` |
| batches | 1000 of 128 images | Section 4.2, as for all methods |

With `trunk="random"` W is never trained ("Rand W" of Table 2, there with Adam at 0.1) and costs a seed.

Learning rates are constant on MNIST, and decay on SplitCIFAR100 (`table2-batche`). Deviation: a network's parameters that are not
maskable, such as normalisation's, stay as they are on task 0 too.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from supsup_core import (
    CorruptBank,
    FrozenNetwork,
    InvalidArgument,
    NetworkMismatch,
    RankOneBank,
    Weights,
    kaiming_normal,
)
from supsup_core.weight_init import keep_weights
from supsup_datasets import Task
from torch import Tensor

from supsup_methods.bounds import Bounds
from supsup_methods.continual_method import (
    InferEach,
    MethodBytes,
    MethodKind,
    OnBatch,
    Opened,
    Problem,
    WholeGroups,
    check_turn,
    learn_in_turn,
)
from supsup_methods.dense_training import DenseTask, Descent, check_trunk, train_weights
from supsup_methods.gradients import forward_gradients
from supsup_methods.optimizers import Adam
from supsup_methods.state_files import open_tasks, set_aside, write_shared, write_task
from supsup_methods.task_guessing import OneShot, TaskInference, infer_by
from supsup_methods.training_length import TaskTraining
from supsup_methods.vector_training import (
    TaskTensors,
    as_kind,
    fresh_head,
    fresh_vectors,
    of_kind,
    training_forward,
)


@dataclass(frozen=True)
class BatchESettings:
    """Rank-one vectors a task over weights that all tasks share; the defaults are the paper's for MNIST."""

    kind: Literal["batch-ensemble"] = "batch-ensemble"
    """Which method."""
    training: TaskTraining = field(default_factory=TaskTraining)
    trunk: Literal["task-0", "random"] = "task-0"
    """Weights that tasks share: task-0 trains them on the first task, then freezes them; random never trains them."""
    trunk_learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-4
    """Learning rate of Adam on the weights, and on task 0's vectors and head with them (Appendix D.3)."""
    vectors_learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-2
    """Learning rate of Adam on vectors and heads over frozen weights (Appendix D.3; 0.1 on SplitCIFAR100, D.1)."""
    weight_decay: Annotated[float, Bounds(ge=0, le=1)] = 0.0
    """λ of the λ x that Adam adds to the gradient of everything it trains."""
    last_layer: Literal["rank-one", "head"] = "rank-one"
    """The last layer of a task: rank-one has vectors there too (Appendix D.3); head trains its own weights (Table 2)."""
    inference: TaskInference = field(default_factory=OneShot)
    """How a task is inferred over the rank-one factors (Section 4.2, Table 7); with heads, tasks must be given."""


class BatchE:
    """The method; see the module.

    Args:
        settings: its hyperparameters.
        problem: what it is built for.
        trained: the weights that task 0 trained, by name; None where they come from the seed.
        tasks: what was learned earlier.

    Raises:
        InvalidArgument: the network has one layer and tasks have heads, so that they would share nothing.
        NetworkMismatch: the trained weights are not those of this network.
    """

    def __init__(
        self,
        settings: BatchESettings,
        problem: Problem,
        trained: Weights | None = None,
        tasks: Iterable[TaskTensors] = (),
    ) -> None:
        self._settings = settings
        self._problem = problem
        self._trained = trained
        self._heads: list[dict[str, Tensor]] = []
        self._saved: dict[Path, int] = {}  # how many tasks a folder is known to hold
        self._use(problem.network(kaiming_normal), trained)
        for task in tasks:
            self._append(task)

    @property
    def tasks_learned(self) -> int:
        """Number of tasks in the bank."""
        return len(self.bank)

    @property
    def bytes(self) -> MethodBytes:
        """Vectors and heads of the tasks, the weights where task 0 trained them, and running statistics."""
        heads = sum(_num_bytes(head) for head in self._heads)
        shared = 0 if self._trained is None else _num_bytes(self._trained)
        return MethodBytes(self.bank.context_bytes + heads, shared, self.bank.buffer_bytes)

    @property
    def infer_each(self) -> InferEach | None:
        """The search that the settings name, over the rank-one factors; None where tasks have heads."""
        if self._settings.last_layer == "head":
            return None
        return infer_by(self._settings.inference, self.net, self.bank, self._problem.num_labels)

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Train the vectors of each task from random signs, one task after another; task 0 trains W with its own.

        Raises:
            InvalidArgument: a task is not the next one; or what was trained is not finite; the learning rate is too high.
        """
        learn_in_turn(self, tasks, on_batch)

    def learn_apart(self, tasks: Sequence[Task], on_batch: OnBatch) -> list[dict[str, Tensor]]:
        """Return the vectors, head and running statistics of each task, and with task 0's the weights W that it trained.

        Raises:
            InvalidArgument: W is trained on task 0, which is learned already or is not yet; or the learning rate is too high.
        """
        return [self._train(task, on_batch) for task in tasks]

    def adopt(self, task: Task, own: Mapping[str, Tensor]) -> None:
        """Keep what a task has of its own, and the W that task 0 trained.

        Raises:
            InvalidArgument: the task is not the next one.
        """
        check_turn(task, self.tasks_learned)
        tensors = {name: tensor.to(self.net.device) for name, tensor in own.items()}
        trunk = of_kind(tensors, "trunk")
        if trunk:
            self._trained = trunk
            self._use(self.net, trunk)
        self._append(tensors)

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return f(x, W ⊙ (s rᵀ)), or with the task's head for the last layer."""
        with torch.no_grad():
            return self.net(images, {**self.bank.weights(task), **self._heads[task]})

    def save(self, folder: Path) -> None:
        """Write the shared weights, if they are trained, and then the tasks that this object has not written there yet."""
        saved = self._saved.get(folder, 0)
        if self._trained is not None and saved == 0:
            write_shared(folder, 1, self._trained)
        for task in range(saved, self.tasks_learned):
            write_task(folder, task, self._task_tensors(task))
            self._saved[folder] = task + 1

    def first(self, tasks: int) -> "BatchE":
        """Return the method with the first tasks only: those after task 0 change nothing of it."""
        trained = self._trained if tasks else None
        kept = [self._task_tensors(task) for task in range(tasks)]
        return BatchE(self._settings, self._problem, trained, kept)

    def _use(self, net: FrozenNetwork, trained: Weights | None) -> None:
        """Set the network, its weights replaced by the trained ones, and an empty bank over the weights that tasks share."""
        if trained is not None:
            shapes = {name: tuple(value.shape) for name, value in trained.items()}
            expected = {entry.name: entry.shape for entry in self._shared_part(net).maskable}
            if shapes != expected:
                raise NetworkMismatch(
                    f"trained: shapes {shapes}; this network's are {expected}; open it with its recipe"
                )
            module = copy.deepcopy(net.module)
            with torch.no_grad():
                for name, value in trained.items():
                    module.get_parameter(name).copy_(value)
            net = FrozenNetwork(module, net.seed, init=keep_weights)  # biases, too, stay as task 0 had them
        self.net = net
        self.bank = RankOneBank(self._shared_part(net))

    def _shared_part(self, net: FrozenNetwork) -> FrozenNetwork:
        """Return the same network where only the weights that tasks share count as maskable: heads are no part of it."""
        if self._settings.last_layer == "rank-one":
            return net
        if len(net.maskable) == 1:
            raise InvalidArgument(
                'last_layer="head": the network has one layer, so tasks share nothing; pass "rank-one"'
            )
        part = copy.copy(net)
        part.maskable = net.maskable[:-1]
        return part

    def _append(self, task: TaskTensors) -> None:
        r, s = of_kind(task, "r"), of_kind(task, "s")
        self.bank.append({name: (r[name], s[name]) for name in r}, of_kind(task, "buffers"))
        self._heads.append(of_kind(task, "head"))

    def _task_tensors(self, task: int) -> dict[str, Tensor]:
        """Undo `_append`."""
        factors = self.bank.factors(task)
        weights = self.bank.weights(task) if self.net.task_buffers else {}
        return {
            **as_kind("r", {name: r for name, (r, _) in factors.items()}),
            **as_kind("s", {name: s for name, (_, s) in factors.items()}),
            **as_kind("head", self._heads[task]),
            **as_kind("buffers", {entry.name: weights[entry.name] for entry in self.net.task_buffers}),
        }

    def _train(self, task: Task, on_batch: OnBatch) -> dict[str, Tensor]:
        training, shared = self._settings.training, self._shared_part(self.net)
        if self._settings.trunk == "task-0":
            check_trunk(task, is_trained=self._trained is not None)
        values = fresh_vectors(shared, self._problem.seed, task.index)
        if self._settings.last_layer == "head":
            values |= fresh_head(self.net, self._problem.seed, task.index)
        trains_trunk = self._settings.trunk == "task-0" and task.index == 0
        if trains_trunk:
            values |= as_kind("trunk", shared.frozen)
        adam = partial(Adam, weight_decay=self._settings.weight_decay)
        if trains_trunk:
            descent = Descent(adam, self._settings.trunk_learning_rate, "trunk_learning_rate")
        else:
            descent = Descent(adam, self._settings.vectors_learning_rate, "vectors_learning_rate")
        buffers, of = self.net.fresh_buffers(), DenseTask(self.net, task, training, on_batch, self._problem.snapshots)
        gradients = forward_gradients(self.net, training.precision, training_forward(self.net, buffers))
        return train_weights(of, gradients, values, descent, buffers) | as_kind("buffers", buffers)


def _num_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _open(folder: Path, settings: BatchESettings, problem: Problem, whole_groups: WholeGroups | None) -> Opened:
    """Return the method over the intact tasks of a folder: all before the first damaged one."""
    state, notes = open_tasks(folder, problem.device, mend=whole_groups is not None)
    tasks, trained = state.tasks, state.shared if state.tasks else None  # without task 0, its weights are trained again
    if tasks and trained is None and settings.trunk == "task-0":
        if whole_groups is None:
            raise CorruptBank(f"{folder}: the trained weights are missing; resume the run to learn all tasks again")
        aside = set_aside(folder)
        lost = f"{folder}: the trained weights are missing; all tasks are learned again; the files are in {aside.name}"
        tasks, notes = (), (*notes, lost)
    method = BatchE(settings, problem, trained, tasks)
    method._saved[folder] = len(tasks)
    return Opened(method, notes)


def _stored_bytes(settings: BatchESettings, net: FrozenNetwork, tasks: int) -> int:
    """Return 4 bytes for each element of the vectors, heads and running statistics of the tasks, and of a trained W."""
    heads, shared = (net.maskable[-1:], net.maskable[:-1]) if settings.last_layer == "head" else ((), net.maskable)
    vectors = sum(sum(entry.shape[:2]) for entry in shared)
    own = vectors + sum(entry.size for entry in heads) + sum(entry.size for entry in net.task_buffers)
    return 4 * (tasks * own + (sum(entry.size for entry in shared) if settings.trunk == "task-0" else 0))


def _inference(settings: BatchESettings) -> TaskInference | None:
    return settings.inference if settings.last_layer == "rank-one" else None


def _unsuited(settings: BatchESettings, net: FrozenNetwork) -> str | None:
    if settings.last_layer == "rank-one" or len(net.maskable) > 1:
        return None
    return "shares nothing over one layer that each task has of its own; choose --method.last-layer rank-one, or more layers"


KIND = MethodKind(
    BatchESettings,
    _open,
    _stored_bytes,
    inference=_inference,
    unsuited=_unsuited,
    apart_from=lambda settings: int(settings.trunk == "task-0"),
)
"""As recipes and runs know the method."""

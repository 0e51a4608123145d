"""Training weights themselves: the dense methods that supermasks are compared with.

PSP, the bounds and separate heads share the functional forward pass with everything else: trained weights are passed in place of
the frozen ones of the same names. All that is trained together lies in one tensor, which one step of an optimiser moves. What
a task keeps is a mapping by name, weights and running statistics alike, as a call of the network takes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from supsup_core import FrozenNetwork, InvalidArgument, MaskableParameter, NetworkMismatch, Weights
from supsup_core.weight_init import WeightInit
from supsup_datasets import Batch, Task
from supsup_datasets.seeds import generator
from torch import Tensor

from supsup_methods.bounds import Bounds
from supsup_methods.continual_method import MethodBytes, OnBatch
from supsup_methods.gradients import Gradients
from supsup_methods.optimizers import OPTIMIZERS, MakeOptimizer, OptimizerName
from supsup_methods.snapshots import Snapshots
from supsup_methods.training_length import TaskTraining, TrainingLength
from supsup_methods.training_loop import TrainingLoop

FLOAT_BYTES = 4
"""Of a stored weight or running statistic: they are float32."""


@dataclass(frozen=True)
class DenseTraining(TaskTraining):
    """Training of all weights on one task; the defaults are the paper's for MNIST (Section 4.2)."""

    learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-4
    """Learning rate on the weights (Section 4.2; 0.001 in Appendix D.1)."""
    optimizer: OptimizerName = "rmsprop"
    """What moves the weights: RMSprop on MNIST, Adam on SplitCIFAR100 (Appendix D.1)."""

    @property
    def descent(self) -> "Descent":
        """The optimiser and its rate."""
        return Descent(OPTIMIZERS[self.optimizer], self.learning_rate)


@dataclass(frozen=True)
class Descent:
    """An optimiser and how far its steps go."""

    optimizer: MakeOptimizer
    learning_rate: float
    rate_name: str = "learning_rate"
    """As the settings call it."""


def training_batches(seed: int, task: Task, length: TrainingLength, skip: int = 0) -> Iterable[Batch]:
    """Return the batches of a task but for the first `skip`, in the order that (seed, task) gives its images."""
    order = generator(seed, "training order", task.index)
    return task.train.shuffled(length.batch_size, length.steps(len(task.train)), order, skip=skip)


@dataclass(frozen=True)
class DenseTask:
    """A task whose weights are to be trained.

    Attributes:
        net: the network; its seed decides the order of images.
        task: the task.
        training: how long, and how precisely.
        on_batch: called after each step.
        snapshots: where the weights in training are kept now and then.
    """

    net: FrozenNetwork
    task: Task
    training: TaskTraining
    on_batch: OnBatch
    snapshots: Snapshots = field(default_factory=Snapshots)


def train_weights(
    of: DenseTask, gradients: Gradients, start: Weights, descent: Descent, buffers: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return weights trained from `start`, which stays as it is, on the cross-entropy over all outputs.

    Args:
        of: the task.
        gradients: of the weights in training.
        start: the weights to begin with.
        descent: the optimiser.
        buffers: running statistics that forward passes update.

    Raises:
        InvalidArgument: the weights are not finite at the end; the learning rate is too high.
    """
    start = _as_in(of.net, start)
    flat = torch.cat([value.flatten() for value in start.values()])
    gradient = torch.empty_like(flat)
    sizes = [value.numel() for value in start.values()]
    parts, slopes = flat.split(sizes), gradient.split(sizes)
    weights = {name: part.view(start[name].shape) for name, part in zip(start, parts, strict=True)}
    out = {name: part.view(start[name].shape) for name, part in zip(start, slopes, strict=True)}
    training = of.training.of_task(of.task.index)
    loop = TrainingLoop(of.net, (of.task.index,), training, len(of.task.train), of.on_batch, of.snapshots)
    optimizer = descent.optimizer(flat, descent.learning_rate, steps=loop.steps)

    def step(batch: Batch, share: float) -> None:
        gradients.write(weights, batch, out)
        optimizer.step(gradient, share)

    loop.run(
        lambda skip: training_batches(of.net.seed, of.task, training, skip),
        step,
        {"weights": flat, **optimizer.state, **buffers},
    )
    if not bool(torch.isfinite(flat).all()):
        raise InvalidArgument(
            f"{descent.rate_name}={descent.learning_rate}: the weights diverged to infinity or NaN; lower it"
        )
    return weights


def _as_in(net: FrozenNetwork, weights: Weights) -> Weights:
    """Return weights in the network's order, and what else there is behind: files have an order of their own.

    A snapshot is one long tensor, which only that order cuts into weights again.
    """
    return {name: weights[name] for name in net.frozen if name in weights} | dict(weights)


def fresh_weights(
    net: FrozenNetwork, entries: Iterable[MaskableParameter], init: WeightInit, task: int
) -> dict[str, Tensor]:
    """Return weights for a task to start from, drawn as the network's own are, but from (seed, task)."""
    frozen = net.frozen
    return {
        entry.name: init(f"task {task}: {entry.name}", frozen[entry.name], entry.fan_in, net.seed) for entry in entries
    }


def apart(weights: Weights, names: Iterable[str]) -> dict[str, Tensor]:
    """Return copies of some weights: what is kept of a training must not keep all of it in memory."""
    return {name: weights[name].clone() for name in names}


def check_learned(task: int, tasks_learned: int) -> None:
    """Make sure that a task can be asked about.

    Raises:
        InvalidArgument: it was not learned.
    """
    if not 0 <= task < tasks_learned:
        raise InvalidArgument(f"task={task}: {tasks_learned} tasks are learned; ask for one of them, counted from 0")


def check_trunk(task: Task, *, is_trained: bool) -> None:
    """Make sure that the trunk which task 0 trains is trained before all other tasks, and once.

    Raises:
        InvalidArgument: the task is another one and the trunk is not trained, or it is task 0 and the trunk is.
    """
    if (task.index == 0) == is_trained:
        state = "is trained already" if is_trained else "is not trained yet"
        raise InvalidArgument(
            f"task {task.index}: the trunk, which task 0 trains, {state}; learn task 0 once, before all others"
        )


def check_fits(folder: Path, net: FrozenNetwork, stored: Weights, names: Iterable[str]) -> None:
    """Make sure that what a folder holds belongs to a network of these shapes.

    Raises:
        NetworkMismatch: it does not.
    """
    shapes = {weight.name: weight.shape for weight in net.maskable}
    shapes.update({statistic.name: statistic.shape for statistic in net.task_buffers})
    expected, found = {name: shapes[name] for name in names}, {name: tuple(stored[name].shape) for name in stored}
    if found != expected:
        raise NetworkMismatch(
            f"{folder}: it holds {found} where this network and method have {expected}; "
            "open it with the settings it was saved with"
        )


def method_bytes(net: FrozenNetwork, contexts: Sequence[Weights], shared: Weights) -> MethodBytes:
    """Return what contexts of weights and running statistics take, and what is shared beside them."""
    statistics = {entry.name for entry in net.task_buffers}
    floats = {True: 0, False: 0}
    for context in contexts:
        for name, value in context.items():
            floats[name in statistics] += value.numel()
    return MethodBytes(
        contexts=FLOAT_BYTES * floats[False],
        shared=FLOAT_BYTES * sum(value.numel() for value in shared.values()),
        buffers=FLOAT_BYTES * floats[True],
    )


def buffer_floats(net: FrozenNetwork) -> int:
    """Return the number of running statistics of a task."""
    return sum(entry.size for entry in net.task_buffers)

"""What every method of continual learning offers to training, evaluation and storage, whatever it learns.

A method is a map from a task to effective parameters. Some need small contexts over frozen weights (SupSup, BatchE), some keep
training all weights (PSP, the lower bound), some keep a model a task (the upper bound), some a reservoir of all tasks
(HopSupSup). They differ in what can be asked of them, and say so here in place of faking an answer:

| protocol | what it can be asked |
|---|---|
| `AnswersByTask` | the outputs of a task; and which task images are from, unless `infer_each` is None |
| `RecoversMasks` | a mask for a task's unlabelled test images, and the outputs under that mask; no task by its number |

`first` answers None where learning more has changed what was learned before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from supsup_core import ContextStore, FrozenNetwork, InvalidArgument, Masks
from supsup_core.hopfield_recovery import RecoveryStep
from supsup_core.weight_init import WeightInit, keep_weights, signed_kaiming_constant
from supsup_datasets import Scenario, Task, Unlabelled
from torch import Tensor, nn

from supsup_methods.snapshots import Snapshots

OnBatch: TypeAlias = Callable[[], None]
"""Called after each training batch of each task."""


@dataclass(frozen=True)
class TaskGuess:
    """Which task some images belong to, and how sure the method is: its belief in that task, a fraction."""

    task: int
    confidence: float


InferEach: TypeAlias = Callable[[Sequence[Float[Tensor, "images *input"]]], list[TaskGuess]]
"""Batches of images to the task of each, from its own images alone: labels and the true task are not arguments."""

InferByAll: TypeAlias = Callable[[Sequence[Float[Tensor, "images *input"]]], list[list[TaskGuess]]]
"""The same for several ways to infer, one list after the other."""


@dataclass(frozen=True)
class MethodBytes:
    """What must be stored to answer for all tasks learned so far."""

    contexts: int
    """Of what each task has of its own: masks, vectors, heads, models."""
    shared: int
    """Of trained weights that tasks share; 0 where they come from a seed."""
    buffers: int
    """Of running statistics of normalisation layers."""

    @property
    def total(self) -> int:
        """All together."""
        return self.contexts + self.shared + self.buffers


class ContinualMethod(Protocol):
    """A method that learns tasks in turn."""

    @property
    def net(self) -> FrozenNetwork:
        """The network's functional forward; its own weights are the frozen ones, or where training starts."""

    @property
    def tasks_learned(self) -> int:
        """Number of tasks learned so far."""

    @property
    def bytes(self) -> MethodBytes:
        """What storage takes."""

    def learn(self, tasks: Sequence[Task], on_batch: OnBatch) -> None:
        """Learn the next tasks."""

    def save(self, folder: Path) -> None:
        """Write what was learned; a stop at any moment leaves what an earlier call wrote, or this one."""

    def first(self, tasks: int) -> Self | None:
        """Return the method as it was after so many tasks, or None where learning more has changed them."""


class AnswersByTask(ContinualMethod, Protocol):
    """A method that can be asked about each of its tasks."""

    @property
    def infer_each(self) -> InferEach | None:
        """How it tells tasks from images; None if it cannot, and the task must be given."""

    def logits(self, images: Float[Tensor, "images *input"], task: int) -> Float[Tensor, "images outputs"]:
        """Return the outputs of the network for images of `task`, after all that was learned."""


@dataclass(frozen=True)
class Recovered:
    """A mask that was found for a task's test images, and how."""

    masks: Masks
    steps: tuple[RecoveryStep, ...]
    """In turn, with the mask after each of them."""


FEWEST_IMAGES = 2
"""That a network can be shown which uses the statistics of the batch at hand."""


@runtime_checkable
class RecoversMasks(ContinualMethod, Protocol):
    """A method that keeps no mask by task, and finds one again for test images that are known to be of one task."""

    @property
    def right_masks(self) -> Sequence[Masks] | None:
        """The masks as they were learned, kept for scoring alone; None if they are gone, as they should be in earnest."""

    def recover(self, images: Unlabelled) -> Recovered:
        """Return a mask for all of these images, from what the method keeps and from them."""

    def logits_under(self, images: Float[Tensor, "images *input"], masks: Masks) -> Float[Tensor, "images outputs"]:
        """Return the outputs of the network under a mask, by the statistics of this batch (FEWEST_IMAGES)."""


@dataclass(frozen=True)
class Decision:
    """What a method that is never told the task decided at one place of the stream.

    Attributes:
        batch: which training batch of the whole stream it came before.
        stretch: in which stretch of the stream that was; for scoring alone.
        mask: that is trained from there on.
        new: whether it was allocated there.
        ratio: (k + 1) max ν, which it was decided by; 1 where there was no mask yet.
    """

    batch: int
    stretch: int
    mask: int
    new: bool
    ratio: float


@runtime_checkable
class AllocatesMasks(Protocol):
    """A method that decides by itself which mask a stretch of the stream belongs to: `infer_each` answers with masks."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What was decided along the stream, in turn."""


@runtime_checkable
class LearnsApart(AnswersByTask, Protocol):
    """A method of which a task can be learned without the others, by another process for example.

    `learn` is the two in turn. From which task on the settings make tasks independent, `MethodKind.apart_from` tells.
    """

    def learn_apart(self, tasks: Sequence[Task], on_batch: OnBatch) -> list[dict[str, Tensor]]:
        """Learn tasks, whichever were learned before, and return what each has of its own; the method stays as it is.

        Where a first task trains what all share, that task must be learned before the others, and once.
        """

    def adopt(self, task: Task, own: Mapping[str, Tensor]) -> None:
        """Take over the next task as `learn_apart` returned it, here or elsewhere."""


def learn_in_turn(method: LearnsApart, tasks: Sequence[Task], on_batch: OnBatch) -> None:
    """Learn the next tasks here, one after the other.

    Raises:
        InvalidArgument: a task is not the next one, or what was trained is not finite.
    """
    for task in tasks:
        check_turn(task, method.tasks_learned)
        (own,) = method.learn_apart([task], on_batch)
        method.adopt(task, own)


AnyMethod: TypeAlias = AnswersByTask | RecoversMasks
"""A method, by what it can be asked."""


@runtime_checkable
class OverContexts(Protocol):
    """A method that keeps a context for each task over one frozen network, and can be searched for the task."""

    @property
    def net(self) -> FrozenNetwork:
        """The network."""

    @property
    def bank(self) -> ContextStore:
        """The contexts."""


@dataclass(frozen=True)
class Problem:
    """What a method is built for."""

    backbone: Callable[[], nn.Module]
    """Makes the network's module, with the output width that the recipe asks for."""
    num_labels: int
    """Labels of a task; outputs from there on are superfluous neurons."""
    seed: int
    """Decides weights, contexts, initial scores, and the order of training images, with the task's index."""
    device: torch.device
    keeps_weights: bool = False
    """Whether maskable weights stay as the backbone was made, whatever a method would draw."""
    snapshots: Snapshots = field(default_factory=Snapshots)
    """Where tasks in training are kept now and then."""

    def network(
        self, init: WeightInit = signed_kaiming_constant, make: Callable[..., FrozenNetwork] = FrozenNetwork
    ) -> FrozenNetwork:
        """Return the backbone as a functional network, its weights drawn from the seed.

        Args:
            init: values of the weights, unless the backbone keeps its own.
            make: `FrozenNetwork`, or what makes one of the same arguments (`unit_masked`).
        """
        chosen = keep_weights if self.keeps_weights else init
        # Made on the CPU: what no mask covers may be drawn at random by the module, and a GPU would draw something else.
        return make(self.backbone(), self.seed, init=chosen).to(self.device)


@dataclass(frozen=True)
class Opened:
    """A method as its files left it, and a line for each thing that had to be mended."""

    method: AnyMethod
    notes: tuple[str, ...] = ()


WholeGroups: TypeAlias = Callable[[int], int]
"""A number of tasks to how many of them were trained in groups that end there."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class MethodKind(Generic[Settings]):
    """A method as recipes, runs and the contract suite know it."""

    settings: type[Settings]
    """Its dataclass in a recipe; `kind` is its name there."""
    open: Callable[[Path, Settings, Problem, WholeGroups | None], Opened]
    """The method over a folder that `save` wrote, or a fresh one where the folder is not there. Damage is mended; where the
    last argument is None nothing is changed, and damage raises CorruptBank."""
    stored_bytes: Callable[[Settings, FrozenNetwork, int], int]
    """About what so many tasks take, from a network that may be on the meta device."""
    working_bytes: Callable[[FrozenNetwork], int] = lambda net: 32 * net.num_bits
    """About what training a task takes in memory. Eight floats a weight: W and its copy in the module, what is trained, two
    tensors of an optimiser, effective weights, gradients twice."""
    inference: Callable[[Settings], Any] = lambda settings: None
    """How the settings say that tasks are told apart; None where the task must be given. `task_guessing.TaskInference`, or a
    dataclass of one's own: only its `images_per_guess` and `objective` are looked at, where it has them."""
    side_by_side: Callable[[Settings, FrozenNetwork], bool] = lambda settings, net: False
    """Whether several tasks can be learned in each step, of a network that may be on the meta device."""
    apart_from: Callable[[Settings], int | None] = lambda settings: None
    """The task from which on none needs what another left but the tasks before that one; None if there is no such task. The
    method is then `LearnsApart`, and processes may share the tasks: all where this is 0, all but the first, which trains
    what they share, where it is 1."""
    unsuited: Callable[[Settings, FrozenNetwork], str | None] = lambda settings, net: None
    """Why a network, which may be on the meta device, does not suit the method, as the end of a sentence about the method, and
    the way out."""
    masks_units: bool = False
    """Whether masks cover the units of normalisation layers, so that the backbone must have some. They are then recovered for
    test images in place of being kept by task."""

    told_in_training: bool = True
    """Whether it is told where a task begins; else masks are no tasks, and it is a method for NNs."""

    def scenarios(self, settings: Settings) -> tuple[Scenario, ...]:
        """Return those in which the method can be tested (Table 1)."""
        if not self.told_in_training:
            return (Scenario.NNs,)
        if self.masks_units:
            return (Scenario.GNs, Scenario.GNu)
        if self.inference(settings) is None:
            return (Scenario.GG,)
        return (Scenario.GG, Scenario.GNs, Scenario.GNu)


def check_turn(task: Task, tasks_learned: int) -> None:
    """Make sure that a task is the next one.

    Raises:
        InvalidArgument: it is another one, under whose index its answers would not be found.
    """
    if task.index != tasks_learned:
        raise InvalidArgument(
            f"task {task.index}: {tasks_learned} tasks are learned, and they are learned in turn; learn task {tasks_learned} next"
        )

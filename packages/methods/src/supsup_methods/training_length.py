"""How long a task is trained, and how the learning rate goes over that time."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Protocol, Self, runtime_checkable

from supsup_methods.bounds import Bounds
from supsup_methods.precision import Precision


@runtime_checkable
class Length(Protocol):
    """What every method's settings say of its training, in a field of that name."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""

    def steps(self, images: int) -> int:
        """Return how many batches a task of so many training images takes."""


@dataclass(frozen=True)
class TrainingLength:
    """So many batches, or passes over a task's images; the defaults are the paper's for MNIST (Section 4.2)."""

    batches: Annotated[int, Bounds(ge=1, le=10_000_000)] = 1000
    """Training batches for each task (Section 4.2); not looked at where epochs are given."""
    batch_size: Annotated[int, Bounds(ge=1, le=1_000_000)] = 128
    """Images in a batch (Section 4.2; Appendix D.1)."""
    epochs: Annotated[int, Bounds(ge=1, le=1_000_000)] | None = None
    """Passes over the training images of each task (Appendix D.1), in place of a number of batches."""

    def steps(self, images: int) -> int:
        """Return how many batches a task of so many training images takes; an epoch's last one may be smaller."""
        return self.batches if self.epochs is None else self.epochs * -(-images // self.batch_size)


@dataclass(frozen=True)
class EpochsATask:
    """Passes over all of a task's images."""

    epochs: Annotated[int, Bounds(ge=1, le=1_000_000)] = 1
    """Passes over the training images of each task."""
    batch_size: Annotated[int, Bounds(ge=1, le=1_000_000)] = 128
    """Images in a batch; the last of an epoch may be smaller."""

    def steps(self, images: int) -> int:
        """Return how many batches a task of so many training images takes."""
        return self.epochs * -(-images // self.batch_size)


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes over the training of one task."""

    shape: Literal["constant", "cosine"] = "constant"
    """constant, or cosine: half a wave, from all of the rate to nothing (Appendix D.1)."""
    warm_up: Annotated[float, Bounds(ge=0, lt=1)] = 0.0
    """Fraction of the steps in which the rate rises to all of it, in a straight line (Appendix D.2: 5 epochs of 100)."""

    def share(self, step: int, steps: int) -> float:
        """Return the share of the learning rate that step `step`, from 0, of `steps` takes."""
        rising = round(self.warm_up * steps)
        if step < rising:
            return (step + 1) / rising
        if self.shape == "constant":
            return 1.0
        return (1.0 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


@dataclass(frozen=True)
class TaskTraining(TrainingLength):
    """How long a task is trained, at which share of the learning rate, and how precisely."""

    schedule: Schedule = field(default_factory=Schedule)
    precision: Precision = "float32"
    """What matrix products and convolutions multiply; what is trained stays float32. bfloat16 pays where the hardware has units
    for it, and only there."""
    first_epochs: Annotated[int, Bounds(ge=1, le=1_000_000)] | None = None
    """Passes over the images of task 0, where they are others than those of later tasks (Appendix D.5)."""

    def of_task(self, task: int) -> Self:
        """Return the training of a task."""
        return self if task > 0 or self.first_epochs is None else replace(self, epochs=self.first_epochs)


@dataclass(frozen=True)
class StreamTraining(TrainingLength):
    """Training along a stretch of the stream, whichever mask is trained."""

    learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1e-4
    """Learning rate of RMSprop on the scores."""
    precision: Precision = "float32"
    """What matrix products multiply; scores stay float32."""


def steps_of_task(length: Length, task: int, images: int) -> int:
    """Return how many batches a task of so many training images takes, by its index."""
    return (length.of_task(task) if isinstance(length, TaskTraining) else length).steps(images)

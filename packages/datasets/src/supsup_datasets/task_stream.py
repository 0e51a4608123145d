"""A stream of tasks: `stream[i]` is the same task whenever and in whatever order it is asked for.

A task's fields cannot be set. Its tensors are the base data, shared by all tasks: read them, do not write into them.
"""

from numbers import Integral
from typing import Protocol

from supsup_datasets.errors import DatasetError
from supsup_datasets.task import Task


class TaskStream(Protocol):
    """A sequence of tasks, made when they are asked for."""

    def __len__(self) -> int:
        """Return the number of tasks."""

    def __getitem__(self, index: int) -> Task:
        """Return task `index`.

        Raises:
            IndexError: the stream has no such task.
        """

    def identity(self, index: int) -> int:
        """Return `self[index].identity`, without making the task."""


def check_index(index: int, tasks: int) -> None:
    """Raise IndexError where a stream has no task `index`."""
    if not 0 <= index < tasks:
        raise IndexError(f"task {index}: the stream has tasks 0 to {tasks - 1}")


def check_tasks(tasks: int) -> None:
    """Raise DatasetError where a stream of this many tasks makes no sense."""
    if not isinstance(tasks, Integral) or tasks < 1:
        raise DatasetError(f"tasks={tasks}: a stream has a whole number of tasks, at least one; ask for more")


def check_seed(seed: int) -> None:
    """Raise DatasetError where a seed makes no sense."""
    if not isinstance(seed, Integral) or seed < 0:
        raise DatasetError(f"seed={seed}: a seed is a whole number from 0 up; choose another")

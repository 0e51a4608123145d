"""A stream of tasks: `stream[i]` is the same task whenever and in whatever order it is asked for.

A task's fields cannot be set. Its tensors are the base data, shared by all tasks: read them, do not write into them.
"""

from typing import Protocol

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

"""Where a run's tasks are trained: in this process, or in several of their own (`worker_pool`)."""

import time
from dataclasses import dataclass
from typing import Protocol

from supsup_datasets import Task

from supsup_methods.continual_method import AnyMethod, OnBatch
from supsup_methods.snapshots import Snapshots


@dataclass(frozen=True)
class Trained:
    """How a group of tasks was trained.

    Attributes:
        seconds: that each task took, as its share of all that ran at the same time.
        notes: what the user should know, in a line each.
    """

    seconds: float
    notes: tuple[str, ...] = ()


class Trainer(Protocol):
    """Has a method learn."""

    def learn(self, method: AnyMethod, tasks: list[Task], on_batch: OnBatch) -> Trained:
        """Have the method learn its next tasks, a group of the run's schedule."""


@dataclass(frozen=True)
class InThisProcess:
    """Trains each group when it is asked for.

    Attributes:
        snapshots: where the method keeps tasks in training.
    """

    snapshots: Snapshots

    def learn(self, method: AnyMethod, tasks: list[Task], on_batch: OnBatch) -> Trained:
        """Have the method learn its next tasks."""
        start = time.perf_counter()
        method.learn(tasks, on_batch)
        seconds = self.snapshots.seconds_before + time.perf_counter() - start
        notes = tuple(self.snapshots.notes)
        self.snapshots.notes.clear()
        return Trained(seconds / len(tasks), notes)

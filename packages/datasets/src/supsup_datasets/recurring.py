"""Recurring streams: tasks that come back, in random order (scenario NNs, where nobody says so)."""

from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Tensor

from supsup_datasets.seeds import permutation
from supsup_datasets.task import Task
from supsup_datasets.task_stream import TaskStream, check_index, check_seed, check_tasks


@dataclass(frozen=True)
class RecurringStream:
    """Stretches that show the tasks of another stream again and again: in each round all of them, in an order of its own.

    A stretch is a task like any other; `Task.identity` tells which of the other stream it shows.

    Attributes:
        base: the tasks.
        stretches: how many stretches there are; a last round may be cut short.
        seed: decides the order of each round.

    Raises:
        DatasetError: there is less than one stretch, or the seed is negative.
    """

    base: TaskStream
    stretches: int
    seed: int

    def __post_init__(self) -> None:
        check_tasks(self.stretches)
        check_seed(self.seed)

    def __len__(self) -> int:
        """Return the number of stretches."""
        return self.stretches

    def identity(self, index: int) -> int:
        """Return which task of the other stream a stretch shows."""
        check_index(index, self.stretches)
        lap, place = divmod(index, len(self.base))
        return int(_round(self.seed, lap, len(self.base))[place])

    def __getitem__(self, index: int) -> Task:
        """Return stretch `index`, from 0."""
        check_index(index, self.stretches)
        shown = self.identity(index)
        return replace(self.base[shown], index=index, shows=shown)


@lru_cache(maxsize=8)
def _round(seed: int, lap: int, tasks: int) -> Tensor:
    """Return the order of tasks in a round. Kept, as a stream is gone through in turn and a round is sorted to be drawn."""
    return permutation(seed, "recurrence", lap, tasks)

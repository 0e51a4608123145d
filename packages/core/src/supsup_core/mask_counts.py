"""How many of a bank's masks have each bit set, so that the uniform blend costs nothing per task (Section 3.3)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from supsup_core.checked_tasks import CheckedTasks
from supsup_core.errors import CorruptBank
from supsup_core.packed_bits import count_ones, unpack

_TASKS_COUNTED_AT_ONCE = 4096


@dataclass(frozen=True)
class _Counted:
    """The ones of the first tasks. One object: threads that count at once must not add up to more."""

    ones: Int32[Tensor, " bits"]
    tasks: int


class MaskCounts:
    """The ones of all tasks, bit by bit; those that were not counted yet are when they are asked for.

    Args:
        tasks: the packed masks.
        num_bits: of each.
        device: of the counts.
    """

    def __init__(self, tasks: CheckedTasks, num_bits: int, device: torch.device) -> None:
        self._tasks = tasks
        self._num_bits = num_bits
        self._counted = _Counted(torch.zeros(num_bits, dtype=torch.int32, device=device), 0)

    def all(self) -> Int32[Tensor, " bits"]:
        """Return how many tasks have each bit set.

        Raises:
            CorruptBank: a task is not what was written.
        """
        counted = self._counted
        for block in self._tasks.blocks(counted.tasks, _TASKS_COUNTED_AT_ONCE):
            counted = _Counted(counted.ones + count_ones(block, self._num_bits), counted.tasks + len(block))
        self._counted = counted
        return counted.ones

    def take_over(self, ones: Int32[Tensor, " bits"], first: int, tasks: int) -> None:
        """Add what a file says of the tasks from `first` on, where all before them are counted."""
        if self._counted.tasks == first:
            self._counted = _Counted(self._counted.ones + ones.to(self._counted.ones.device), first + tasks)

    @contextmanager
    def changing(self, task: int, row: UInt8[Tensor, " bytes"] | None) -> Iterator[None]:
        """Account for a task that gets another mask in this context, or goes where that is None.

        Where the context is left by an error, all tasks are counted again when that is asked for.
        """
        counted, nothing = self._counted, _Counted(torch.zeros_like(self._counted.ones), 0)
        after = counted if task >= counted.tasks else self._changed(counted, task, row) or nothing
        self._counted = nothing
        yield
        self._counted = after

    def _changed(self, counted: _Counted, task: int, row: UInt8[Tensor, " bytes"] | None) -> _Counted | None:
        """Return the counts with another mask of a counted task, or without it; None where that task is damaged."""
        try:
            ones = counted.ones - unpack(self._tasks.row(task), self._num_bits).int()
        except CorruptBank:  # learned again, or given up
            return None
        if row is None:
            return _Counted(ones, counted.tasks - 1)
        return _Counted(ones + unpack(row, self._num_bits).int(), counted.tasks)

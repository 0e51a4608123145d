"""Packed masks and running statistics of tasks, each task with a checksum that is compared before its first use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from jaxtyping import Float, UInt8
from torch import Tensor

from supsup_core.errors import CorruptBank
from supsup_core.packed_bits import checksum
from supsup_core.task_rows import TaskRows

Names: TypeAlias = tuple[str | None, ...]
"""What tasks are called; None where one has no name."""


@dataclass(frozen=True)
class StoredTasks:
    """Consecutive tasks as a file holds them; memory-mapped, so nothing is read before it is used."""

    file: Path
    rows: Tensor
    """uint8 of shape (tasks, bytes)."""
    buffers: Tensor
    """Running statistics, of shape (tasks, values)."""
    checksums: tuple[int, ...]
    counts: Tensor | None = None
    """How many of the tasks have each bit set, int32, where the file says so."""
    names: Names = ()
    """One for each task, None where it has none; empty where no task of the file has one, or where they are damaged."""


class CheckedTasks:
    """The rows and statistics of a bank's tasks, in memory or in mapped files.

    What came from a file is compared with its checksum when it is first asked for.
    """

    def __init__(self, rows: TaskRows, statistics: TaskRows) -> None:
        self._rows = rows
        self._statistics = statistics
        self._checksums: list[int] = []
        # The file that each task came from, until it is checked; then None, which threads that read at once may all write.
        self._unchecked: list[Path | None] = []

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._checksums)

    @property
    def checksums(self) -> Sequence[int]:
        """CRC-32 of each task's row and statistics."""
        return self._checksums

    def append(self, rows: UInt8[Tensor, "new bytes"], statistics: Float[Tensor, "new values"]) -> None:
        """Add tasks; where that is interrupted none is added."""
        checksums = [checksum(*task) for task in zip(rows, statistics, strict=True)]
        self._forget_interrupted()
        self._rows.append(rows)
        self._statistics.append(statistics)
        self._unchecked.extend([None] * len(rows))
        self._checksums.extend(checksums)

    def adopt(self, tasks: StoredTasks) -> None:
        """Add tasks as a file holds them, mapped where the bank is on the CPU; where that is interrupted none is added."""
        self._forget_interrupted()
        if self._rows.device.type == "cpu":
            self._rows.adopt(tasks.rows)
            self._statistics.adopt(tasks.buffers)
        else:
            self._rows.append(tasks.rows.to(self._rows.device))
            self._statistics.append(tasks.buffers.to(self._rows.device))
        self._unchecked.extend([tasks.file] * len(tasks.checksums))
        self._checksums.extend(tasks.checksums)

    def _forget_interrupted(self) -> None:
        """Drop what Ctrl-C, or a lack of memory, kept from becoming a task."""
        self._rows.keep(len(self))
        self._statistics.keep(len(self))
        del self._unchecked[len(self) :]

    def replace(self, task: int, row: UInt8[Tensor, " bytes"], statistics: Float[Tensor, " values"]) -> None:
        """Set a task; a file that it came from is not written to."""
        found = checksum(row, statistics)
        self._unchecked[task] = None
        self._rows[task], self._statistics[task], self._checksums[task] = row, statistics, found

    def remove(self, task: int) -> None:
        """Drop a task; those behind it move up by one. What may fail for lack of memory comes before anything changes."""
        rows, statistics = self._rows.without(task), self._statistics.without(task)
        self._rows.set_blocks(rows)
        self._statistics.set_blocks(statistics)
        del self._checksums[task], self._unchecked[task]

    def row(self, task: int) -> UInt8[Tensor, " bytes"]:
        """Return a task's packed mask; a view.

        Raises:
            CorruptBank: it is not what was written.
        """
        self.check(task, task + 1)
        return self._rows[task]

    def blocks(self, first: int, tasks_a_block: int) -> Iterator[UInt8[Tensor, "some bytes"]]:
        """Yield the packed masks of all tasks from `first` on, in blocks of at most `tasks_a_block`; views.

        Raises:
            CorruptBank: a task is not what was written.
        """
        start = 0
        for whole in self._rows.blocks:
            for block in whole.split(tasks_a_block):
                end = start + len(block)
                if end > first:
                    begin = max(start, first)
                    self.check(begin, end)
                    yield block[begin - start :]
                start = end

    def check(self, first: int, last: int) -> None:
        """Compare tasks `first` to `last` - 1 with their checksums, where that has not been done.

        Raises:
            CorruptBank: a task is not what was written.
        """
        files = self._unchecked[first:last]
        if files.count(None) == len(files):
            return
        for task, file in enumerate(files, start=first):
            if file is None:
                continue
            if checksum(self._rows[task], self._statistics[task]) != self._checksums[task]:
                raise CorruptBank(
                    f"{file}: the bits of task {task} do not match their checksum; restore the file from a copy, learn the "
                    "task again, or keep the others by salvage()"
                )
            self._unchecked[task] = None

"""Names of tasks: what a task is called by whoever routes to it, which stays when tasks before it are removed."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex, overload

from supsup_core.checked_tasks import Names, StoredTasks
from supsup_core.errors import CorruptBank, InvalidArgument
from supsup_core.task_rows import known_task

_NAMES_COMPARED = 256  # with one that no task has, in some hundredths of a second; a server is asked for such names
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")  # control signs, halves of signs, ends of lines: of the same signs in every Unicode


class NameTable:
    """What a bank's tasks are called, kept in step with them; no two tasks share a name."""

    def __init__(self) -> None:
        self._names: list[str | None] = []
        self._found: dict[str, int] | None = {}  # None where tasks have moved since
        self._going: int | None = None  # the task that is being removed

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._names)

    @property
    def all(self) -> Sequence[str | None]:
        """The names in order."""
        return self._names

    @property
    def tasks(self) -> dict[str, int]:
        """The task of each name."""
        found = self._found
        if found is None:
            found = self._found = {name: place for place, name in enumerate(self._names) if name is not None}
        return found

    def rename(self, task: int, name: str | None) -> None:
        """Call a task by another name, or by none.

        Raises:
            InvalidArgument: the name is no text, or another task has it.
        """
        old = self._names[task]
        checked = old if name == old else self.checked([name])[0]
        if old is not None:
            del self.tasks[old]
        if checked is not None:
            self.tasks[checked] = task
        self._names[task] = checked

    def checked(self, names: Iterable[str | None]) -> Names:
        """Return names for new tasks.

        Raises:
            InvalidArgument: one is empty, no text or of several lines, or it is taken.
        """
        if isinstance(names, str):
            raise InvalidArgument(f"names={names!r}: that is one name; pass a list with one for each task")
        new: dict[str, None] = {}
        listed = tuple(name if name is None or not isinstance(name, str) else str(name) for name in names)
        for name in listed:
            if name is None:
                continue
            if not isinstance(name, str) or not name or any(unicodedata.category(sign) in _NO_TEXT for sign in name):
                raise InvalidArgument(f"name={name!r}: a name is a line of text; pass one, or None")
            if name in self.tasks or name in new:
                raise InvalidArgument(f"name={name!r}: another task has it; choose another, or remove that task")
            new[name] = None
        return listed

    def of_new(self, first: int, tasks: int, names: Sequence[str | None] | None) -> Names:
        """Return names, as `checked` does, for so many new tasks behind the first so many; none is named where None is given.

        Raises:
            InvalidArgument: as `checked`, or there is not one for each task.
        """
        self.keep(first)
        called = self.checked((None,) * tasks if names is None else names)
        if len(called) != tasks:
            raise InvalidArgument(f"names: {len(called)} for {tasks} tasks; pass a name, or None, for each of them")
        return called

    def keep(self, tasks: int) -> None:
        """Have names for so many tasks, without those that an interrupted change left: of one that went, or that did not come."""
        if len(self._names) == tasks + 1 and self._going is not None:
            self.remove(self._going)
        elif len(self._names) > tasks:
            del self._names[tasks:]
            self._found = None
        self._going = None

    def expect_removal(self, task: int, tasks: int) -> None:
        """Take note of which of so many tasks is about to go."""
        self.keep(tasks)
        self._going = task

    def append(self, names: Names) -> None:
        """Name tasks behind the last, as `checked` returned them."""
        for place, name in enumerate(names, start=len(self._names)):
            self._names.append(name)  # first: by these, `keep` finds what was interrupted
            if name is not None:
                self.tasks[name] = place

    def adopt(self, stored: StoredTasks) -> None:
        """Name tasks as a file does.

        Raises:
            CorruptBank: a name is that of another task.
        """
        names = stored.names or (None,) * len(stored.checksums)
        before = len(self.tasks)
        self.append(names)
        if len(self.tasks) - before != len(names) - names.count(None):
            raise CorruptBank(f"{stored.file}: it gives several tasks one name; restore it from a copy")

    def remove(self, task: int) -> None:
        """Drop a task; those behind it move up by one."""
        del self._names[task]
        self._going = None
        if self._found != {}:
            self._found = None


class TaskNames(Sequence[str | None]):
    """The names of a bank's tasks, in order; None where a task has none. No two tasks share one.

    >>> import torch
    >>> from supsup_core import FrozenNetwork, MaskBank
    >>> bank = MaskBank(FrozenNetwork(torch.nn.Linear(4, 3), seed=0))
    >>> for name in ("alma", None):
    ...     task = bank.append({"weight": torch.ones(3, 4, dtype=torch.bool)}, name=name)
    >>> bank.names.index("alma")
    0
    >>> bank.names[1] = "zoë"
    >>> list(bank.names)
    ['alma', 'zoë']
    """

    def __init__(self, table: NameTable) -> None:
        self._table = table

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._table)

    def __contains__(self, name: object) -> bool:
        """Tell whether a task has this name, or for None, no name."""
        return name in (self._table.tasks if isinstance(name, str) else self._table.all)

    @overload
    def __getitem__(self, task: SupportsIndex) -> str | None: ...
    @overload
    def __getitem__(self, task: slice) -> Names: ...
    def __getitem__(self, task: Any) -> Any:
        """Return what a task is called, or what several are."""
        return tuple(self._table.all[task]) if isinstance(task, slice) else self._table.all[task]

    def __setitem__(self, task: SupportsIndex, name: str | None) -> None:
        """Call a task by another name, or by none. A folder it was saved to is not written to: `save` to a new one.

        Raises:
            InvalidArgument: there is no such task, the name is no text, or another task has it.
        """
        self._table.rename(known_task(task, len(self)), name)

    def index(self, name: str, start: int = 0, stop: int | None = None) -> int:
        """Return the task of a name.

        Raises:
            InvalidArgument: no task has it.
        """
        task = self._table.tasks.get(name) if isinstance(name, str) else None
        if task is not None and task in range(start, len(self) if stop is None else stop):
            return task
        is_compared = isinstance(name, str) and len(self._table.tasks) <= _NAMES_COMPARED
        near = difflib.get_close_matches(name, self._table.tasks, n=1) if is_compared else []
        hint = f"did you mean {near[0]!r}?" if near else "append names a task"
        raise InvalidArgument(f"name={name!r}: no task of this bank has it; {hint}")


def to_bytes(names: Names) -> tuple[bytes, list[int]]:
    """Return all names as one text in UTF-8, and where each ends; a task without one has an empty one."""
    parts = [b"" if name is None else name.encode() for name in names]
    ends, end = [], 0
    for part in parts:
        end += len(part)
        ends.append(end)
    return b"".join(parts), ends


def from_bytes(text: bytes, ends: Sequence[int]) -> Names:
    """Return what `to_bytes` was given.

    Raises:
        ValueError: it is not what `to_bytes` returned.
    """
    starts = [0, *ends[:-1]]
    if any(start > end for start, end in zip(starts, ends, strict=True)) or starts[0] < 0 or ends[-1] != len(text):
        raise ValueError("names that do not lie in their text")
    return tuple(text[start:end].decode() or None for start, end in zip(starts, ends, strict=True))

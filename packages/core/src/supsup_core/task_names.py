"""Names of tasks: what a task is called by whoever routes to it, which stays when tasks before it are removed."""

import difflib
from collections.abc import Sequence

from supsup_core.checked_tasks import Names, StoredTasks
from supsup_core.errors import CorruptBank, InvalidArgument


class TaskNames:
    """The names of a bank's tasks, in order; None where a task has none. No two tasks share one."""

    def __init__(self) -> None:
        self._names: list[str | None] = []
        self._tasks: dict[str, int] = {}

    @property
    def all(self) -> Names:
        """Of each task."""
        return tuple(self._names)

    def checked(self, names: Sequence[str | None] | None, new: int) -> Names:
        """Return names for so many new tasks.

        Raises:
            InvalidArgument: there are more or fewer, one is empty or no text, or it is taken.
        """
        if names is None:
            return (None,) * new
        if isinstance(names, str) or len(names) != new:
            raise InvalidArgument(f"names={names!r}: {new} tasks are appended; pass a name, or None, for each of them")
        seen: set[str] = set()
        for name in names:
            if name is None:
                continue
            if not isinstance(name, str) or not name or not name.isprintable():
                raise InvalidArgument(f"name={name!r}: a name is printable text; pass such a text, or None")
            if name in self._tasks or name in seen:
                raise InvalidArgument(f"name={name!r}: another task has it; choose another, or remove that task")
            seen.add(name)
        return tuple(names)

    def append(self, names: Names) -> None:
        """Name tasks behind the last, as `checked` returned them."""
        for name in names:
            if name is not None:
                self._tasks[name] = len(self._names)
            self._names.append(name)

    def adopt(self, stored: StoredTasks) -> None:
        """Name tasks as a file does.

        Raises:
            CorruptBank: a name is that of another task.
        """
        try:
            self.append(self.checked(stored.names or None, len(stored.checksums)))
        except InvalidArgument as error:
            raise CorruptBank(f"{stored.file}: {error}; restore the file from a copy") from None

    def copy(self) -> "TaskNames":
        """Return the same names, to be changed apart."""
        other = TaskNames()
        other.append(self.all)
        return other

    def remove(self, task: int) -> None:
        """Drop a task; those behind it move up by one."""
        del self._names[task]
        self._tasks = {name: place for place, name in enumerate(self._names) if name is not None}

    def task(self, name: str) -> int:
        """Return the task of a name.

        Raises:
            InvalidArgument: no task has it.
        """
        if name in self._tasks:
            return self._tasks[name]
        near = difflib.get_close_matches(name, self._tasks, n=1) if isinstance(name, str) else []
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

"""Files of methods that keep tensors a task, or tensors that all tasks share: replaced whole, with a checksum each.

| file | content |
|---|---|
| `task-000007.safetensors` | what task 7 has of its own |
| `shared.safetensors` | what tasks share, and after how many tasks it was so |

A bank of masks or of rank-one factors over frozen weights has files of its own in supsup-core.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from supsup_core import CorruptBank
from supsup_core.atomic_files import make_folder, replace_file
from supsup_core.packed_bits import checksum
from torch import Tensor

_SHARED = "shared.safetensors"
_ABOUT = "number and crc32"
_RESTORE = "; restore it from a copy"


@dataclass(frozen=True)
class State:
    """What a folder holds.

    Attributes:
        shared: what tasks share; None where nothing was written.
        shared_after: the number of tasks after which it was written.
        tasks: what each task has of its own, from task 0 on without a gap.
        damage: the first thing that could not be read or is missing before others, in one line; what comes behind it is not
            here.
    """

    shared: dict[str, Tensor] | None
    shared_after: int
    tasks: tuple[dict[str, Tensor], ...]
    damage: str | None = None


def write_task(folder: Path, task: int, tensors: Mapping[str, Tensor]) -> None:
    """Write what a task has of its own."""
    write_tensors(folder / _task_name(task), tensors, task)


def write_shared(folder: Path, tasks: int, tensors: Mapping[str, Tensor]) -> None:
    """Replace what tasks share, as it is after so many tasks. Write the tasks' own files before."""
    write_tensors(folder / _SHARED, tensors, tasks)


class TaskFiles:
    """How many tasks of a method lie in which folder, so that saving writes what is new and nothing else.

    For methods in which what a task has of its own does not change after it was learned.

    Args:
        folder: where tasks lie already.
        tasks: how many.
    """

    def __init__(self, folder: Path | None = None, tasks: int = 0) -> None:
        self._folder = folder
        self._tasks = tasks

    def write_new(self, folder: Path, tasks: Sequence[Mapping[str, Tensor]]) -> None:
        """Write the tasks that the folder lacks; a file that was there before the method knew of it is replaced."""
        written = self._tasks if folder == self._folder else 0
        for task, tensors in enumerate(tasks):
            if task >= written or not (folder / _task_name(task)).exists():
                write_task(folder, task, tensors)
        self._folder, self._tasks = folder, len(tasks)


def read_state(folder: Path, device: torch.device) -> State:
    """Return what is intact: the shared tensors, and the tasks before the first that is missing or damaged."""
    shared: dict[str, Tensor] | None = None
    shared_after, tasks, damage = 0, [], None
    try:
        if (folder / _SHARED).exists():
            shared, shared_after = read_tensors(folder / _SHARED, device)
        last = max((_task_number(path) for path in _task_paths(folder)), default=-1)
        if shared is None and (folder / _SHARED).exists():
            return read_state(folder, device)  # its first task was saved between the two looks, by another process
        for task in range(last + 1):
            path = folder / _task_name(task)
            if not path.exists():
                raise CorruptBank(f"{path}: it is missing, and task {last} is there{_RESTORE}")
            tensors, number = read_tensors(path, device)
            if number != task:
                raise CorruptBank(f"{path}: it holds task {number}{_RESTORE}")
            tasks.append(tensors)
    except CorruptBank as error:
        damage = str(error).removesuffix(_RESTORE)
    return State(shared, shared_after, tuple(tasks), damage)


def stored_task_files(folder: Path) -> int:
    """Return about how many tasks a folder holds, from the files' names and headers alone: for a list of runs.

    A stop between a task's own file and the shared one may make it one more than what opening finds.

    Raises:
        CorruptBank: the shared file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    shared = folder / _SHARED
    tasks = next(task for task in itertools.count() if not (folder / _task_name(task)).exists())
    if not shared.exists():
        return tasks
    try:
        with safe_open(shared, framework="np") as file:
            after = int((file.metadata() or {})[_ABOUT].split()[0])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorruptBank(f"{shared}: it cannot be read ({error}){_RESTORE}") from None
    return max(tasks, after)


def open_tasks(folder: Path, device: torch.device, *, mend: bool = True) -> tuple[State, tuple[str, ...]]:
    """Return the tasks before the first damaged one, and a line if there is one.

    It is set aside to be learned again, with all behind it, which may have been learned from it.

    For methods whose tasks change nothing of each other. What they share, if anything, was written with task 0.

    Raises:
        CorruptBank: a file is damaged, and is not to be mended.
    """
    state = read_state(folder, device)
    if state.damage is None:
        return state, ()
    if not mend:
        raise CorruptBank(f"{state.damage}; resume the run to learn again what is lost")
    if state.shared is None and (folder / _SHARED).exists():
        return _start_over(folder, state.damage)
    behind = [path for path in _task_paths(folder) if _task_number(path) >= len(state.tasks)]
    aside = [set_aside(path).name for path in behind]
    named = aside[0] if len(aside) == 1 else f"{aside[0]} to {aside[-1]} ({len(aside)} files)"
    kept = f"tasks kept before it: {len(state.tasks)}, the others are learned again"
    return State(state.shared, state.shared_after, state.tasks), (
        f"{state.damage}; {kept}; set aside, in {folder}: {named}",
    )


def open_sequence(
    folder: Path, device: torch.device, *, task_files: bool, mend: bool = True
) -> tuple[State, tuple[str, ...]]:
    """Return what a folder holds where each task changes what all share: whole, or else nothing, and a line that says so.

    Args:
        folder: may be missing.
        device: of the tensors.
        task_files: whether tasks have something of their own as well.
        mend: whether damaged files are set aside.

    Raises:
        CorruptBank: a file is damaged, and is not to be mended.
    """
    state = read_state(folder, device)
    needed = state.shared_after if task_files else 0
    tasks = state.tasks[:needed]  # a stop may have come between a task's own file and the shared one
    # Without it there may be the first task's own file, from a stop between the two, and nothing else.
    shared_is_lost = state.shared is None and ((folder / _SHARED).exists() or len(_task_paths(folder)) > 1)
    if not shared_is_lost and len(tasks) == needed:
        return State(state.shared, state.shared_after, tasks), ()
    lost = _SHARED if shared_is_lost else _task_name(len(tasks))
    damage = state.damage or f"{folder / lost}: it is missing"
    if not mend:
        raise CorruptBank(f"{damage}; resume the run to learn again what is lost")
    return _start_over(folder, damage)


def _start_over(folder: Path, damage: str) -> tuple[State, tuple[str, ...]]:
    aside = set_aside(folder)
    return State(None, 0, ()), (f"{damage}; all tasks are learned again; the damaged files are in {aside.name}",)


def set_aside(path: Path) -> Path:
    """Rename a file or folder out of the way, and return its new name."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            path.rename(aside)
            return aside
    raise AssertionError("unreachable")


def _task_name(task: int) -> str:
    return f"task-{task:06d}.safetensors"


def _task_paths(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("task-*.safetensors") if path.stem[5:].isdigit()), key=_task_number)


def _task_number(path: Path) -> int:
    return int(path.stem[5:])


def write_tensors(path: Path, tensors: Mapping[str, Tensor], number: int) -> None:
    """Replace a file by one that holds tensors and a number; a stop at any moment leaves the old one, or the new."""
    import safetensors.torch  # here and not above: files need it, training and searching do not

    kept = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    about = {_ABOUT: f"{number} {_checksum(number, kept)}"}  # one entry, as the library writes several in any order
    make_folder(path.parent)
    replace_file(path, safetensors.torch.save(kept, metadata=about))


def read_tensors(path: Path, device: torch.device) -> tuple[dict[str, Tensor], int]:
    """Return what `write_tensors` wrote.

    Raises:
        CorruptBank: it cannot be read, or is not as it was written.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    try:
        # Read at once: the library's `safe_open` opens a path twice, and a run may replace the file between the two.
        content = path.read_bytes()
        tensors = dict(sorted(safetensors.torch.load(content).items()))
        number, expected = map(int, _metadata(content)[_ABOUT].split())
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorruptBank(f"{path}: it cannot be read ({error}){_RESTORE}") from None
    if _checksum(number, tensors) != expected:
        raise CorruptBank(f"{path}: its content differs from its checksum{_RESTORE}")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, number


def _metadata(content: bytes) -> dict[str, str]:
    """Return what the content of a safetensors file says of itself, which the library tells of a path alone."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__") or {}


def _checksum(number: int, tensors: Mapping[str, Tensor]) -> int:
    """Return the CRC-32 of values, and of what says how to read them: number, names, types and shapes."""
    header = repr((number, [(name, str(value.dtype), tuple(value.shape)) for name, value in tensors.items()]))
    return checksum(torch.frombuffer(bytearray(header.encode()), dtype=torch.uint8), *tensors.values())

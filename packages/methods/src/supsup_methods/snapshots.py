"""The state of tasks in training, kept now and then, so that a stop loses minutes of a long task and not hours.

A task of SplitImageNet trains for half an hour on a GPU. What its next step needs is a few tensors, which are named here and
written to one file a group of tasks; whoever goes on writes them back and skips the batches that were seen.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from supsup_core import CorruptBank
from torch import Tensor

from supsup_methods.state_files import read_tensors, set_aside, write_tensors

_PREFIX, _SUFFIX = "in-training-", ".safetensors"
_TASKS = "tasks in training"
_SECONDS = "seconds in training"

SNAPSHOTS = f"{_PREFIX}*{_SUFFIX}"
"""What their files are called."""
SNAPSHOT_SECONDS = 300.0
"""Between two of them, unless somebody asks for another number."""


class Snapshots:
    """Files that hold the tasks in training, as they were after a step: `in-training-000007.safetensors`, by the first task.

    Several processes may train in one folder, each a group of tasks of its own.

    Args:
        folder: of the files; None to keep nothing.
        seconds: between two states of the same tasks.
    """

    def __init__(self, folder: Path | None = None, seconds: float = SNAPSHOT_SECONDS) -> None:
        self._folder = folder
        self.seconds = seconds
        """Between two states of the same tasks."""
        self._begun = self._last = time.monotonic()
        self.seconds_before = 0.0
        """How long the tasks at hand were trained before they were kept."""
        self.notes: list[str] = []
        """What went wrong with a file, in a line each."""

    def restore(self, tasks: Sequence[int], state: Mapping[str, Tensor]) -> int:
        """Write what was kept of these tasks into their tensors, and return after how many steps that was; 0 if nothing was."""
        self._begun = self._last = time.monotonic()
        self.seconds_before = 0.0
        path = self._path(tasks)
        if path is None or not path.exists():
            return 0
        try:
            kept, step = read_tensors(path, torch.device("cpu"))
            of, seconds = kept.pop(_TASKS).tolist(), float(kept.pop(_SECONDS))
            if of != list(tasks):
                return 0
            _refuse_other(path, kept, state)
        except CorruptBank as error:
            self.notes.append(
                f"{str(error).split(';')[0]}; the task is learned from its start; it is now {set_aside(path).name}"
            )
            return 0
        for name, tensor in state.items():
            tensor.copy_(kept[name])
        self.seconds_before = seconds
        return step

    def offer(self, tasks: Sequence[int], step: int, state: Mapping[str, Tensor]) -> None:
        """Keep the tensors as they are after so many steps, if it is time."""
        now, path = time.monotonic(), self._path(tasks)
        if path is None or now - self._last < self.seconds:
            return
        about = {
            _TASKS: torch.tensor(list(tasks)),
            _SECONDS: torch.tensor(self.seconds_before + now - self._begun, dtype=torch.float64),
        }
        write_tensors(path, {**state, **about}, step)
        self._last = time.monotonic()

    def forget(self, tasks: Sequence[int]) -> None:
        """Remove the file of these tasks: they are saved."""
        path = self._path(tasks)
        if path is not None:
            path.unlink(missing_ok=True)

    def _path(self, tasks: Sequence[int]) -> Path | None:
        return None if self._folder is None else snapshot_path(self._folder, tasks[0])


def snapshot_path(folder: Path, first_task: int) -> Path:
    """Return the file of the group that begins with a task."""
    return folder / f"{_PREFIX}{first_task:06d}{_SUFFIX}"


def forget_before(folder: Path, tasks_learned: int) -> None:
    """Remove the files of tasks that are saved: a stop between the two left them."""
    for path in folder.glob(SNAPSHOTS):
        first = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        if first.isdecimal() and int(first) < tasks_learned:
            path.unlink(missing_ok=True)


def _refuse_other(path: Path, kept: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise CorruptBank where other tensors were kept than training has."""
    found, expected = ({name: tuple(value.shape) for name, value in each.items()} for each in (kept, state))
    if found != expected:
        raise CorruptBank(f"{path}: it holds {found} where training has {expected}")

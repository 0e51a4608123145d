"""All runs of a folder, a line each: for tables that are looked at every few seconds, of a thousand runs.

So a line costs little. Files are read as plain JSON (`run_facts`) and looked at again only when they change. What cannot be read
so is read again strictly, by `run_folder`, for the message.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from supsup_core import SupsupError

from supsup_methods.errors import UsageError
from supsup_methods.run_facts import READERS, Facts
from supsup_methods.run_folder import BANK, ENVIRONMENT, LOCK, PROGRESS, RECIPE, SUMMARY, RunFolder
from supsup_methods.run_lock import holder_of
from supsup_methods.run_states import RunState, state_of, why_failed
from supsup_methods.tracking import RUN_ID

LineState: TypeAlias = RunState | Literal["damaged"]
"""As a run stands, or `damaged`: no process works on it, and one of its files cannot be read."""

_Stamp: TypeAlias = tuple[tuple[int, int], ...]
_LOOKED_AT = (RECIPE, PROGRESS, SUMMARY, BANK, ENVIRONMENT, LOCK, RUN_ID)
_ODD = (ArithmeticError, AttributeError, LookupError, OSError, SupsupError, TypeError, ValueError)
"""What is raised by files that are not as they were written."""


@dataclass(frozen=True)
class RunLine:
    """What a list tells of one run; what is not known, or not yet, is None, or an empty text.

    Attributes:
        name: of its folder.
        problem: why it failed, or what is damaged, in one line.
        method: its kind, as those of the stream and the backbone.
        tasks: that the recipe asks for.
        learned: that its files hold.
        data: name of the data set.
        accuracy: fraction of the images of the last checkpoint that were right, averaged over tasks.
        task_inference_accuracy: fraction of its test batches whose task was found; None where the task was given.
        train_seconds: of all tasks so far.
        stored_bytes: of contexts, buffers and what tasks share, once the run is done.
        steps_per_second: training steps, over the last tasks, of a run that is going on; None where its recipe counts epochs.
        seconds_a_task: of training, over the last tasks.
        tasks_in_training: that train next to each other now, and are saved together.
        seconds_left: of training, of a run that is going on; tests come on top.
        begun: when it was started for the first time.
        ended: when the last of its files was written, the note of how it ended among them; None while it is going on.
        pid: of the process that works on it, or was the last that did; None where none told.
        tracking_id: of its entry in the MLflow store.
    """

    name: str
    state: LineState
    problem: str = ""
    recipe: str = ""
    method: str = ""
    stream: str = ""
    backbone: str = ""
    scenario: str = ""
    tasks: int | None = None
    learned: int | None = None
    seed: int | None = None
    device: str = ""
    data: str = ""
    accuracy: float | None = None
    task_inference_accuracy: float | None = None
    train_seconds: float | None = None
    stored_bytes: int | None = None
    steps_per_second: float | None = None
    seconds_a_task: float | None = None
    tasks_in_training: int = 1
    seconds_left: float | None = None
    begun: datetime | None = None
    ended: datetime | None = None
    pid: int | None = None
    tracking_id: str = ""


class RunListing:
    """The runs directly under a folder; it remembers what it read, so one object should live as long as the list is looked at.

    Args:
        parent: of the runs' folders; it may be missing.
    """

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._known: dict[str, _Known] = {}

    def lines(self) -> list[RunLine]:
        """Return a line for each run, in no order; folders without a recipe are none, nor those whose name begins with a dot.

        What cannot be looked into is passed over, and so is a name that is not UTF-8, which no page can show.
        """
        known, lines = {}, []
        for name in _folder_names(self.parent):
            stamp = _stamp(f"{self.parent}/{name}")
            if stamp[0] == _MISSING:
                continue
            seen = self._known.get(name)
            if seen is None or seen.stamp != stamp:
                seen = _Known(stamp, _read(RunFolder(self.parent / name), stamp))
            line = seen.at_rest or _as_it_stands(RunFolder(self.parent / name), seen)
            # Who may read a file changes nothing of its stamp.
            known[name] = seen if line.state in ("running", "damaged") else _Known(stamp, seen.read, at_rest=line)
            lines.append(line)
        self._known = known  # in one step, as several sessions may ask at once
        return lines


@dataclass(frozen=True)
class _Known:
    """What was read of a run.

    Attributes:
        stamp: of its files, just before.
        read: what they said.
        at_rest: the line, where no process works on the run; whoever begins to, writes into the lock and changes the stamp.
    """

    stamp: _Stamp
    read: RunLine
    at_rest: RunLine | None = None


_MISSING = (0, -1)


def _folder_names(parent: Path) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".") and _can_be_shown(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _can_be_shown(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder that can be looked into, which a link to itself cannot, and has letters for a name."""
    with contextlib.suppress(OSError, UnicodeEncodeError):
        entry.name.encode()
        return entry.is_dir()
    return False


def _stamp(path: str) -> _Stamp:
    """Return what changes when a run's files do: moment and size of each; a folder changes with each file that comes or goes."""
    return tuple(_changed(f"{path}/{name}") for name in _LOOKED_AT)


def _changed(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116  # seven for each run: with Path they would take twice as long
    except OSError:
        return _MISSING
    return status.st_mtime_ns, status.st_size


def _as_it_stands(folder: RunFolder, known: _Known) -> RunLine:
    """Return a line with what depends on the process, and on the moment."""
    line = known.read
    try:
        state = state_of(folder)
    except OSError as error:
        problem = f"{folder.path / LOCK}: it does not tell whether a process works on the run ({error.strerror}); mend the file"
        return replace(line, state="damaged", problem=line.problem or problem, steps_per_second=None)
    if state == "running":
        changed = max(moment for moment, _ in known.stamp) / 1e9
        return replace(line, state=state, seconds_left=_seconds_left(line, time.time() - changed), ended=None)
    if line.problem:
        return replace(line, steps_per_second=None)
    return replace(line, state=state, problem=why_failed(folder) if state == "failed" else "", steps_per_second=None)


def _seconds_left(line: RunLine, since_last_task: float) -> float | None:
    """Return the seconds of all tasks that are left, without those that the tasks in training have had, at most all of theirs."""
    if line.tasks is None or line.learned is None or line.seconds_a_task is None:
        return None
    left = line.tasks - line.learned
    in_training = min(line.tasks_in_training, left)
    return left * line.seconds_a_task - min(since_last_task, in_training * line.seconds_a_task) if left > 0 else 0.0


def _read(folder: RunFolder, stamp: _Stamp) -> RunLine:
    """Return what a run's files say, as far as they can be read."""
    known: Facts = {"name": folder.path.name, "state": "stopped"}
    try:
        for read in READERS:
            known |= read(folder, known)
    except _ODD as error:
        known |= {"state": "damaged", "problem": _problem(folder, error)}
    known.setdefault("ended", _moment(max(moment for moment, _ in stamp)))
    holder = holder_of(folder.path / LOCK)
    return RunLine(**known, begun=_moment(stamp[0][0]), pid=None if holder is None else holder.pid)


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _problem(folder: RunFolder, error: Exception) -> str:
    """Return what is wrong with a run's files in a line, from whoever reads them strictly."""
    last = folder.summary if folder.is_done else folder.progress
    readers: tuple[Callable[[], Any], ...] = (folder.recipe, folder.environment, lambda: folder.tasks_saved, last)
    for read in readers:
        try:
            read()
        except (OSError, SupsupError, UsageError) as problem:
            return " ".join(str(problem).split())
    return f"{folder.path}: not as it was written ({type(error).__name__}: {error}); restore it from a copy"

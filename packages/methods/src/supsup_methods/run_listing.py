"""All runs of a folder, a line each: for tables that are looked at every few seconds, of a thousand runs.

So a line costs little. Files are read as plain JSON and looked at again only when they change. Of a run that is done, only
summary.json is read. Of any other, the files of tasks are counted, and of progress.json, megabytes for thousands of tasks, the
first entry is read, the seconds, unless a checkpoint should be in it. What cannot be read so is read again strictly, by
`run_folder`, for the message.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from supsup_core import SupsupError

from supsup_methods.errors import UsageError
from supsup_methods.run_folder import BANK, ENVIRONMENT, LOCK, PROGRESS, RECIPE, SUMMARY, RunFolder
from supsup_methods.run_states import RunState, state_of, why_failed
from supsup_methods.tracking import RUN_ID

LineState: TypeAlias = RunState | Literal["damaged"]
"""As a run stands, or `damaged`: no process works on it, and one of its files cannot be read."""

_Stamp: TypeAlias = tuple[tuple[int, int], ...]
_LOOKED_AT = (RECIPE, PROGRESS, SUMMARY, BANK, ENVIRONMENT, LOCK, RUN_ID)
_RECENT_TASKS = 10  # whose seconds tell how fast a run is now
_CHUNK_CHARACTERS = 65_536
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
        seconds_left: of training, of a run that is going on; tests come on top.
        begun: when it was started for the first time.
        ended: when the last of its files was written, the note of how it ended among them; None while it is going on.
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
    seconds_left: float | None = None
    begun: datetime | None = None
    ended: datetime | None = None
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
        """Return a line for each run, in no order; folders without a recipe are none, nor those whose name begins with a dot."""
        known, lines = {}, []
        for name in _folder_names(self.parent):
            stamp = _stamp(f"{self.parent}/{name}")
            if stamp[0] == _MISSING:
                continue
            seen = self._known.get(name)
            if seen is None or seen.stamp != stamp:
                seen = _Known(stamp, _read(RunFolder(self.parent / name), stamp))
            line = seen.at_rest or _as_it_stands(RunFolder(self.parent / name), seen)
            known[name] = seen if line.state == "running" else _Known(stamp, seen.read, at_rest=line)
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
            return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except FileNotFoundError:
        return []


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
    line, state = known.read, state_of(folder)
    if state == "running":
        changed = max(moment for moment, _ in known.stamp) / 1e9
        return replace(line, state=state, seconds_left=_seconds_left(line, time.time() - changed), ended=None)
    if line.problem:
        return replace(line, steps_per_second=None)
    return replace(line, state=state, problem=why_failed(folder) if state == "failed" else "", steps_per_second=None)


def _seconds_left(line: RunLine, since_last_task: float) -> float | None:
    """Return the seconds of all tasks that are left, without those that the task in training has had, one task's at most."""
    if line.tasks is None or line.learned is None or line.seconds_a_task is None:
        return None
    left = line.tasks - line.learned
    return left * line.seconds_a_task - min(since_last_task, line.seconds_a_task) if left > 0 else 0.0


def _read(folder: RunFolder, stamp: _Stamp) -> RunLine:
    """Return what a run's files say, as far as they can be read."""
    known: dict[str, Any] = {"name": folder.path.name, "state": "stopped"}
    try:
        for part in (_of_recipe, _of_environment, _of_results, _of_tracking):
            known |= part(folder, known)
    except _ODD as error:
        known |= {"state": "damaged", "problem": _problem(folder, error)}
    known.setdefault("ended", _moment(max(moment for moment, _ in stamp)))
    return RunLine(**known, begun=_moment(stamp[0][0]))


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


def _of_recipe(folder: RunFolder, known: Mapping[str, Any]) -> dict[str, Any]:
    recipe = _object(folder.path / RECIPE)
    return {
        "recipe": _as(str, recipe["name"]),
        "method": _as(str, recipe["method"]["kind"]),
        "stream": _as(str, recipe["stream"]["kind"]),
        "backbone": _as(str, recipe["backbone"]["kind"]),
        "scenario": _as(str, recipe["evaluation"]["scenario"]),
        "tasks": _as(int, recipe["tasks"]),
        "seed": _as(int, recipe["seed"]),
    }


def _of_environment(folder: RunFolder, known: Mapping[str, Any]) -> dict[str, Any]:
    environment = _object(folder.path / ENVIRONMENT)
    return {"device": _as(str, environment["device"]), "data": _as(str, environment["data_name"])}


def _of_results(folder: RunFolder, known: Mapping[str, Any]) -> dict[str, Any]:
    return _of_summary(folder, known["tasks"]) if folder.is_done else _of_progress(folder)


def _of_tracking(folder: RunFolder, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"tracking_id": (folder.path / RUN_ID).read_text().strip()}
    except FileNotFoundError:
        return {}


def _of_summary(folder: RunFolder, tasks: int) -> dict[str, Any]:
    summary = _object(folder.path / SUMMARY)
    last, seconds = summary["checkpoints"][-1], _number(summary["seconds"]["train"])
    found = last["task_inference_accuracy"]
    return {
        "learned": tasks,
        "accuracy": _number(last["accuracy"]),
        "task_inference_accuracy": None if found is None else _number(found),
        "train_seconds": seconds,
        "stored_bytes": _as(int, summary["bytes"]["total"]),
        "seconds_a_task": seconds / tasks,
        "ended": datetime.fromisoformat(summary["finished"]),
    }


def _of_progress(folder: RunFolder) -> dict[str, Any]:
    path, learned = folder.path / PROGRESS, folder.tasks_saved
    seconds = [_number(value) for value in _train_seconds(path).values()] if path.exists() else []
    facts: dict[str, Any] = {"learned": learned, "train_seconds": sum(seconds)}
    if seconds:
        recent = seconds[-_RECENT_TASKS:]
        facts["seconds_a_task"] = sum(recent) / len(recent)
    recipe = _object(folder.path / RECIPE)
    steps = _steps_a_task(recipe["method"]["training"])
    if steps is not None and facts.get("seconds_a_task"):
        facts["steps_per_second"] = steps / facts["seconds_a_task"]
    if path.exists() and learned >= min(recipe["evaluation"]["checkpoints"], default=recipe["tasks"]):
        facts |= _last_checkpoint(_object(path)["checkpoints"])
    return facts


def _steps_a_task(training: Mapping[str, Any]) -> int | None:
    """Return the training steps of a task (`TrainingLength`); None where they depend on how many images it has."""
    return None if training.get("epochs") is not None else _as(int, training["batches"])


def _last_checkpoint(checkpoints: list[Any]) -> dict[str, Any]:
    """Return the accuracies of the last checkpoint, as `evaluation.Checkpoint` defines them."""
    if not checkpoints:
        return {}
    scores = checkpoints[-1]["scores"]
    guesses = sum(score["guesses"] for score in scores)
    return {
        "accuracy": sum(score["images_right"] / score["images"] for score in scores) / len(scores),
        "task_inference_accuracy": sum(score["guesses_right"] for score in scores) / guesses if guesses else None,
    }


def _train_seconds(path: Path) -> dict[str, float]:
    """Return the training seconds of each task from the beginning of progress.json, of which they are the first entry."""
    text = ""
    with open(path, encoding="utf-8") as file:
        while "}" not in text and (chunk := file.read(_CHUNK_CHARACTERS)):
            text += chunk
    end = text.find("}") + 1  # of the entry, whose values are numbers
    if not text[:end].lstrip("{ \n").startswith('"train_seconds"'):
        return dict(_object(path)["train_seconds"])
    return dict(json.loads(text[:end] + "}")["train_seconds"])


def _object(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = _as(dict, json.loads(path.read_bytes()))
    return content


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int) else _as(float, value)


def _as(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value

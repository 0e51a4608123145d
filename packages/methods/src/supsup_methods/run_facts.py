"""What the files of a run say, read as plain JSON: for lists of a thousand runs (`run_listing`).

Of a run that is done, only summary.json is read beside what was asked. Of any other, the files of tasks are counted, and of
progress.json, megabytes for thousands of tasks, the first entry is read, the seconds, unless a checkpoint should be in it.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from supsup_methods.run_folder import ENVIRONMENT, PROGRESS, RECIPE, SUMMARY, RunFolder
from supsup_methods.tracking import RUN_ID

Facts: TypeAlias = dict[str, Any]
"""Fields of a `RunLine`, by their names."""

_RECENT_TASKS = 10  # whose seconds tell how fast a run is now
_CHUNK_CHARACTERS = 65_536


def _of_recipe(folder: RunFolder, known: Mapping[str, Any]) -> Facts:
    recipe = _object(folder.path / RECIPE)
    return {
        "recipe": _as(str, recipe["name"]),
        "method": _as(str, recipe["method"]["kind"]),
        "stream": _as(str, recipe["stream"]["kind"]),
        "backbone": _as(str, recipe["backbone"]["kind"]),
        "scenario": _as(str, recipe["evaluation"]["scenario"]),
        "tasks": _whole(recipe["tasks"]),
        "seed": _whole(recipe["seed"]),
    }


def _of_environment(folder: RunFolder, known: Mapping[str, Any]) -> Facts:
    environment = _object(folder.path / ENVIRONMENT)
    return {"device": _as(str, environment["device"]), "data": _as(str, environment["data_name"])}


def _of_results(folder: RunFolder, known: Mapping[str, Any]) -> Facts:
    return _of_summary(folder, known["tasks"]) if folder.is_done else _of_progress(folder)


def _of_tracking(folder: RunFolder, known: Mapping[str, Any]) -> Facts:
    try:
        return {"tracking_id": (folder.path / RUN_ID).read_text().strip()}
    except FileNotFoundError:
        return {}


def _of_summary(folder: RunFolder, tasks: int) -> Facts:
    summary = _object(folder.path / SUMMARY)
    last, seconds = summary["checkpoints"][-1], _number(summary["seconds"]["train"])
    found = last["task_inference_accuracy"]
    return {
        "learned": tasks,
        "accuracy": _number(last["accuracy"]),
        "task_inference_accuracy": None if found is None else _number(found),
        "train_seconds": seconds,
        "stored_bytes": _whole(summary["bytes"]["total"]),
        "seconds_a_task": seconds / tasks,
        "ended": datetime.fromisoformat(summary["finished"]),
    }


def _of_progress(folder: RunFolder) -> Facts:
    path, learned = folder.path / PROGRESS, folder.tasks_saved
    seconds = [_number(value) for value in _train_seconds(path).values()] if path.exists() else []
    recipe, environment = _object(folder.path / RECIPE), _object(folder.path / ENVIRONMENT)
    in_training = _tasks_in_training(recipe, environment, learned)
    facts: Facts = {"learned": learned, "train_seconds": sum(seconds), "tasks_in_training": in_training}
    if seconds:
        recent = seconds[-_RECENT_TASKS:]
        facts["seconds_a_task"] = sum(recent) / len(recent)
    steps = _steps_a_task(recipe["method"]["training"])
    if steps is not None and facts.get("seconds_a_task"):
        facts["steps_per_second"] = steps / facts["seconds_a_task"]
    if path.exists() and learned >= min(recipe["evaluation"]["checkpoints"], default=recipe["tasks"]):
        facts |= _last_checkpoint(_object(path)["checkpoints"])
    return facts


def _tasks_in_training(recipe: Mapping[str, Any], environment: Mapping[str, Any], learned: int) -> int:
    """Return how many tasks train next to each other behind those that are learned: a group of `TaskOrder` on each device."""
    ends = [checkpoint for checkpoint in recipe["evaluation"]["checkpoints"] if checkpoint > learned]
    group: int = min(_whole(environment.get("tasks_at_once", 1)), min(ends, default=recipe["tasks"]) - learned)
    return group * len(environment["device"].split(","))


def _steps_a_task(training: Mapping[str, Any]) -> int | None:
    """Return the training steps of a task (`TrainingLength`); None where they depend on how many images it has."""
    return None if training.get("epochs") is not None else _as(int, training["batches"])


def _last_checkpoint(checkpoints: list[Any]) -> Facts:
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


def _whole(value: Any) -> int:
    """Return a whole number that tables hold, as all that a run counts are."""
    number: int = _as(int, value)
    if not -(2**63) <= number < 2**63:
        raise OverflowError(f"{number} has more than 64 bits")
    return number


def _as(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


READERS: tuple[Callable[[RunFolder, Mapping[str, Any]], Facts], ...] = (
    _of_recipe,
    _of_environment,
    _of_results,
    _of_tracking,
)
"""Each takes a run and what those before it said, and says more; what is not as it was written raises whatever Python raises."""

"""Carrying out a recipe: learn task after task, test at checkpoints, keep everything that is finished."""

import json
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Protocol

import torch
from supsup_datasets import AnyDataset, Scenario, Task, TaskStream

from supsup_methods.assembly import build_problem, open_method
from supsup_methods.continual_method import AllocatesMasks, AnyMethod
from supsup_methods.data_assembly import build_stream
from supsup_methods.devices import describe_machine, make_repeatable
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, evaluate_task
from supsup_methods.experiment import Recipe
from supsup_methods.mask_bookkeeping import Stretch, keep_books, mask_owners, stretches
from supsup_methods.mending import mended_progress, sweep
from supsup_methods.metrics import backward_transfer, forgetting
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import SNAPSHOT, Environment, Progress, RunFolder
from supsup_methods.snapshots import SNAPSHOT_SECONDS, Snapshots
from supsup_methods.state_files import set_aside


class RunObserver(Protocol):
    """Somebody who wants to know how a run goes: a progress bar, a tracking store."""

    def begun(self, tasks_learned: int) -> None:
        """Training goes on after `tasks_learned` tasks (0 for a new run)."""

    def batch_trained(self) -> None:
        """One training batch is done."""

    def task_learned(self, tasks_learned: int, seconds: float) -> None:
        """A task is learned and saved."""

    def batch_tested(self) -> None:
        """One test batch is done."""

    def tested(self, checkpoint: Checkpoint) -> None:
        """All tasks learned so far are tested."""

    def noted(self, message: str) -> None:
        """Something happened that the user should know, in one line."""


def describe_environment(
    device: torch.device, dataset: AnyDataset, data_root: Path | None, tasks_at_once: int = 1
) -> Environment:
    """Return what a run started now depends on beside its recipe."""
    versions = {name: version(name) for name in ("supsup-core", "supsup-datasets", "supsup-methods", "torch")}
    versions["python"] = python_version()
    root = None if data_root is None else str(data_root.resolve())
    return Environment(
        device=str(device),
        threads=torch.get_num_threads(),
        data_name=dataset.name,
        data_digest=dataset.digest,
        data_root=root,
        versions=versions,
        tasks_at_once=tasks_at_once,
        machine=describe_machine(device),
    )


def adopt_environment(recorded: Environment, current: Environment) -> None:
    """Take over the recorded number of threads; everything else must be as it was.

    Raises:
        UsageError: device, data, group size or torch differ, so the run could not end with the same bits.
    """
    for what, then, now in (
        ("--device", recorded.device, current.device),
        (
            "data",
            f"{recorded.data_name} {recorded.data_digest[:12]}",
            f"{current.data_name} {current.data_digest[:12]}",
        ),
        ("--tasks-at-once", recorded.tasks_at_once, current.tasks_at_once),
        ("torch", recorded.versions.get("torch"), current.versions["torch"]),
    ):
        if then != now:
            raise UsageError(
                f"{what} {now}: the run was started with {then} and goes on only with that; start a new run"
            )
    torch.set_num_threads(recorded.threads)


def execute(
    folder: RunFolder,
    recipe: Recipe,
    dataset: AnyDataset,
    device: torch.device,
    observer: RunObserver,
    snapshot_seconds: float = SNAPSHOT_SECONDS,
) -> Summary:
    """Carry out a recipe in a folder that `RunFolder.begin` prepared, or go on where it stopped; return the summary.

    What is learned of each task depends only on the recipe, the data and the machine, so a run that was stopped anywhere ends
    with the bits of one that was not. The tasks in flight go on from where they were kept last (`snapshots`), and those that a
    crash of the machine damaged are learned again.
    """
    make_repeatable(device)
    dataset = dataset.to(device)
    snapshots = Snapshots(folder.path / SNAPSHOT, snapshot_seconds)
    stream, problem = build_stream(recipe, dataset), build_problem(recipe, dataset, device, snapshots)
    sweep(folder)
    progress, notes = mended_progress(folder)
    tasks_at_once = folder.environment().tasks_at_once

    def whole_groups(tasks: int) -> int:
        return _whole_groups(recipe, tasks_at_once, tasks)

    opened = open_method(recipe, problem, folder.bank, whole_groups)
    notes += opened.notes
    method = opened.method
    if not _can_test_what_is_missing(method, recipe, progress, tasks_at_once):
        notes.append(_forget(folder))
        method = open_method(recipe, problem, folder.bank, whole_groups).method
    for note in notes:
        observer.noted(note)
    observer.begun(method.tasks_learned)
    for group in _first_tests_due(recipe, progress, tasks_at_once, method.tasks_learned):
        _test_first(_as_after(method, group.stop), stream, [stream[task] for task in group], recipe, progress)
        folder.write_progress(progress)
    while True:
        learned = method.tasks_learned
        for checkpoint in _checkpoints_due(recipe, progress, learned):
            progress.checkpoints.append(_test(_as_after(method, checkpoint), stream, recipe, observer))
            progress.checkpoints.sort(key=lambda each: each.tasks_learned)
            folder.write_progress(progress)
        if learned == recipe.tasks:
            break
        tasks = [stream[task] for task in _next_group(recipe, tasks_at_once, learned)]
        seconds = _learn(method, tasks, observer, snapshots)
        for note in snapshots.notes:
            observer.noted(note)
        snapshots.notes.clear()
        _test_first(method, stream, tasks, recipe, progress)
        progress.train_seconds.update(dict.fromkeys([task.index for task in tasks], seconds))
        # Before what was learned: a task that is saved has its seconds and its first test.
        folder.write_progress(progress)
        method.save(folder.bank)
        snapshots.forget()
        for task in tasks:
            observer.task_learned(task.index + 1, seconds)
    summary = _summarize(recipe, method, progress, folder.environment())
    parts = _stretches(method, stream, recipe, recipe.tasks) if isinstance(method, AllocatesMasks) else None
    if parts is not None:
        summary["allocation"] = asdict(keep_books(parts))
    if not (folder.has_results and _same_results(folder.summary(), summary)):  # which says when the run came to its end
        if parts is not None:
            folder.write_stretches(parts)
        folder.write_summary(summary)
    return folder.summary()


def _can_test_what_is_missing(method: AnyMethod, recipe: Recipe, progress: Progress, tasks_at_once: int) -> bool:
    """Tell whether every state of the method whose test is missing can still be had."""
    due = _checkpoints_due(recipe, progress, method.tasks_learned)
    due += [tasks.stop for tasks in _first_tests_due(recipe, progress, tasks_at_once, method.tasks_learned)]
    earlier = [tasks for tasks in due if tasks < method.tasks_learned]
    return not earlier or method.first(min(earlier)) is not None  # a method keeps all of its earlier states or none


def _as_after(method: AnyMethod, tasks: int) -> AnyMethod:
    then = method if tasks == method.tasks_learned else method.first(tasks)
    if then is None:
        raise AssertionError("unreachable: all was learned again")
    return then


def _forget(folder: RunFolder) -> str:
    """Set aside what was learned, where a test of an earlier state is missing and learning more has changed that state."""
    aside = set_aside(folder.bank)
    return (
        "a test of fewer tasks is missing, and this method's earlier answers have changed since; all tasks are learned again; "
        f"the files so far are in {aside.name}"
    )


def _next_group(recipe: Recipe, tasks_at_once: int, learned: int) -> range:
    """Return the tasks to train together after `learned`, where a group ended; it ends at a checkpoint at the latest."""
    return range(learned, min(learned + tasks_at_once, recipe.next_checkpoint(learned)))


def _whole_groups(recipe: Recipe, tasks_at_once: int, tasks: int) -> int:
    """Return how many of the first `tasks` were trained in groups that end among them."""
    start = 0
    while start < tasks and _next_group(recipe, tasks_at_once, start).stop <= tasks:
        start = _next_group(recipe, tasks_at_once, start).stop
    return start


def _checkpoints_due(recipe: Recipe, progress: Progress, learned: int) -> list[int]:
    """Return after how many tasks a test is missing: now, or earlier where the record of it was lost."""
    tested = {checkpoint.tasks_learned for checkpoint in progress.checkpoints}
    return [tasks for tasks in range(1, learned + 1) if recipe.is_checkpoint(tasks) and tasks not in tested]


def _first_tests_due(recipe: Recipe, progress: Progress, tasks_at_once: int, learned: int) -> list[range]:
    """Return the groups of learned tasks whose first test is missing: where its record was lost."""
    due, start = [], 0
    while start < learned:
        tasks = range(start, min(_next_group(recipe, tasks_at_once, start).stop, learned))
        if any(task not in progress.first_scores for task in tasks):
            due.append(tasks)
        start = tasks.stop
    return due


def _learn(method: AnyMethod, tasks: list[Task], observer: RunObserver, snapshots: Snapshots) -> float:
    """Learn tasks together and return the seconds that each of them took, as its share of all."""
    start = time.perf_counter()
    method.learn(tasks, observer.batch_trained)
    return (snapshots.seconds_before + time.perf_counter() - start) / len(tasks)


def _test(method: AnyMethod, stream: TaskStream, recipe: Recipe, observer: RunObserver) -> Checkpoint:
    start = time.perf_counter()
    scenario, batch_size = Scenario(recipe.evaluation.scenario), recipe.evaluation.batch_size
    owners = _owners(method, stream, recipe)
    scores = tuple(
        evaluate_task(method, stream[index], scenario, batch_size, observer.batch_tested, owners)
        for index in range(method.tasks_learned)
    )
    checkpoint = Checkpoint(method.tasks_learned, scores, time.perf_counter() - start)
    observer.tested(checkpoint)
    return checkpoint


def _stretches(method: AllocatesMasks, stream: TaskStream, recipe: Recipe, learned: int) -> list[Stretch]:
    """Return the parts of the stream with the mask that each was learned by, and its true task."""
    identities = [stream.identity(index) for index in range(learned)]
    return stretches(method.decisions, identities, recipe.method.training.steps(len(stream[0].train)))


def _owners(method: AnyMethod, stream: TaskStream, recipe: Recipe) -> dict[int, int] | None:
    """Return the true task of each mask, where masks are no tasks."""
    if not isinstance(method, AllocatesMasks):
        return None
    return mask_owners(_stretches(method, stream, recipe, method.tasks_learned))


def _test_first(method: AnyMethod, stream: TaskStream, tasks: list[Task], recipe: Recipe, progress: Progress) -> None:
    """Test tasks just after they were learned, which is what later tests are compared with."""
    start = time.perf_counter()
    scenario, batch_size = Scenario(recipe.evaluation.scenario), recipe.evaluation.batch_size
    owners = _owners(method, stream, recipe)
    scores = {task.index: evaluate_task(method, task, scenario, batch_size, owners=owners) for task in tasks}
    # The way of a recovery is for checkpoints: the record is written after each task, and should stay small.
    progress.first_scores.update({task: replace(score, recovery=None) for task, score in scores.items()})
    progress.first_test_seconds += time.perf_counter() - start


def _same_results(stored: Summary, made: Summary) -> bool:
    """Compare all but the moment, as JSON tells it."""
    return bool(json.loads(json.dumps({**made, "finished": stored["finished"]})) == stored)


def _summarize(recipe: Recipe, method: AnyMethod, progress: Progress, environment: Environment) -> Summary:
    """Return the summary: fractions, seconds and bytes."""
    checkpoints, first, sizes = progress.checkpoints, progress.first_scores, method.bytes
    return {
        "recipe": recipe.name,
        "method": recipe.method.kind,
        "scenario": recipe.evaluation.scenario,
        "seed": recipe.seed,
        "device": environment.device,
        "machine": environment.machine,
        "data": environment.data_name,
        "tasks": recipe.tasks,
        "checkpoints": [
            {
                "tasks_learned": checkpoint.tasks_learned,
                "accuracy": checkpoint.accuracy,
                "task_inference_accuracy": checkpoint.task_inference_accuracy,
                "forgetting": forgetting(checkpoints, first, checkpoint),
                "backward_transfer": backward_transfer(first, checkpoint),
            }
            for checkpoint in checkpoints
        ],
        "accuracy_per_task": [score.accuracy for score in checkpoints[-1].scores],
        "seconds": {
            "train": sum(progress.train_seconds.values()),
            "infer": sum(checkpoint.seconds for checkpoint in checkpoints),
            "first_tests": progress.first_test_seconds,
        },
        "bytes": {**asdict(sizes), "total": sizes.total},
        "settings": asdict(recipe),
        "versions": environment.versions,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }

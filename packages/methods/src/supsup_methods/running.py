"""Carrying out a recipe: learn task after task, test at checkpoints, keep everything that is finished."""

import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Protocol

import torch
from supsup_core import FrozenNetwork, MaskBank
from supsup_datasets import ImageDataset, Scenario, Task, TaskStream

from supsup_methods.assembly import build_method, build_network, build_stream
from supsup_methods.continual_method import ContinualMethod
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, evaluate_task
from supsup_methods.experiment import Recipe
from supsup_methods.mending import mended_bank, mended_progress, sweep
from supsup_methods.run_folder import Environment, Progress, RunFolder, Summary


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
    device: torch.device, dataset: ImageDataset, data_root: Path | None, tasks_at_once: int = 1
) -> Environment:
    """Return what a run started now depends on beside its recipe."""
    versions = {name: version(name) for name in ("supsup-core", "supsup-datasets", "supsup-methods", "torch")}
    versions["python"] = python_version()
    root = None if data_root is None else str(data_root.resolve())
    return Environment(
        str(device), torch.get_num_threads(), dataset.name, dataset.digest, root, versions, tasks_at_once
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
    folder: RunFolder, recipe: Recipe, dataset: ImageDataset, device: torch.device, observer: RunObserver
) -> Summary:
    """Carry out a recipe in a folder that `RunFolder.begin` prepared, or go on where it stopped; return the summary.

    Each task's mask depends only on the recipe, the data and the machine, so a run that was stopped anywhere ends with the
    bits of one that was not; at most the tasks in flight are learned again, and those that a crash of the machine damaged.
    """
    dataset = dataset.to(device)
    stream = build_stream(recipe, dataset)
    net = build_network(recipe, dataset, device)
    sweep(folder)
    progress, notes = mended_progress(folder)
    tasks_at_once = folder.environment().tasks_at_once
    bank, more_notes = mended_bank(folder, net, lambda tasks: _whole_groups(recipe, tasks_at_once, tasks))
    for note in notes + more_notes:
        observer.noted(note)
    method = build_method(recipe, net, bank, dataset)
    observer.begun(method.tasks_learned)
    while True:
        learned = method.tasks_learned
        for checkpoint in _checkpoints_due(recipe, progress, learned):
            then = (
                method
                if checkpoint == learned
                else build_method(recipe, net, _first_tasks(net, bank, checkpoint), dataset)
            )
            progress.checkpoints.append(_test(then, stream, recipe, observer))
            progress.checkpoints.sort(key=lambda each: each.tasks_learned)
            folder.write_progress(progress)
        if learned == recipe.tasks:
            break
        group = _next_group(recipe, tasks_at_once, learned)
        seconds = _learn(method, [stream[task] for task in group], observer)
        progress.train_seconds.update(dict.fromkeys(group, seconds))
        folder.write_progress(progress)  # before the bank: a task that is saved has its seconds
        bank.save(folder.bank)
        for task in group:
            observer.task_learned(task + 1, seconds)
    folder.write_summary(_summarize(recipe, bank, progress, folder.environment()))
    return folder.summary()


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


def _first_tasks(net: FrozenNetwork, bank: MaskBank, tasks: int) -> MaskBank:
    """Return the bank as it was after so many tasks."""
    first = MaskBank(net)
    first.append_rows(bank.rows[:tasks], bank.buffers[:tasks])
    return first


def _learn(method: ContinualMethod, tasks: list[Task], observer: RunObserver) -> float:
    """Learn tasks together and return the seconds that each of them took, as its share of all."""
    start = time.perf_counter()
    method.learn(tasks, observer.batch_trained)
    return (time.perf_counter() - start) / len(tasks)


def _test(method: ContinualMethod, stream: TaskStream, recipe: Recipe, observer: RunObserver) -> Checkpoint:
    start = time.perf_counter()
    scenario, batch_size = Scenario(recipe.evaluation.scenario), recipe.evaluation.batch_size
    scores = tuple(
        evaluate_task(method, stream[index], scenario, batch_size, observer.batch_tested)
        for index in range(method.tasks_learned)
    )
    checkpoint = Checkpoint(method.tasks_learned, scores, time.perf_counter() - start)
    observer.tested(checkpoint)
    return checkpoint


def _summarize(recipe: Recipe, bank: MaskBank, progress: Progress, environment: Environment) -> Summary:
    """Return the summary: fractions, seconds and bytes."""
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "device": environment.device,
        "data": environment.data_name,
        "tasks": recipe.tasks,
        "checkpoints": [
            {
                "tasks_learned": checkpoint.tasks_learned,
                "accuracy": checkpoint.accuracy,
                "task_inference_accuracy": checkpoint.task_inference_accuracy,
            }
            for checkpoint in progress.checkpoints
        ],
        "seconds": {
            "train": sum(progress.train_seconds.values()),
            "infer": sum(checkpoint.seconds for checkpoint in progress.checkpoints),
        },
        "bytes": {
            "contexts": bank.context_bytes,
            "buffers": bank.buffer_bytes,
            "total": bank.context_bytes + bank.buffer_bytes,
        },
        "settings": asdict(recipe),
        "versions": environment.versions,
    }

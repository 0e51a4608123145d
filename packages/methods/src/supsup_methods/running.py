"""Carrying out a recipe: learn task after task, test at checkpoints, keep everything that is finished."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import torch
from supsup_datasets import AnyDataset, Scenario, Task, TaskStream

from supsup_methods import recipe_files
from supsup_methods.assembly import build_problem, open_method
from supsup_methods.continual_method import AllocatesMasks, AnyMethod, LearnsApart, Problem
from supsup_methods.data_assembly import build_stream
from supsup_methods.devices import prepare_device
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, TaskScore, evaluate_task
from supsup_methods.experiment import Recipe
from supsup_methods.mask_bookkeeping import Stretch, keep_books, mask_owners, stretches_of
from supsup_methods.mending import mended_progress, sweep
from supsup_methods.precision import slow_products
from supsup_methods.registry import kind_of
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import Progress, RunFolder
from supsup_methods.snapshots import SNAPSHOT_SECONDS, Snapshots, forget_before
from supsup_methods.state_files import set_aside
from supsup_methods.summaries import same_results, summarize
from supsup_methods.task_order import TaskOrder
from supsup_methods.trainers import InThisProcess, Trainer
from supsup_methods.training_length import StreamTraining, TaskTraining
from supsup_methods.worker_pool import WorkerPool, worker_pool
from supsup_methods.worker_process import Workplace


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
    crash of the machine damaged are learned again. Where the run's environment names several devices, a process on each of them
    trains, and tests checkpoints where tasks are inferred (`worker_pool`); this one tests the rest, on `device`.

    Raises:
        WorkerLost: one of those processes ended.
    """
    prepare_device(device)
    dataset, order = dataset.to(device), TaskOrder(recipe, folder.environment().tasks_at_once)
    snapshots = Snapshots(folder.path, snapshot_seconds)
    stream, problem = build_stream(recipe, dataset), build_problem(recipe, dataset, device, snapshots)
    sweep(folder)
    progress, notes = mended_progress(folder)
    run = _Run(folder, recipe, order, stream, progress, snapshots, observer)
    method, more_notes = _opened(run, problem)
    forget_before(folder.path, method.tasks_learned)
    for note in (*notes, *more_notes, *_slow_products(method, run, device)):
        observer.noted(note)
    observer.begun(method.tasks_learned)
    for group in order.first_tests_due(progress, method.tasks_learned):
        _test_first(_as_after(method, group.stop), run, [stream[task] for task in group])
        folder.write_progress(progress)
    _go_on(method, run)
    return _write_results(method, run)


@dataclass(frozen=True)
class _Run:
    """What the parts of a run have in common."""

    folder: RunFolder
    recipe: Recipe
    order: TaskOrder
    stream: TaskStream
    progress: Progress
    snapshots: Snapshots
    observer: RunObserver


def _opened(run: _Run, problem: Problem) -> tuple[AnyMethod, list[str]]:
    """Return the method as the run's files left it, mended, and a line for each thing that had to be."""
    opened = open_method(run.recipe, problem, run.folder.bank, run.order.whole_groups)
    if _can_test_what_is_missing(opened.method, run):
        return opened.method, list(opened.notes)
    forgotten = _forget(run.folder)
    again = open_method(run.recipe, problem, run.folder.bank, run.order.whole_groups)
    return again.method, [*opened.notes, forgotten]


def _slow_products(method: AnyMethod, run: _Run, device: torch.device) -> list[str]:
    """Return a line where what is left to learn is trained in a precision that the device lacks."""
    training = run.recipe.method.training
    if method.tasks_learned == run.recipe.tasks or not isinstance(training, TaskTraining | StreamTraining):
        return []
    note = slow_products(training.precision, device)
    return [] if note is None else [note]


def _go_on(method: AnyMethod, run: _Run) -> None:
    """Test what is due and learn the tasks that are left: all here, or on each of several devices a process that shares them.

    Raises:
        UsageError: a method that says that its tasks are apart cannot learn them so.
    """
    groups, shared_from = list(run.order.groups(method.tasks_learned)), _shared_from(run)
    here = groups if shared_from is None else [group for group in groups if group.start < shared_from]
    if here or shared_from is None:
        _test_what_is_due(method, run)
    _learn_groups(method, run, here, InThisProcess(run.snapshots))
    shared = groups[len(here) :]
    processes = 0 if shared_from is None else _worth_processes(method, run, shared)
    if shared_from is not None and processes:
        if not isinstance(method, LearnsApart):  # of another package
            kind = run.recipe.method.kind
            raise UsageError(f"--device: {kind} offers no learn_apart, though its kind says so; name one device")
        with worker_pool(_places(run, shared_from)[:processes], iter(shared)) as pool:
            _test_what_is_due(method, run, pool)
            _learn_groups(method, run, shared, pool)
            _test_what_is_due(method, run, pool)
    _test_what_is_due(method, run)


def _shared_from(run: _Run) -> int | None:
    """Return the first task that processes share with those behind it; None where this process learns all."""
    several = len(run.folder.environment().devices) > 1
    return kind_of(run.recipe.method).apart_from(run.recipe.method) if several else None


def _worth_processes(method: AnyMethod, run: _Run, groups: list[range]) -> int:
    """Return how many processes have something to do: a group each, or tests of one task after another."""
    devices = len(run.folder.environment().devices)
    untested = bool(groups or run.order.checkpoints_due(run.progress, method.tasks_learned))
    return devices if untested and _shares_tests(run, run.recipe.tasks, devices) else min(devices, len(groups))


def _shares_tests(run: _Run, learned: int, processes: int) -> bool:
    """Tell whether processes share the test of so many tasks.

    Where the task is given it is over before they have read what was learned, and so is a test of few tasks.
    """
    return not Scenario(run.recipe.evaluation.scenario).task_given_at_test and learned >= 2 * processes


def _places(run: _Run, shared_from: int) -> list[Workplace]:
    """Return a place on each device, for processes that start from what the run has saved of the tasks before `shared_from`."""
    environment = run.folder.environment()
    return [
        Workplace(
            recipe_files.to_json(run.recipe),
            environment.data_root,
            environment.data_digest,
            device,
            environment.threads,
            str(run.folder.path),
            run.snapshots.seconds,
            str(run.folder.bank) if shared_from else None,
        )
        for device in environment.devices
    ]


def _learn_groups(method: AnyMethod, run: _Run, groups: list[range], trainer: Trainer) -> None:
    pool = trainer if isinstance(trainer, WorkerPool) else None
    for group in groups:
        _learn(method, run, group, trainer)
        run.snapshots.forget(group)
        _tell_learned(run, group)
        if group.stop < run.recipe.tasks:
            _test_what_is_due(method, run, pool)


def _learn(method: AnyMethod, run: _Run, group: range, trainer: Trainer) -> None:
    """Learn a group of tasks, test them for the first time, and save them."""
    tasks = [run.stream[task] for task in group]
    trained = trainer.learn(method, tasks, run.observer.batch_trained)
    for note in trained.notes:
        run.observer.noted(note)
    _test_first(method, run, tasks)
    run.progress.train_seconds.update(dict.fromkeys(group, trained.seconds))
    # Before what was learned: a task that is saved has its seconds and its first test.
    run.folder.write_progress(run.progress)
    method.save(run.folder.bank)


def _tell_learned(run: _Run, group: range) -> None:
    for task in group:
        run.observer.task_learned(task + 1, run.progress.train_seconds[task])


def _test_what_is_due(method: AnyMethod, run: _Run, pool: WorkerPool | None = None) -> None:
    """Test after as many tasks as were learned, or earlier ones whose test was lost; in a pool's processes where there is one."""
    progress = run.progress
    for checkpoint in run.order.checkpoints_due(progress, method.tasks_learned):
        progress.checkpoints.append(_test(_as_after(method, checkpoint), run, pool))
        progress.checkpoints.sort(key=lambda each: each.tasks_learned)
        run.folder.write_progress(progress)


def _write_results(method: AnyMethod, run: _Run) -> Summary:
    """Write the results where they are not there yet, and return them as they are stored, with the moment they were made."""
    folder = run.folder
    summary = summarize(run.recipe, method, run.progress, folder.environment())
    parts = _stretches(method, run, run.recipe.tasks) if isinstance(method, AllocatesMasks) else None
    if parts is not None:
        summary["allocation"] = asdict(keep_books(parts))
    if not (folder.has_results and same_results(folder.summary(), summary)):  # which says when the run came to its end
        if parts is not None:
            folder.write_stretches(parts)
        folder.write_summary(summary)
    return folder.summary()


def _can_test_what_is_missing(method: AnyMethod, run: _Run) -> bool:
    """Tell whether every state of the method whose test is missing can still be had."""
    due = run.order.checkpoints_due(run.progress, method.tasks_learned)
    due += [tasks.stop for tasks in run.order.first_tests_due(run.progress, method.tasks_learned)]
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


def _test(method: AnyMethod, run: _Run, pool: WorkerPool | None = None) -> Checkpoint:
    learned = method.tasks_learned
    if pool is not None and _shares_tests(run, learned, len(pool.workers)):
        scores, seconds = pool.test(learned, run.observer.batch_tested)
    else:
        start = time.perf_counter()
        scores = _tested_here(method, run)
        seconds = time.perf_counter() - start
    checkpoint = Checkpoint(learned, scores, seconds)
    run.observer.tested(checkpoint)
    return checkpoint


def _tested_here(method: AnyMethod, run: _Run) -> tuple[TaskScore, ...]:
    scenario, batch_size = Scenario(run.recipe.evaluation.scenario), run.recipe.evaluation.batch_size
    owners = _owners(method, run)
    return tuple(
        evaluate_task(method, run.stream[index], scenario, batch_size, run.observer.batch_tested, owners)
        for index in range(method.tasks_learned)
    )


def _stretches(method: AllocatesMasks, run: _Run, learned: int) -> list[Stretch]:
    """Return the parts of the stream with the mask that each was learned by, and its true task."""
    return stretches_of(method.decisions, run.stream, run.recipe.method.training, learned)


def _owners(method: AnyMethod, run: _Run) -> dict[int, int] | None:
    """Return the true task of each mask, where masks are no tasks."""
    if not isinstance(method, AllocatesMasks):
        return None
    return mask_owners(_stretches(method, run, method.tasks_learned))


def _test_first(method: AnyMethod, run: _Run, tasks: list[Task]) -> None:
    """Test tasks just after they were learned, which is what later tests are compared with."""
    start = time.perf_counter()
    scenario, batch_size = Scenario(run.recipe.evaluation.scenario), run.recipe.evaluation.batch_size
    owners = _owners(method, run)
    scores = {task.index: evaluate_task(method, task, scenario, batch_size, owners=owners) for task in tasks}
    # The way of a recovery is for checkpoints: the record is written after each task, and should stay small.
    run.progress.first_scores.update({task: replace(score, recovery=None) for task, score in scores.items()})
    run.progress.first_test_seconds += time.perf_counter() - start

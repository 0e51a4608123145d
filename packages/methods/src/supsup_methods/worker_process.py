"""A process that trains and tests tasks for another one, the run's: it is told which, and sends back what came out.

All that it needs is in its `Workplace`, as text and numbers, and in the run's files. It writes nothing but the snapshots of its
tasks in training.
Imports nothing heavy, so that the process is bound to its parent's life before the seconds that torch takes to import.
"""

import contextlib
import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_PARENT_IS_GONE = (EOFError, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class Workplace:
    """Where and what a process trains."""

    recipe: str
    """As JSON."""
    data_root: str | None
    data_digest: str
    """Of the data that the run was started with."""
    device: str
    threads: int
    run: str
    """The run's folder, for snapshots."""
    snapshot_seconds: float
    start: str | None = None
    """The folder of the method, saved with the tasks that all others start from; None where they need nothing of each other."""


@dataclass(frozen=True)
class Learned:
    """What came out for a group of tasks."""

    tasks: range
    own: tuple[bytes, ...]
    """What each task has of its own, as safetensors writes it."""
    seconds: float
    """All of them together took, with those before a stop."""
    notes: tuple[str, ...]
    """What the user should know, in a line each."""


@dataclass(frozen=True)
class ToTest:
    """A task to test, among the first `learned` of those that the run has saved."""

    learned: int
    task: int


@dataclass(frozen=True)
class Tested:
    """What a test came to, a `TaskScore`, and how long it took."""

    score: Any
    seconds: float


@dataclass(frozen=True)
class Counts:
    """Batches that a process has done, counted by it and read by its parent while it likes."""

    trained: "ctypes.c_ulong"
    tested: "ctypes.c_ulong"

    def on_trained(self) -> None:
        """Count a training batch."""
        self.trained.value += 1

    def on_tested(self) -> None:
        """Count a test batch."""
        self.tested.value += 1


def work(connection: Connection, counts: Counts, place: Workplace, parent: int) -> None:
    """Learn groups of tasks, and test tasks, until the other end is closed; an error is sent as an answer too, and ends it.

    Args:
        connection: brings ranges of tasks to learn together, or `ToTest`; takes `Learned`, `Tested` or an exception.
        counts: of batches.
        place: what this process is for.
        parent: the process that must be alive.
    """
    _die_with(parent)
    with contextlib.suppress(*_PARENT_IS_GONE):
        try:
            answer = _answerer(place, counts)
            while True:
                connection.send(answer(connection.recv()))
        except _PARENT_IS_GONE:
            raise
        except Exception as error:
            connection.send(_as_sent(error, place.device))


def _answerer(place: Workplace, counts: Counts) -> Callable[[range | ToTest], Learned | Tested]:
    """Build data, stream and method, and return what learns a group of tasks, or tests a task."""
    import torch

    from supsup_methods import recipe_files
    from supsup_methods.assembly import build_problem, open_method
    from supsup_methods.data_assembly import build_stream, load_dataset
    from supsup_methods.devices import prepare_device
    from supsup_methods.errors import UsageError
    from supsup_methods.snapshots import Snapshots

    torch.set_num_threads(place.threads)
    recipe, device = recipe_files.from_json(place.recipe, "the recipe"), torch.device(place.device)
    prepare_device(device)
    root = None if place.data_root is None else Path(place.data_root)
    loaded = load_dataset(recipe.stream, root)
    if loaded.digest != place.data_digest:
        raise UsageError(f"data {loaded.name}: it changed while the run went on; restore it, or start a new run")
    dataset, snapshots = loaded.to(device), Snapshots(Path(place.run), place.snapshot_seconds)
    stream, problem = build_stream(recipe, dataset), build_problem(recipe, dataset, device, snapshots)
    start = Path(place.run) / "nothing" if place.start is None else Path(place.start)
    learn = _learner(open_method(recipe, problem, start, None).method, stream, snapshots, counts.on_trained)
    test = _tester(Path(place.run), recipe, problem, stream, counts.on_tested)
    return lambda asked: test(asked) if isinstance(asked, ToTest) else learn(asked)


def _learner(method: Any, stream: Any, snapshots: Any, on_batch: Callable[[], None]) -> Callable[[range], Learned]:
    """Return what learns a group of a stream's tasks by a method that knows what they start from."""
    import safetensors.torch

    def learn(tasks: range) -> Learned:
        start = time.perf_counter()
        own = method.learn_apart([stream[task] for task in tasks], on_batch)
        seconds = snapshots.seconds_before + time.perf_counter() - start
        sent = [safetensors.torch.save({name: tensor.cpu() for name, tensor in each.items()}) for each in own]
        notes = tuple(snapshots.notes)
        snapshots.notes.clear()
        return Learned(tasks, tuple(sent), seconds, notes)

    return learn


def _tester(
    run: Path, recipe: Any, problem: Any, stream: Any, on_batch: Callable[[], None]
) -> Callable[[ToTest], Tested]:
    """Return what tests a task of a stream under what a run has saved."""
    from supsup_datasets import Scenario

    from supsup_methods.assembly import open_method
    from supsup_methods.evaluation import evaluate_task
    from supsup_methods.run_folder import RunFolder

    scenario, batch_size = Scenario(recipe.evaluation.scenario), recipe.evaluation.batch_size

    @lru_cache(maxsize=1)
    def as_after(tasks: int) -> Any:
        saved = open_method(recipe, problem, RunFolder(run).bank, None).method
        return saved if saved.tasks_learned == tasks else saved.first(tasks)

    def test(asked: ToTest) -> Tested:
        start = time.perf_counter()
        score = evaluate_task(as_after(asked.learned), stream[asked.task], scenario, batch_size, on_batch)
        return Tested(score, time.perf_counter() - start)

    return test


def _as_sent(error: Exception, device: str) -> Exception:
    """Return what a user can mend as it is, and a bug as an error that shows where it is: not all can be sent."""
    import torch
    from supsup_core.errors import SupsupError
    from supsup_datasets.errors import DatasetError

    from supsup_methods.errors import UsageError

    if isinstance(error, (UsageError, DatasetError, SupsupError, OSError, torch.OutOfMemoryError)):
        return error
    return RuntimeError(f"in the process that trains on {device}:\n{traceback.format_exc()}")


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, however that ends.

    Where a system has no such call, the process ends when it next asks for tasks.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)

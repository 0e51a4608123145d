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
class Test:
    """A task to test, among the first `learned` of the run's files."""

    learned: int
    task: int


def work(
    connection: Connection, trained: "ctypes.c_ulong", tested: "ctypes.c_ulong", place: Workplace, parent: int
) -> None:
    """Learn groups of tasks, and test tasks, until the other end is closed; an error is sent as an answer too, and ends it.

    Args:
        connection: brings groups and tests, takes `Learned`, `TaskScore` or an exception.
        trained: counts training batches, read by the parent while it likes.
        tested: counts test batches.
        place: what this process is for.
        parent: the process that must be alive.
    """
    _die_with(parent)

    def on_trained() -> None:
        trained.value += 1

    def on_tested() -> None:
        tested.value += 1

    with contextlib.suppress(*_PARENT_IS_GONE):
        try:
            answer = _answerer(place, on_trained, on_tested)
            while True:
                connection.send(answer(connection.recv()))
        except _PARENT_IS_GONE:
            raise
        except Exception as error:
            connection.send(_as_sent(error, place.device))


def _answerer(
    place: Workplace, on_trained: Callable[[], None], on_tested: Callable[[], None]
) -> Callable[[range | Test], object]:
    """Build data, stream and method, and return what learns a group of tasks, and tests a task."""
    import safetensors.torch
    import torch
    from supsup_datasets import Scenario

    from supsup_methods import recipe_files
    from supsup_methods.assembly import build_problem, open_method
    from supsup_methods.continual_method import AnyMethod, LearnsApart
    from supsup_methods.data_assembly import build_stream, load_dataset
    from supsup_methods.devices import prepare_device
    from supsup_methods.errors import UsageError
    from supsup_methods.evaluation import TaskScore, evaluate_task
    from supsup_methods.run_folder import RunFolder
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
    learned = Path(place.run) / "nothing" if place.start is None else Path(place.start)
    method = open_method(recipe, problem, learned, None).method
    if not isinstance(method, LearnsApart):
        raise AssertionError("unreachable: running._learn_all")

    def learn(tasks: range) -> Learned:
        start = time.perf_counter()
        own = method.learn_apart([stream[task] for task in tasks], on_trained)
        seconds = snapshots.seconds_before + time.perf_counter() - start
        sent = [safetensors.torch.save({name: tensor.cpu() for name, tensor in each.items()}) for each in own]
        notes = tuple(snapshots.notes)
        snapshots.notes.clear()
        return Learned(tasks, tuple(sent), seconds, notes)

    @lru_cache(maxsize=1)
    def as_after(tasks: int) -> AnyMethod:
        saved = open_method(recipe, problem, RunFolder(Path(place.run)).bank, None).method
        then = saved if saved.tasks_learned == tasks else saved.first(tasks)
        if then is None:
            raise AssertionError("unreachable: running._can_test_what_is_missing")
        return then

    def test(asked: Test) -> TaskScore:
        scenario, batch_size = Scenario(recipe.evaluation.scenario), recipe.evaluation.batch_size
        return evaluate_task(as_after(asked.learned), stream[asked.task], scenario, batch_size, on_tested)

    def answer(asked: range | Test) -> object:
        return test(asked) if isinstance(asked, Test) else learn(asked)

    return answer


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

"""A process that trains tasks for another one, the run's: it is told which, and sends back what each has of its own.

All that it needs is in its `Workplace`, as text and numbers. It writes nothing but the snapshots of its tasks in training.
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


def work(connection: Connection, batches: "ctypes.c_ulong", place: Workplace, parent: int) -> None:
    """Learn groups of tasks until the other end is closed; an error is sent in place of what was learned, and ends it.

    Args:
        connection: brings groups, takes `Learned` or an exception.
        batches: counts training batches, read by the parent while it likes.
        place: what this process is for.
        parent: the process that must be alive.
    """
    _die_with(parent)

    def on_batch() -> None:
        batches.value += 1

    with contextlib.suppress(*_PARENT_IS_GONE):
        try:
            learn = _learner(place, on_batch)
            while True:
                connection.send(learn(connection.recv()))
        except _PARENT_IS_GONE:
            raise
        except Exception as error:
            connection.send(_as_sent(error, place.device))


def _learner(place: Workplace, on_batch: Callable[[], None]) -> Callable[[range], Learned]:
    """Build data, stream and method, and return what learns a group of tasks."""
    import safetensors.torch
    import torch

    from supsup_methods import recipe_files
    from supsup_methods.assembly import build_problem, open_method
    from supsup_methods.continual_method import LearnsApart
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
    learned = Path(place.run) / "nothing" if place.start is None else Path(place.start)
    method = open_method(recipe, problem, learned, None).method
    if not isinstance(method, LearnsApart):
        raise AssertionError("unreachable: running._learn_all")

    def learn(tasks: range) -> Learned:
        start = time.perf_counter()
        own = method.learn_apart([stream[task] for task in tasks], on_batch)
        seconds = snapshots.seconds_before + time.perf_counter() - start
        sent = [safetensors.torch.save({name: tensor.cpu() for name, tensor in each.items()}) for each in own]
        notes = tuple(snapshots.notes)
        snapshots.notes.clear()
        return Learned(tasks, tuple(sent), seconds, notes)

    return learn


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

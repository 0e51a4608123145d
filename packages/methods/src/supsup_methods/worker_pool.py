"""Several processes that train one run's tasks, which need nothing of each other: one for each device that was named.

This process keeps the run's files and tells its observers; the others train (`worker_process`) and send back what each task has
of its own, which is taken over in the order of tasks. As a task depends on nothing but recipe, data and machine, so do the bits,
whichever process trained it. Processes run ahead of the task that is waited for by a group each at most. They share the tests of
a checkpoint as well, over what the run has saved.
"""

import ctypes
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from shlex import quote

from supsup_datasets import Task
from torch import Tensor

from supsup_methods.continual_method import AnyMethod, LearnsApart, OnBatch
from supsup_methods.errors import WorkerLost
from supsup_methods.evaluation import TaskScore
from supsup_methods.trainers import Trained
from supsup_methods.worker_process import Counts, Learned, Tested, ToTest, Workplace, work

_POLL_SECONDS = 0.1  # between two looks at how many batches are done
_END_SECONDS = 5.0  # for a process whose connection is closed to be gone


@dataclass
class _Counter:
    """How many batches a process has done, of one kind, and how many of them were told."""

    done: ctypes.c_ulong
    told: int = 0


@dataclass
class _Worker:
    """A process and what is known of it."""

    place: Workplace
    process: SpawnProcess
    connection: Connection
    trained: _Counter
    tested: _Counter
    is_busy: bool = False

    def lost(self) -> WorkerLost:
        """Return the error that says how the process ended."""
        self.process.join(_END_SECONDS)
        status = self.process.exitcode
        how = f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        memory = ", as the system does where memory runs out" if status == -signal.SIGKILL else ""
        return WorkerLost(
            f"--device {self.place.device}: the process that trains there (PID {self.process.pid}) {how}{memory}; every finished "
            f"task is kept in {self.place.run}; go on with: supsup-train --resume --out {quote(self.place.run)}"
        )


@dataclass
class WorkerPool:
    """Has processes learn the groups of a run, which a method takes over, and test its tasks.

    Attributes:
        workers: the processes.
        groups: of tasks, in the order in which `learn` will ask for them.
    """

    workers: Sequence[_Worker]
    groups: Iterator[range]
    _learned: dict[int, Learned] = field(default_factory=dict)
    _ahead: int = 0
    """Groups that were handed out, and that the method does not have."""
    _tests: Iterator[ToTest] = field(default_factory=lambda: iter(()))
    _tested: dict[int, Tested] = field(default_factory=dict)
    """By task, in the test that goes on."""

    def __post_init__(self) -> None:
        self._hand_out()

    def learn(self, method: AnyMethod, tasks: list[Task], on_batch: OnBatch) -> Trained:
        """Wait for a group of tasks and have the method take them over.

        Raises:
            WorkerLost: a process ended.
            Exception: what a process raised.
        """
        if not isinstance(method, LearnsApart):
            raise AssertionError("unreachable: running._go_on")
        first = tasks[0].index
        _tell((worker.trained for worker in self.workers), on_batch)  # what was trained while others tested
        while first not in self._learned:
            self._wait()
            _tell((worker.trained for worker in self.workers), on_batch)
        done = self._learned.pop(first)
        self._ahead -= 1
        self._hand_out()  # before the tests of these tasks, which take their time
        for task, own in zip(tasks, done.own, strict=True):
            method.adopt(task, _tensors(own))
        return Trained(done.seconds / len(tasks) / len(self.workers), done.notes)

    def test(self, learned: int, on_batch: OnBatch) -> tuple[tuple[TaskScore, ...], float]:
        """Return the score of each of the first `learned` tasks, which the run has saved and among which it is looked for.

        Behind it the seconds that it took, without those of tasks that were still in training.

        Raises:
            WorkerLost: a process ended.
            Exception: what a process raised.
        """
        self._tests, self._tested = (ToTest(learned, task) for task in range(learned)), {}
        self._hand_out()
        while len(self._tested) < learned:
            self._wait()
            _tell((worker.tested for worker in self.workers), on_batch)
        seconds = sum(each.seconds for each in self._tested.values()) / len(self.workers)
        return tuple(self._tested[task].score for task in range(learned)), seconds

    def _hand_out(self) -> None:
        """Give everyone who is free something to do: a test where any is left, else a group to train."""
        for worker in self.workers:
            if worker.is_busy:
                continue
            asked: ToTest | range | None = next(self._tests, None)
            if asked is None and self._ahead < 2 * len(self.workers):
                asked = next(self.groups, None)
                self._ahead += asked is not None
            if asked is None:
                return
            try:
                worker.connection.send(asked)
            except OSError:
                raise worker.lost() from None
            worker.is_busy = True

    def _wait(self) -> None:
        """Wait for a moment, or until a process has something to say."""
        ready = wait([worker.connection for worker in self.workers], timeout=_POLL_SECONDS)
        for worker in self.workers:
            if worker.connection in ready:
                self._receive(worker)
        self._hand_out()

    def _receive(self, worker: _Worker) -> None:
        try:
            message: Learned | Tested | Exception = worker.connection.recv()
        except (EOFError, OSError):
            raise worker.lost() from None
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Learned):
            self._learned[message.tasks.start] = message
        else:
            self._tested[message.score.task] = message
        worker.is_busy = False


@contextmanager
def worker_pool(places: Sequence[Workplace], groups: Iterator[range]) -> Iterator[WorkerPool]:
    """Start a process for each place, lend them, and end them at once, whatever happens."""
    with ExitStack() as stack:
        with _signals_blocked():
            workers = [stack.enter_context(_worker(place)) for place in places]
        yield WorkerPool(workers, groups)


@contextmanager
def _worker(place: Workplace) -> Iterator[_Worker]:
    context = get_context("spawn")  # a copy of a process that uses a GPU, or torch's threads, does not work
    ours, theirs = context.Pipe()
    counts = Counts(context.RawValue(ctypes.c_ulong, 0), context.RawValue(ctypes.c_ulong, 0))
    process = context.Process(target=work, args=(theirs, counts, place, os.getpid()))
    process.start()
    theirs.close()
    try:
        yield _Worker(place, process, ours, _Counter(counts.trained), _Counter(counts.tested))
    finally:
        process.kill()  # it has nothing to keep: what it learned was sent, and the rest is in its snapshot
        process.join()
        ours.close()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Have processes that are started here never see SIGINT and SIGTERM: a terminal sends them to all, and this one answers."""
    resource_tracker.ensure_running()  # which would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell(counters: Iterable[_Counter], on_batch: OnBatch) -> None:
    """Call for each batch that was not told yet."""
    for counter in counters:
        done = counter.done.value
        for _ in range(done - counter.told):
            on_batch()
        counter.told = done


def _tensors(own: bytes) -> Mapping[str, Tensor]:
    import safetensors.torch

    return safetensors.torch.load(own)

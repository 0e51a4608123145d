"""What was asked for and runs as processes of their own: a queue that outlives the browser, the dashboard and a restart.

Jobs are rows of an SQLite file, so that two tabs, two dashboards and the runner (`runner`) agree about them. A job's
process holds a lock as long as it lives: that is never guessed from a number, which another process may have by now.

The runner lives as long as a job does, so that nothing here imports torch, which would take half a GB of it.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, TypeAlias

from supsup_methods.errors import UsageError
from supsup_methods.run_lock import is_held

from supsup_dashboard.queueing.database import DATABASE, OPEN, transaction

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "supsup-train": "supsup_methods.commands.train",
        "supsup-eval": "supsup_methods.commands.evaluate",
        "supsup-reproduce": "supsup_methods.commands.reproduce",
    }
)
"""What a job may run: the commands of supsup-methods, by the module of each."""

JobState: TypeAlias = Literal["waiting", "running", "ended", "died", "cancelled"]
"""`ended`: by itself, with an exit status, or with nobody there to see how. `died`: its process was killed."""

RUNNER_LOCK = "runner.lock"
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
_FIELDS = "number, command, about, place, device, state, status, pid, asked, visible_devices"
_ATTEMPTS = 10
_LOG_BYTES = 65_536  # of a log's end, that are looked at
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Job:
    """One command that was asked for."""

    number: int
    command: tuple[str, ...]
    """As it would be typed in a terminal."""
    about: str
    """In a few words."""
    place: Path | None
    """Folder that the command works on, with no other beside it."""
    device: str
    """Of the device that it waits for; nothing where it waits for none."""
    state: JobState
    status: int | None
    """Exit status; None where it is not over, or nobody was there to see it."""
    pid: int | None
    asked: datetime
    visible_devices: str | None = None
    """`CUDA_VISIBLE_DEVICES` where it was asked for, among which `device` counts; None where that was not set."""

    @property
    def is_open(self) -> bool:
        """Whether it runs or waits."""
        return self.state in ("waiting", "running")

    @property
    def is_failure(self) -> bool:
        """Whether it was killed or ended with an error; being stopped is none."""
        return self.outcome in ("died", "failed")

    @property
    def outcome(self) -> str:
        """How it stands, or how it ended: its state, and in place of `ended` done, stopped or failed where that is known.

        It is stopped as well where it was asked to stop before it could answer: then the signal ended it.
        """
        if self.state == "died" and self.status in (-signal.SIGINT, -signal.SIGTERM):
            return "stopped"
        if self.state != "ended" or self.status is None:
            return self.state
        return {0: "done", 130: "stopped"}.get(self.status, "failed")


class JobQueue:
    """The jobs of one folder.

    Args:
        folder: of the queue's files; it is made when the first job comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def submit(self, command: Sequence[str], about: str, place: Path | None, device: str, token: str) -> Job:
        """Add a job, have somebody run it, and return it; the same token again returns the same job.

        Raises:
            UsageError: the command is none of ours, another job for the same place waits or runs, or the queue's file is damaged.
        """
        if not command or command[0] not in COMMANDS:
            raise UsageError(f"command {' '.join(command)}: not one that is run here; there are {', '.join(COMMANDS)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        row = (
            json.dumps(list(command)),
            about,
            None if place is None else str(place),
            device,
            token,
            datetime.now(UTC).isoformat(timespec="seconds"),
            os.environ.get(VISIBLE_DEVICES),
        )
        self._settle()
        with transaction(self.folder / DATABASE) as connection:
            earlier = connection.execute("SELECT number FROM jobs WHERE token = ?", (token,)).fetchone()
            if earlier is None:
                try:
                    connection.execute(
                        "INSERT INTO jobs (command, about, place, device, token, asked, visible_devices) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?)",
                        row,
                    )
                except sqlite3.IntegrityError:
                    raise UsageError(f"{place}: a job for it waits or runs already; wait for it, or stop it") from None
        self.ensure_runner()
        return next(job for job in self._select("WHERE token = ?", token))

    def jobs(self) -> list[Job]:
        """Return all jobs, the newest first.

        Raises:
            UsageError: the queue's file is damaged.
        """
        self._settle()
        return list(self._select("ORDER BY number DESC"))

    def open_jobs(self) -> list[Job]:
        """Return the jobs that run or wait, the oldest first; for the runner, which alone looks without settling the others."""
        return list(self._select(f"WHERE {OPEN} ORDER BY number"))

    def job(self, number: int) -> Job:
        """Return one job.

        Raises:
            UsageError: there is none of that number.
        """
        for job in self._select("WHERE number = ?", number):
            return job
        raise UsageError(f"job {number}: it is not in {self.folder}; choose one that is")

    def last_of(self, place: Path) -> Job | None:
        """Return the newest job for a place, or None."""
        self._settle()
        return next(self._select("WHERE place = ? ORDER BY number DESC LIMIT 1", str(place)), None)

    def cancel(self, number: int) -> bool:
        """Take a job that waits out of the queue, and tell whether it still waited."""
        cancelled = self.note(number, "state = 'cancelled'", "state = 'waiting'")
        if cancelled:
            give_back(self.job(number))
        return cancelled

    def stop(self, number: int) -> bool:
        """Ask a job to stop, as Ctrl-C does, or take it out of the queue; tell whether there was something to stop."""
        if self.cancel(number):
            return True
        job = next(self._select("WHERE number = ?", number), None)
        if job is None or job.state != "running" or job.pid is None or not self.is_alive(number):
            return False
        try:
            os.kill(job.pid, signal.SIGTERM)
        except ProcessLookupError:
            return False
        return True

    def forget(self, number: int) -> None:
        """Remove a job that is over, with what its process wrote; one that is open stays."""
        with transaction(self.folder / DATABASE) as connection:
            statement = f"DELETE FROM jobs WHERE number = ? AND NOT {OPEN}"  # noqa: S608
            over = connection.execute(statement, (number,)).rowcount == 1
        if over:
            for path in (self.log_path(number), self.lock_path(number)):
                path.unlink(missing_ok=True)

    def is_alive(self, number: int) -> bool:
        """Tell whether the process of a job lives."""
        return is_held(self.lock_path(number))

    def log_tail(self, number: int, lines: int = 40) -> str:
        """Return the last lines that a job's process wrote; nothing where it wrote none yet."""
        try:
            with open(self.log_path(number), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(_COLOUR.sub("", text).splitlines()[-lines:])

    def log_path(self, number: int) -> Path:
        """Return where a job's process writes."""
        return self.folder / f"job-{number:06d}.log"

    def lock_path(self, number: int) -> Path:
        """Return the file whose lock a job's process holds."""
        return self.folder / f"job-{number:06d}.lock"

    def ensure_runner(self) -> None:
        """Have a runner at work if a job waits and none is.

        It is born with its lock: of all who see at once that there is none, one starts it.
        """
        if not self.is_awaited or self._has_runner:
            return
        with open(self.folder / RUNNER_LOCK, "ab") as lock, open(self.folder / "runner.log", "ab") as log:
            if not lock_patiently(lock):
                return  # somebody has just started one
            runner = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "supsup_dashboard.queueing.runner", str(self.folder), str(lock.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock.fileno(),),
                start_new_session=True,  # Ctrl-C in the dashboard's terminal is not for it
            )
        threading.Thread(target=runner.wait, daemon=True).start()  # else it would stay behind as a zombie

    @property
    def is_awaited(self) -> bool:
        """Whether a job waits for a runner."""
        return next(self._select("WHERE state = 'waiting' LIMIT 1"), None) is not None

    @property
    def _has_runner(self) -> bool:
        return is_held(self.folder / RUNNER_LOCK)

    def _settle(self) -> None:
        """Note which jobs ended without a runner to see it: it was killed, or the machine stopped."""
        if self._has_runner:
            return
        for job in self._select("WHERE state = 'running'"):
            if not self.is_alive(job.number):
                self.note(job.number, "state = 'ended'", "state = 'running'")
                give_back(job)

    def note(self, number: int, change: str, where: str) -> bool:
        """Change a job's row if it is still as it should be, both in SQL, and tell whether it was; for the runner."""
        with transaction(self.folder / DATABASE) as connection:
            statement = f"UPDATE jobs SET {change} WHERE number = ? AND {where}"  # noqa: S608
            return connection.execute(statement, (number,)).rowcount == 1

    def _select(self, rest: str, *values: Any) -> Iterator[Job]:
        if not (self.folder / DATABASE).exists():
            return
        with transaction(self.folder / DATABASE) as connection:
            rows = connection.execute(f"SELECT {_FIELDS} FROM jobs {rest}", values).fetchall()  # noqa: S608
        for number, command, about, place, device, state, status, pid, asked, visible in rows:
            path = None if place is None else Path(place)
            when = datetime.fromisoformat(asked)
            yield Job(number, tuple(json.loads(command)), about, path, device, state, status, pid, when, visible)


def give_back(job: Job) -> None:
    """Free the name of a run that never began: remove its folder if nothing is in it."""
    if job.command[0] == "supsup-train" and job.place is not None:
        with contextlib.suppress(OSError):  # something is in it, or it is gone
            job.place.rmdir()


def queue() -> JobQueue:
    """Return the queue beside the runs."""
    from supsup_methods.run_folder import RUNS  # here and not above: torch is behind it

    return JobQueue(RUNS / "queue")


def try_lock(file: BinaryIO) -> bool:
    """Take the lock of an open file if nobody has it, and tell whether that is so."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_patiently(file: BinaryIO) -> bool:
    """Take the lock of an open file unless somebody keeps it; whoever only looks whether it is held, holds it for a moment."""
    for attempt in range(_ATTEMPTS):
        if try_lock(file):
            return True
        if attempt < _ATTEMPTS - 1:
            time.sleep(0.05)
    return False

"""supsup-train as a process that can be watched, limited and stopped in every way."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "supsup_methods.commands.train")
TIMEOUT_SECONDS = 300


class Process:
    """supsup-train at work on the run in `folder`, and what it said so far."""

    def __init__(self, folder: Path, options: tuple[str, ...], file_limit_bytes: int | None = None) -> None:
        def limit_files() -> None:
            if file_limit_bytes is not None:  # Python ignores SIGXFSZ, so that a write beyond it fails with EFBIG
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))

        self.lines: list[str] = []
        self.started = time.perf_counter()
        self.begun_seconds: float | None = None
        # One thread: layers as small as these gain nothing from more.
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONUNBUFFERED": "1"}
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder.parent}/mlflow.db"
        self._process = subprocess.Popen(  # noqa: S603 (our own command)
            [*COMMAND, *options, "--out", folder.name],
            cwd=folder.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit_files,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.begun_seconds = self.begun_seconds or time.perf_counter() - self.started
            self.lines.append(line)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def learned(self) -> list[int]:
        """The tasks that it said it had learned and saved, counted from 1."""
        matches = (re.match(r"task (\d+)/\d+ learned", line) for line in self.lines)
        return [int(match[1]) for match in matches if match]

    def wait_until(self, holds: Callable[[], bool], pause_seconds: float) -> None:
        """Return when something holds or the process has ended."""
        deadline = self.started + TIMEOUT_SECONDS
        while self.is_running and not holds():
            if time.perf_counter() > deadline:
                self.end(signal.SIGKILL)
                raise TimeoutError(f"{' '.join(COMMAND)}: still running after {TIMEOUT_SECONDS} s, so it was killed")
            time.sleep(pause_seconds)

    def end(self, how: signal.Signals | None = None) -> tuple[int, str]:
        """Send a signal, if any, wait for the end, and return the status and what was on stderr."""
        if how is not None and self.is_running:
            self._process.send_signal(how)
        try:
            self._process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reader.join()
        errors = self._process.stderr.read() if self._process.stderr else ""
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return self._process.returncode, errors


@dataclass
class Stopped:
    """How a process ended.

    Attributes:
        expected: the statuses that a stop of this kind may end with; 0 is allowed always, where the run was done before.
        damaged: the file that a power cut truncated, and what was in it.
    """

    process: Process
    status: int
    errors: str
    expected: tuple[int, ...]
    damaged: tuple[Path, bytes] | None = None

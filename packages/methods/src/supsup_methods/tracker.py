"""The run's side of tracking: what happens goes as JSON lines to the process of `supsup_methods.tracking`."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, TypeAlias

from supsup_methods.evaluation import Checkpoint
from supsup_methods.experiment import Recipe
from supsup_methods.run_folder import RECIPE

_PATIENCE_SECONDS = 30

RunStatus: TypeAlias = Literal["FINISHED", "KILLED", "FAILED"]


class Tracker:
    """Reports one run to the tracking store; a resumed run goes on under its old id there.

    Nothing here stops or slows a run: the store is another process's business, and what goes wrong with it is told by
    `close`.
    """

    def __init__(self, recipe: Recipe, run_path: Path, store: Path) -> None:
        path = run_path.absolute()
        self._description = {
            "path": str(path),
            "store": str(store.absolute()),
            "parameters": {"name": recipe.name, "tasks": recipe.tasks, "seed": recipe.seed},
            "artifacts": [str(path / RECIPE)],
        }
        self._process: subprocess.Popen[str] | None = None

    def begun(self, tasks_learned: int) -> None:
        """Start the tracking process; a run that cannot begin leaves no trace in the store."""
        # A session of its own, so that Ctrl-C in the terminal reaches the run alone, which then says how it ended.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "supsup_methods.tracking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._send(**self._description)

    def batch_trained(self) -> None:
        """Too often to report."""

    def batch_tested(self) -> None:
        """Too often to report."""

    def task_learned(self, tasks_learned: int, seconds: float) -> None:
        """Log the seconds of a task against the number of tasks."""
        self._send(metric="train_seconds", value=seconds, step=tasks_learned)

    def tested(self, checkpoint: Checkpoint) -> None:
        """Log the accuracies of a checkpoint against the number of tasks."""
        self._send(metric="accuracy", value=checkpoint.accuracy, step=checkpoint.tasks_learned)
        found = checkpoint.task_inference_accuracy
        if found is not None:
            self._send(metric="task_inference_accuracy", value=found, step=checkpoint.tasks_learned)

    def noted(self, message: str) -> None:
        """Nothing: notes are for whoever sits at the terminal."""

    def close(self, status: RunStatus) -> str | None:
        """Report how the run ended, wait for the store, and return what went wrong with it, in one line, or None."""
        self.leave(status)
        if self._process is None:
            return None
        try:
            said, _ = self._process.communicate(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it did not answer within {_PATIENCE_SECONDS} s; its process goes on in the background"
        if said.strip() or self._process.returncode == 0:
            return said.strip() or None
        return f"its process ended with status {self._process.returncode}"

    def leave(self, status: RunStatus) -> None:
        """Report how the run ended, and leave the rest to the tracking process."""
        self._send(status=status)

    def _send(self, **line: Any) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # the process has ended, and `close` reads why
                self._process.stdin.write(json.dumps(line) + "\n")
                self._process.stdin.flush()

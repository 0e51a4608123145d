"""Runs in an MLflow store. The only file that knows MLflow.

The store is `MLFLOW_TRACKING_URI` where that is set, else the SQLite file `mlflow.db` beside the runs. Nothing here may
stop or slow a run: a thread of its own talks to the store, and a store that fails is reported once, at the end.
"""

import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from supsup_methods.evaluation import Checkpoint
from supsup_methods.experiment import Recipe
from supsup_methods.run_folder import RECIPE

EXPERIMENT = "supsup"
_RUN_ID = "mlflow-run-id"
_Job = Callable[[Any, str], None]


class Tracker:
    """Reports one run to the store; a resumed run goes on under its old id.

    Attributes:
        problem: the first thing that went wrong with the store, in one line, or None.
    """

    def __init__(self, recipe: Recipe, run_path: Path, store_folder: Path) -> None:
        self.problem: str | None = None
        self._recipe = recipe
        self._run_path = run_path
        self._store_folder = store_folder
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def begun(self, tasks_learned: int) -> None:
        """Nothing to report: the store knows the run from its start."""

    def batch_trained(self) -> None:
        """Too often to report."""

    def batch_tested(self) -> None:
        """Too often to report."""

    def task_learned(self, tasks_learned: int, seconds: float) -> None:
        """Log the progress in tasks and the seconds of the last one."""
        self._jobs.put(lambda client, run: client.log_metric(run, "train_seconds", seconds, step=tasks_learned))

    def tested(self, checkpoint: Checkpoint) -> None:
        """Log the accuracies of a checkpoint against the number of tasks."""
        step = checkpoint.tasks_learned
        self._jobs.put(lambda client, run: client.log_metric(run, "accuracy", checkpoint.accuracy, step=step))
        found = checkpoint.task_inference_accuracy
        if found is not None:
            self._jobs.put(lambda client, run: client.log_metric(run, "task_inference_accuracy", found, step=step))

    def close(self, status: Literal["FINISHED", "KILLED", "FAILED"]) -> None:
        """Report how the run ended and wait until the store has everything."""
        self._jobs.put(lambda client, run: client.set_terminated(run, status))
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        """Send what is queued, in order. Whatever the store raises is kept for the caller: a run outlives its store."""
        try:
            client, run = self._connect()
            while (job := self._jobs.get()) is not None:
                job(client, run)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

    def _connect(self) -> tuple[Any, str]:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
        os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"  # what it logs as errors also reaches us, as exceptions
        uri = os.environ.get("MLFLOW_TRACKING_URI") or _local_store(self._store_folder)
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        run = self._resumed_run(client) or self._new_run(client)
        client.update_run(run, status="RUNNING")
        return client, run

    def _resumed_run(self, client: Any) -> str | None:
        from mlflow.exceptions import MlflowException

        note = self._run_path / _RUN_ID
        if not note.exists():
            return None
        try:
            run_id: str = client.get_run(note.read_text().strip()).info.run_id
        except MlflowException:
            return None  # another store than the one that the run began in
        return run_id

    def _new_run(self, client: Any) -> str:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            artifacts = (self._store_folder / "mlflow-artifacts").absolute().as_uri()
            location = None if os.environ.get("MLFLOW_TRACKING_URI") else artifacts
            experiment_id = client.create_experiment(EXPERIMENT, artifact_location=location)
        else:
            experiment_id = experiment.experiment_id
        run = client.create_run(
            experiment_id, run_name=self._run_path.name, tags={"path": str(self._run_path.absolute())}
        )
        run_id: str = run.info.run_id
        for name in ("name", "tasks", "seed"):
            client.log_param(run_id, name, getattr(self._recipe, name))
        client.log_artifact(run_id, str(self._run_path / RECIPE))
        (self._run_path / _RUN_ID).write_text(run_id + "\n")
        return run_id


def _local_store(folder: Path) -> str:
    """Return the URI of the local store, set to write-ahead logging so that readers never block a run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / "mlflow.db").absolute()
    connection = sqlite3.connect(path, timeout=60)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    return f"sqlite:///{path}"

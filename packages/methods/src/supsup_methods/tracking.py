"""Runs in an MLflow store. The only file that knows MLflow; it runs as a process of its own, beside the run it reports.

MLflow takes seconds of pure Python to import and to set up a store, and would take them from training if it lived in the same
process. This one reads what happened as JSON lines from its standard input. Where they end without a last word, the run was
killed, and the store is told so. The first problem with the store goes to standard output as one line; the run goes on.

The store is `MLFLOW_TRACKING_URI` where that is set, else the SQLite file `mlflow.db` beside the runs.
"""

import contextlib
import fcntl
import json
import math
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXPERIMENT = "supsup"
RUN_ID = "mlflow-run-id"
"""File in the folder of a run: under which id the store has it."""
_PAGE_RUNS = 200  # asked for at once


def main() -> None:
    """Report one run: its description is the first line, its metrics and its end are the others."""
    lines = _lines()
    try:
        description = next(lines)
        remote = os.environ.get("MLFLOW_TRACKING_URI")
        with contextlib.nullcontext() if remote else _alone(Path(description["store"])):
            client = _connect(remote or _local_store(Path(description["store"])))
            run = _begin_run(client, description)
        status = "KILLED"
        for line in lines:
            status = line.get("status", status)
            if "metric" in line:
                client.log_metric(run, line["metric"], line["value"], step=line["step"])
        client.set_terminated(run, status)
    except Exception as error:  # whatever a store can raise: a run outlives its store
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)  # noqa: T201
        sys.exit(1)


def read_runs(uri: str, most: int) -> list[dict[str, Any]]:
    """Return what a store knows of runs, the newest first, asked for page by page; for readers of another process's runs.

    Of each: `id`, `name`, `path`, `status`, `start` and `end` in milliseconds since 1970, `parameters`, and `metrics`, for each
    key its last value and the number of tasks then; what the store does not know is None. Numbers that are none are left out.

    Args:
        uri: of the store.
        most: at most so many.

    Raises:
        MlflowException: the store does not answer, or something else is wrong with it.
    """
    client = _connect(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    runs: list[dict[str, Any]] = []
    token = None
    while len(runs) < most:
        page = client.search_runs(
            [experiment.experiment_id],
            max_results=min(_PAGE_RUNS, most - len(runs)),
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs += [_as_told(run) for run in page]
        token = page.token
        if not token:
            break
    return runs


def _as_told(run: Any) -> dict[str, Any]:
    return {
        "id": run.info.run_id,
        "name": run.info.run_name,
        "path": run.data.tags.get("path"),
        "status": run.info.status,
        "start": run.info.start_time,
        "end": run.info.end_time,
        "parameters": dict(run.data.params),
        "metrics": {
            each.key: (each.value, each.step) for each in run.data.to_proto().metrics if not math.isnan(each.value)
        },
    }


def _lines() -> Iterator[dict[str, Any]]:
    """Yield what the run says, read ahead by a thread, so that a slow store never blocks the run."""
    inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            inbox.put(line)
        inbox.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := inbox.get()) is not None:
        yield json.loads(line)


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Let one process at a time begin a run: a new store is made, and its experiment, by whoever comes first."""
    store.mkdir(parents=True, exist_ok=True)
    with open(store / "mlflow.lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _connect(uri: str) -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
    os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"  # what it logs as errors also reaches us, as exceptions
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own default keeps trying for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _local_store(folder: Path) -> str:
    """Return the URI of the local store, set to write-ahead logging so that readers never block a run.

    It is relative to the folder, where this process goes: no sign in a folder's name can then be taken for one of a URI.
    """
    os.chdir(folder)
    connection = sqlite3.connect("mlflow.db", timeout=60)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    return "sqlite:///mlflow.db"


def _begin_run(client: Any, description: dict[str, Any]) -> str:
    """Return the id of the run in the store: the one that an earlier process noted, or a new one."""
    note = Path(description["path"]) / RUN_ID
    run = _noted_run(client, note) or _new_run(client, description)
    client.update_run(run, status="RUNNING")
    note.write_text(run + "\n")
    return run


def _noted_run(client: Any, note: Path) -> str | None:
    from mlflow.exceptions import MlflowException

    if not note.exists():
        return None
    try:
        run_id: str = client.get_run(note.read_text().strip()).info.run_id
    except MlflowException:
        return None  # another store than the one that the run began in
    return run_id


def _new_run(client: Any, description: dict[str, Any]) -> str:
    path = Path(description["path"])
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        artifacts = (Path(description["store"]) / "mlflow-artifacts").absolute().as_uri()
        location = None if os.environ.get("MLFLOW_TRACKING_URI") else artifacts
        experiment_id = client.create_experiment(EXPERIMENT, artifact_location=location)
    else:
        experiment_id = experiment.experiment_id
    run_id: str = client.create_run(experiment_id, run_name=path.name, tags={"path": str(path)}).info.run_id
    for name, value in description["parameters"].items():
        client.log_param(run_id, name, value)
    for artifact in description["artifacts"]:
        client.log_artifact(run_id, artifact)
    return run_id


if __name__ == "__main__":
    main()

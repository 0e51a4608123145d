"""What the MLflow store knows of runs: those that were made elsewhere, by --out or on other machines, among them.

The store is the server that `MLFLOW_TRACKING_URI` names, asked in the background, as it may be slow or dead; else the SQLite file
beside the runs, read without MLflow: its own listing of 1,000 runs takes seconds. Only figures are read; no path is opened.
"""

import math
import re
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from supsup_methods.errors import UsageError
from supsup_methods.run_listing import RunLine
from supsup_methods.tracking import EXPERIMENT, read_runs

STORE = "mlflow.db"
"""The local store, in the folder of the runs."""
MOST = 1000
"""Runs that are told of, the newest."""

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 30.0
_CHOSEN = """FROM runs JOIN experiments USING (experiment_id)
WHERE experiments.name = ? AND runs.lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT ?"""
_RUNS = f"SELECT run_uuid, runs.name, status, start_time, end_time {_CHOSEN}"
_PARAMETERS = f"SELECT run_uuid, key, value FROM params WHERE run_uuid IN (SELECT run_uuid {_CHOSEN})"  # noqa: S608
_PATHS = f"SELECT run_uuid, value FROM tags WHERE key = 'path' AND run_uuid IN (SELECT run_uuid {_CHOSEN})"  # noqa: S608
_LATEST = "SELECT run_uuid, key, value, step FROM latest_metrics WHERE NOT is_nan"
_METRICS = f"{_LATEST} AND run_uuid IN (SELECT run_uuid {_CHOSEN})"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


@dataclass(frozen=True)
class TrackedRun:
    """One run as a store knows it; what it does not say is None, or an empty text.

    Attributes:
        path: of its folder, on the machine that it ran on.
        status: in MLflow's words; one that was killed with its tracking process says RUNNING for ever.
        learned: tasks, when a figure came last.
        accuracy: fraction of images, at the last checkpoint.
        task_inference_accuracy: fraction of test batches, at the last checkpoint.
    """

    tracking_id: str
    name: str
    path: str
    status: str
    recipe: str
    tasks: int | None
    seed: int | None
    learned: int | None
    accuracy: float | None
    task_inference_accuracy: float | None
    begun: datetime | None
    ended: datetime | None


def local_runs(runs: Path, most: int = MOST) -> list[TrackedRun]:
    """Return what the store beside the runs knows, the newest first; nothing where there is none yet.

    Args:
        runs: folder of the runs.
        most: at most so many.

    Raises:
        UsageError: the store cannot be read.
    """
    path = runs.absolute() / STORE
    if not path.exists():
        return []
    try:
        # Quoted, as the name of a folder may hold what means something in a URI.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)) as connection:
            return _read_local(connection, most)
    except sqlite3.Error as error:
        raise UsageError(
            f"{path}: the tracking store cannot be read ({error}); try again, and if it stays so restore the file from a copy"
        ) from None


def elsewhere(tracked: Iterable[TrackedRun], lines: Iterable[RunLine], runs: Path, *, remote: bool) -> list[TrackedRun]:
    """Return the runs that a store knows and that are not in a folder.

    Args:
        tracked: what the store knows.
        lines: the runs in the folder.
        runs: the folder.
        remote: whether other machines report to the store as well. In a store of this machine alone, a run of this folder that is
            not here was deleted.
    """
    ids = {line.tracking_id for line in lines}
    here = runs.absolute()
    return [run for run in tracked if run.tracking_id not in ids and (remote or Path(run.path).parent != here)]


@dataclass(frozen=True)
class Answer:
    """What is known of a server's runs.

    Attributes:
        runs: the newest first, as it told them last.
        problem: why they may be out of date, in one line.
        is_asked: whether its answer is awaited.
    """

    runs: tuple[TrackedRun, ...] = ()
    problem: str = ""
    is_asked: bool = False


class TrackingServer:
    """A server that is asked in the background, now and then: whoever wants to know what it tells never waits.

    Args:
        uri: of the server, as `MLFLOW_TRACKING_URI` has it.
        read: what asks it: takes the URI and the most runs wanted, and returns them as `tracking.read_runs` does.
        patience_seconds: after which a server that has not answered is said not to.
        pause_seconds: between an answer and the next question.
    """

    def __init__(
        self,
        uri: str,
        read: Callable[[str, int], Sequence[Mapping[str, Any]]] = read_runs,
        patience_seconds: float = _PATIENCE_SECONDS,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self.uri = uri
        self._read = read
        self._patience_seconds, self._pause_seconds = patience_seconds, pause_seconds
        self._lock = threading.Lock()
        self._answer = Answer()
        self._asked: float | None = None
        self._answered = -math.inf

    def latest(self) -> Answer:
        """Return what is known now, and see to it that the server is asked again if that is some time ago."""
        now = time.monotonic()
        with self._lock:
            if self._asked is None and now - self._answered >= self._pause_seconds:
                self._asked = now
                threading.Thread(target=self._ask, daemon=True).start()
            if self._asked is None:
                return self._answer
            problem = self._answer.problem
            if now - self._asked >= self._patience_seconds:
                problem = self._silent("no answer yet")
            return Answer(self._answer.runs, problem, is_asked=True)

    def _ask(self) -> None:
        try:
            answer = Answer(tuple(_tracked(entry) for entry in self._read(self.uri, MOST)))
        except Exception as error:  # whatever a server and MLflow can raise: it is told, and the page goes on
            answer = Answer(self._answer.runs, self._silent(f"{type(error).__name__}: {error}"))
        with self._lock:
            self._answer, self._asked, self._answered = answer, None, time.monotonic()

    def _silent(self, why: str) -> str:
        shown = _CREDENTIALS.sub(
            "", f"MLFLOW_TRACKING_URI {self.uri}: the server does not answer ({' '.join(why.split())[:200]}"
        )
        return f"{shown}); start it, or unset the variable"


def _read_local(connection: sqlite3.Connection, most: int) -> list[TrackedRun]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
        return []  # a store that is being made
    wanted = (EXPERIMENT, most)
    parameters: dict[str, dict[str, str]] = defaultdict(dict)
    metrics: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for run, key, value in connection.execute(_PARAMETERS, wanted):
        parameters[run][key] = value
    for run, key, value, step in connection.execute(_METRICS, wanted):
        metrics[run][key] = value, step
    paths = dict(connection.execute(_PATHS, wanted))
    return [
        _tracked(
            {
                "id": run,
                "name": name,
                "status": status,
                "start": start,
                "end": end,
                "path": paths.get(run),
                "parameters": parameters[run],
                "metrics": metrics[run],
            }
        )
        for run, name, status, start, end in connection.execute(_RUNS, wanted)
    ]


def _tracked(entry: Mapping[str, Any]) -> TrackedRun:
    """Return a run from what `tracking.read_runs` tells of it."""
    parameters, metrics = entry["parameters"], entry["metrics"]
    tasks, seed = parameters.get("tasks"), parameters.get("seed")
    return TrackedRun(
        tracking_id=entry["id"],
        name=entry["name"] or "",
        path=entry["path"] or "",
        status=entry["status"] or "",
        recipe=parameters.get("name", ""),
        tasks=None if tasks is None else int(tasks),
        seed=None if seed is None else int(seed),
        learned=max((step for _, step in metrics.values()), default=None),
        accuracy=metrics.get("accuracy", (None, 0))[0],
        task_inference_accuracy=metrics.get("task_inference_accuracy", (None, 0))[0],
        begun=_moment(entry["start"]),
        ended=_moment(entry["end"]),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)

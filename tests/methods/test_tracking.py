"""The tracker against a real MLflow store in a file."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.recipe_files import to_json
from supsup_methods.recipes import RECIPES
from supsup_methods.tracker import Tracker

CHECKPOINT = Checkpoint(10, (TaskScore(0, 100, 90, 4, 3),), seconds=1.0)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """As much as a loaded machine needs to start MLflow, for which users are not kept waiting."""
    monkeypatch.setattr("supsup_methods.tracker._PATIENCE_SECONDS", 300)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs" / "demo-1").mkdir(parents=True)
    (tmp_path / "runs" / "demo-1" / "recipe.json").write_text(to_json(RECIPES["demo"]))
    return tmp_path / "runs"


def report(store):
    tracker = Tracker(RECIPES["demo"], store / "demo-1", store)
    tracker.begun(0)
    tracker.task_learned(1, 2.5)
    tracker.tested(CHECKPOINT)
    return tracker


def client_and_run(store):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("supsup").experiment_id])
    return client, run


@pytest.mark.filterwarnings("default")  # of what MLflow imports
def test_a_run_is_reported_and_a_resumed_one_goes_on_under_its_id(store):
    assert report(store).close("KILLED") is None
    first = (store / "demo-1" / "mlflow-run-id").read_text().strip()
    assert client_and_run(store)[1].info.status == "KILLED"
    again = report(store)
    assert again.close("FINISHED") is None
    again.leave("KILLED")  # Ctrl-C while it waited for the store: what was said before stands
    client, run = client_and_run(store)
    assert (run.info.run_id, run.info.status, run.info.run_name) == (first, "FINISHED", "demo-1")
    assert run.data.metrics == {"accuracy": 0.9, "task_inference_accuracy": 0.75, "train_seconds": 2.5}
    assert run.data.params == {"name": "demo", "tasks": "10", "seed": "0"}
    assert [entry.path for entry in client.list_artifacts(first)] == ["recipe.json"]
    assert run.info.artifact_uri.startswith((store / "mlflow-artifacts").as_uri())


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from supsup_methods.recipes import RECIPES
from supsup_methods.tracker import Tracker
store = Path(sys.argv[1])
tracker = Tracker(RECIPES["demo"], store / "demo-1", store)
tracker.begun(0)
tracker.task_learned(1, 2.5)
print("reported", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_store_learns_that_a_run_was_killed(store):
    process = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, str(store)], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == -signal.SIGKILL
    status, deadline = None, time.monotonic() + 120  # the tracking process outlives the run and ends by itself
    while status != "KILLED" and time.monotonic() < deadline:
        time.sleep(0.2)
        with contextlib.suppress(sqlite3.OperationalError, ValueError):  # no file, no table or no row yet
            ((status,),) = rows(store, "select status from runs")
    assert status == "KILLED"
    assert rows(store, "select key, value from metrics") == [("train_seconds", 2.5)]


def rows(store, query):
    with contextlib.closing(sqlite3.connect(f"file:{store / 'mlflow.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_runs_that_begin_together_in_a_new_store_are_all_there(store):
    trackers = [report(store) for _ in range(3)]
    assert [tracker.close("FINISHED") for tracker in trackers] == [None] * 3


def test_a_run_that_never_began_leaves_no_trace(store):
    tracker = Tracker(RECIPES["demo"], store / "demo-1", store)
    tracker.leave("FAILED")
    assert tracker.close("FAILED") is None
    assert not (store / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["sp ace", "per%20cent", "question?mark#hash", "br[ack]et"])
def test_a_store_may_lie_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = tmp_path / name
    (store / "demo-1").mkdir(parents=True)
    (store / "demo-1" / "recipe.json").write_text(to_json(RECIPES["demo"]))
    assert report(store).close("FINISHED") is None
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert list((store / "mlflow-artifacts").rglob("recipe.json"))
    with contextlib.closing(sqlite3.connect(store / "mlflow.db")) as connection:
        assert connection.execute("select status from runs").fetchall() == [("FINISHED",)]


def test_a_store_that_cannot_be_written_is_told_at_the_end(store):
    (store / "mlflow.db").mkdir()
    problem = report(store).close("FINISHED")
    assert problem is not None
    assert "unable to open database file" in problem


def test_a_tracking_process_that_dies_is_told_at_the_end(store):
    tracker = report(store)
    tracker._process.kill()
    tracker._process.wait()
    tracker.tested(CHECKPOINT)
    assert tracker.close("FINISHED") == "its process ended with status -9"

"""Runs that only the tracking store knows, on the page of runs."""

import contextlib
import os
import sqlite3
import threading
import time

from supsup_methods.tracked_runs import TrackingServer

from ..methods.test_run_listing import write_run
from .runs_page import opened, runs_table, told

STORE = """
CREATE TABLE experiments (experiment_id INTEGER, name TEXT);
CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, start_time INTEGER, end_time INTEGER, lifecycle_stage TEXT,
                   experiment_id INTEGER);
CREATE TABLE params (run_uuid TEXT, key TEXT, value TEXT);
CREATE TABLE tags (run_uuid TEXT, key TEXT, value TEXT);
CREATE TABLE latest_metrics (run_uuid TEXT, key TEXT, value FLOAT, step INTEGER, is_nan BOOLEAN);
INSERT INTO experiments VALUES (1, 'supsup'), (2, 'mine');
INSERT INTO runs VALUES ('a', 'far', 'FINISHED', 1790000000000, 1790000060000, 'active', 1),
                        ('b', 'gone', 'FINISHED', 1790000000000, NULL, 'deleted', 1),
                        ('c', 'no run', 'FINISHED', 1790000000000, NULL, 'active', 2);
INSERT INTO params VALUES ('a', 'name', 'demo'), ('a', 'tasks', '10'), ('a', 'seed', '3');
INSERT INTO tags VALUES ('a', 'path', '/far/away/far');
INSERT INTO latest_metrics VALUES ('a', 'accuracy', 0.875, 10, 0), ('a', 'odd', 0, 11, 1);
"""


def test_runs_elsewhere_are_shown_and_cannot_be_chosen(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    with contextlib.closing(sqlite3.connect(here / "runs" / "mlflow.db")) as connection:
        connection.executescript(STORE)
    page = opened("far")
    (far,) = (each.value for each in page.dataframe if "path" in each.value)
    assert list(far["run"]) == ["far"]
    row = far.iloc[0]
    assert (row["status"], row["recipe"], row["learned"], row["tasks"]) == ("finished", "demo", 10, 10)
    assert (row["accuracy"], row["seed"], row["path"]) == (0.875, 3, "/far/away/far")
    assert "Choose one" in told(page)
    with contextlib.closing(sqlite3.connect(here / "runs" / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE latest_metrics SET value = 0.5")
    (far,) = (each.value for each in opened().dataframe if "path" in each.value)
    assert far.iloc[0]["accuracy"] == 0.5


def test_a_store_that_cannot_be_read_does_not_keep_runs_from_being_shown(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    (here / "runs" / "mlflow.db").write_bytes(b"no database" * 100)
    page = opened()
    assert "mlflow.db: the tracking store cannot be read" in page.warning[0].value
    assert list(runs_table(page).index) == ["demo-1"]


def test_a_dead_server_never_blocks_the_page(here, monkeypatch):
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    let_go = threading.Event()

    def hangs(uri, most):
        let_go.wait(60)
        raise ConnectionError("nobody there")

    monkeypatch.setattr(TrackingServer.__init__, "__defaults__", (hangs, 0.3, 30.0))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://dead.invalid:{os.getpid()}")
    opened()
    start = time.monotonic()
    page = opened()
    assert time.monotonic() - start < 30
    assert list(runs_table(page).index) == ["demo-1"]
    time.sleep(0.4)
    assert "the server does not answer" in page.run().warning[0].value
    let_go.set()

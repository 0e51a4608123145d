"""A folder to work in for tests of pages, where a page that needs another defines its own, and a queue and who works on it."""

import io

import pandas as pd
import pytest
import streamlit as st
from supsup_dashboard.queueing import jobs
from supsup_dashboard.queueing.jobs import JobQueue
from supsup_dashboard.queueing.runner import QueueRunner


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with a place for runs, no tracking server, and a queue in which jobs wait for ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(JobQueue, "ensure_runner", lambda self: None)
    (tmp_path / "runs").mkdir()
    return tmp_path


@pytest.fixture
def taken_along(monkeypatch):
    """The CSV files that a page under test offers beside its figures, read again, by their names."""
    tables = {}

    def offer(label, data, *, file_name, **rest):
        tables[file_name] = pd.read_csv(io.BytesIO(data()))

    monkeypatch.setattr(st, "download_button", offer)
    return tables


@pytest.fixture
def waiting_queue(tmp_path, monkeypatch):
    """A queue that nobody works on."""
    monkeypatch.setattr(JobQueue, "ensure_runner", lambda self: None)
    return JobQueue(tmp_path / "queue")


@pytest.fixture
def runner(waiting_queue, tmp_path, monkeypatch):
    """Somebody to work on it, step by step, with a command that does as it is told."""
    package = tmp_path / "modules"
    package.mkdir()
    (package / "obedient.py").write_text(
        "import sys, time\n"
        "what, *rest = sys.argv[1:]\n"
        "print('\\x1b[1mbegun\\x1b[0m', what, rest, flush=True)\n"
        "if what == 'sleep': time.sleep(600)\n"
        "if what == 'fail': sys.exit('error: no')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package))
    monkeypatch.setattr("supsup_dashboard.queueing.runner.COMMANDS", {"supsup-train": "obedient"})
    waiting_queue.folder.mkdir()
    work = QueueRunner(waiting_queue.folder)
    with open(waiting_queue.folder / jobs.RUNNER_LOCK, "ab") as file:
        assert jobs.try_lock(file)
        yield work
        for child in work.children.values():
            child.kill()
            child.wait()

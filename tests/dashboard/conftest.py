"""A folder to work in for tests of pages; a page that needs another defines its own."""

import io

import pandas as pd
import pytest
import streamlit as st
from supsup_dashboard.queueing.jobs import JobQueue


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

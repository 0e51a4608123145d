"""Runs that the tracking store knows and that are not under runs/: their figures, and where they are."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st
from supsup_methods.errors import UsageError
from supsup_methods.run_folder import RUNS
from supsup_methods.tracked_runs import STORE, TrackedRun, TrackingServer, elsewhere, local_runs

from supsup_dashboard.moments import local_time, moment_column
from supsup_dashboard.runs.rows import run_lines

_ASKING_SECONDS, _IDLE_SECONDS = 2, 30  # from one look to the next
_COLUMNS = {
    "accuracy": st.column_config.NumberColumn("accuracy", format="percent"),
    "task inference": st.column_config.NumberColumn("task inference", format="percent"),
    "path": st.column_config.TextColumn("path", width="large"),
}


def show_elsewhere(*, still: bool) -> None:
    """Show the runs of the store that are not under runs/, and look again now and then; nothing where there are none.

    Args:
        still: whether not to look again, as the page has to stay as it is.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        st.fragment(_show_local, run_every=None if still else _IDLE_SECONDS)()
        return
    seconds = _ASKING_SECONDS if _server(uri).latest().is_asked else _IDLE_SECONDS
    st.fragment(_show_server, run_every=None if still else seconds)(uri)


def _show_local() -> None:
    """Show what the store beside the runs tells."""
    try:
        tracked = _local(RUNS.absolute(), _store_stamp(RUNS))
    except UsageError as error:
        st.warning(str(error))
        return
    _show(elsewhere(tracked, run_lines(), RUNS, remote=False))


def _show_server(uri: str) -> None:
    """Show what a server told."""
    answer = _server(uri).latest()
    if answer.problem:
        st.warning(answer.problem)
    elif answer.is_asked and not answer.runs:
        st.caption("The tracking server is asked for runs that are elsewhere.")
    _show(elsewhere(answer.runs, run_lines(), RUNS, remote=True))


def _show(tracked: Sequence[TrackedRun]) -> None:
    if not tracked:
        return
    with st.expander("Elsewhere", key="elsewhere"):  # its label stays: with another one the browser would close it
        st.caption(
            f"{len(tracked)} runs that the tracking store knows are in other folders or on other machines; here are their "
            "figures, as they were reported last."
        )
        columns = {**_COLUMNS, "begun": moment_column(), "ended": moment_column()}
        st.dataframe(table_of(tracked), hide_index=True, column_config=columns, placeholder="", alt="Runs elsewhere")


def table_of(tracked: Sequence[TrackedRun]) -> pd.DataFrame:
    """Return a row for each run, in the order given: fractions, and moments in local time."""
    return pd.DataFrame(
        {
            "run": [run.name for run in tracked],
            "status": [run.status.lower() for run in tracked],
            "recipe": [run.recipe for run in tracked],
            "learned": pd.array([run.learned for run in tracked], dtype="Int64"),
            "tasks": pd.array([run.tasks for run in tracked], dtype="Int64"),
            "accuracy": pd.array([run.accuracy for run in tracked], dtype="Float64"),
            "task inference": pd.array([run.task_inference_accuracy for run in tracked], dtype="Float64"),
            "seed": pd.array([run.seed for run in tracked], dtype="Int64"),
            "begun": [local_time(run.begun) for run in tracked],
            "ended": [local_time(run.ended) for run in tracked],
            "path": [run.path for run in tracked],
        }
    )


@st.cache_data(max_entries=4, show_spinner=False)
def _local(runs: Path, stamped: tuple[int, ...]) -> list[TrackedRun]:
    return local_runs(runs)


def _store_stamp(runs: Path) -> tuple[int, ...]:
    """Return what changes when the store does, which writes beside its file first."""
    stamp = []
    for path in (runs / STORE, runs / f"{STORE}-wal"):
        try:
            status = path.stat()
        except OSError:
            stamp += [0, 0]
        else:
            stamp += [status.st_mtime_ns, status.st_size]
    return tuple(stamp)


@st.cache_resource(show_spinner=False)
def _server(uri: str) -> TrackingServer:
    return TrackingServer(uri)

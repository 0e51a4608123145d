"""The runs under runs/ as the queue and their own files tell of them, together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

import streamlit as st
from supsup_methods.run_folder import LOCK, RUNS, RunFolder
from supsup_methods.run_listing import LineState, RunLine, RunListing
from supsup_methods.run_lock import holder_of

from supsup_dashboard.queueing.jobs import Job

RowState: TypeAlias = LineState | Literal["waiting", "starting"]
"""`waiting`: a job in the queue is to go on with the run. `starting`: it has begun, and does not work on the run yet."""

STATES: tuple[RowState, ...] = ("running", "starting", "waiting", "done", "stopped", "failed", "died", "damaged")
_LIVE = frozenset(("running", "starting", "waiting"))
_NEWS = timedelta(days=7)
_TRAIN = "supsup-train"


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        line: what its files say.
        state: how it stands, the queue considered.
        job: the last one that trained it, or is to; None where a terminal did, since then or from the start.
        has_open_job: whether a job of any kind works on it, or will: one that watches a mask, too.
    """

    line: RunLine
    state: RowState
    job: Job | None
    has_open_job: bool

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return self.line.name

    @property
    def folder(self) -> RunFolder:
        """Its files."""
        return RunFolder(RUNS / self.line.name)

    @property
    def is_live(self) -> bool:
        """Whether a process works on it, or will without anybody asking again."""
        return self.state in _LIVE

    @property
    def is_held(self) -> bool:
        """Whether it cannot be deleted yet: it is live, or a job is open, perhaps as nobody noticed that its process is gone."""
        return self.is_live or self.has_open_job

    @property
    def can_go_on(self) -> bool:
        """Whether asking supsup-train to go on with it may help; where files of results are damaged, it makes them again."""
        return self.state in ("stopped", "died", "failed", "damaged") and bool(self.line.device)


def run_rows(jobs: Sequence[Job]) -> list[Row]:
    """Return all runs: those that go on or wait first, then the newest.

    Args:
        jobs: of the queue, the newest first.
    """
    last: dict[str, Job] = {}
    for job in jobs:
        if job.command[0] == _TRAIN and (name := run_of(job)) is not None:
            last.setdefault(name, job)
    at_work = {run_of(job) for job in jobs if job.is_open}
    rows = []
    for line in _listing(RUNS.absolute()).lines():
        newest = last.get(line.name)
        # Else it is of an earlier run of that name, or of before somebody went on with it in a terminal.
        is_own = newest is not None and (newest.is_open or _has_worked(line, newest))
        own = newest if is_own else None
        rows.append(Row(line, _state(line, own), own, line.name in at_work))
    return sorted(rows, key=lambda row: (row.is_live, row.line.begun, row.name), reverse=True)


def run_of(job: Job) -> str | None:
    """Return the name of the run under runs/ that a job works on, be it on a file of it alone; or None."""
    if job.place is None:
        return None
    place, runs = job.place.absolute(), RUNS.absolute()
    return place.relative_to(runs).parts[0] if runs in place.parents else None


def jobs_to_show(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that run or wait, and those that failed in the last days and were not asked for again since.

    Args:
        jobs: of the queue, the newest first.
    """
    shown, places = [], set[Path]()
    for job in jobs:
        if job.is_open or (job.is_failure and job.place not in places and datetime.now(UTC) - job.asked < _NEWS):
            shown.append(job)
        if job.place is not None:
            places.add(job.place)
    return shown


def _state(line: RunLine, job: Job | None) -> RowState:
    if job is None or line.state in ("running", "done") or not job.is_open:
        return line.state
    if job.state == "waiting":
        return "waiting"
    return line.state if _has_worked(line, job) else "starting"  # or it let go of the run, and is about to end


def _has_worked(line: RunLine, job: Job) -> bool:
    """Tell whether a job's process works on a run, or was the last that did."""
    last = holder_of(RUNS / line.name / LOCK)
    return last is not None and last.pid == job.pid


@st.cache_resource(show_spinner=False)
def _listing(runs: Path) -> RunListing:
    """Return the listing that all sessions share, what one has read the others need not; for each folder that one works in."""
    return RunListing(RUNS)

"""The runs under runs/ as the queue and their own files tell of them, together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

import streamlit as st
from supsup_methods.run_folder import RUNS, RunFolder
from supsup_methods.run_listing import LineState, RunLine, RunListing

from supsup_dashboard.queueing.jobs import Job

RowState: TypeAlias = LineState | Literal["waiting", "starting"]
"""`waiting`: a job in the queue is to go on with the run. `starting`: it has begun, and does not work on the run yet."""

STATES: tuple[RowState, ...] = ("running", "starting", "waiting", "done", "stopped", "failed", "died", "damaged")
_LIVE = frozenset(("running", "starting", "waiting"))
_NEWS = timedelta(days=7)
_SECOND = timedelta(seconds=1)  # to which the queue tells when a job was asked for
_TRAIN = "supsup-train"


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        line: what its files say.
        state: how it stands, the queue considered.
        job: the last one that trained it, is to, or failed to; None where a terminal did, since then or from the start.
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
    training = defaultdict[str | None, list[Job]](list)
    for job in jobs:
        if job.command[0] == _TRAIN:
            training[run_of(job)].append(job)
    at_work = {run_of(job) for job in jobs if job.is_open}
    rows = []
    for line in run_lines():
        own = next((job for job in training.get(line.name, ()) if _is_of(line, job)), None)
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


def _is_of(line: RunLine, job: Job) -> bool:
    """Tell whether a job is about a run as it stands: not about an earlier one of its name, nor from before a terminal had it."""
    failed_since = job.is_failure and line.ended is not None and job.asked + _SECOND > line.ended
    return job.is_open or failed_since or _has_worked(line, job)


def _has_worked(line: RunLine, job: Job) -> bool:
    """Tell whether a job's process works on a run, or was the last that did."""
    return job.pid is not None and line.pid == job.pid


def run_lines() -> list[RunLine]:
    """Return what the files of all runs say."""
    return _listing(RUNS.absolute()).lines()


@st.cache_resource(show_spinner=False)
def _listing(runs: Path) -> RunListing:
    """Return the listing that all sessions share, what one has read the others need not; for each folder that one works in."""
    return RunListing(RUNS)

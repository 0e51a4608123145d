"""The jobs of the queue that run, wait, or failed."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd
import streamlit as st
from supsup_methods.errors import UsageError

from supsup_dashboard.launching.command_line import as_typed
from supsup_dashboard.moments import local_time, moment_column
from supsup_dashboard.queueing.jobs import Job, queue

_LOG_LINES = 40
_HEIGHT_PIXELS = 250


def show_jobs(jobs: Sequence[Job]) -> None:
    """Show jobs as a table, and the one that is chosen in it with its log; nothing where there is none.

    Args:
        jobs: the newest first.
    """
    if not jobs:
        return
    counts = Counter(job.outcome for job in jobs)
    with st.expander("Jobs: " + ", ".join(f"{count} {state}" for state, count in counts.items()), key="jobs"):
        table = st.dataframe(
            jobs_table(jobs),
            key=f"jobs-{jobs[0].number}-{len(jobs)}",
            on_select="rerun",
            selection_mode="single-row",
            hide_index=True,
            column_config={"asked": moment_column()},
            height=_HEIGHT_PIXELS if len(jobs) > 5 else "auto",
            placeholder="",
            alt="Jobs of the queue",
        )
        chosen = [jobs[place] for place in table.selection.rows if place < len(jobs)]
        if chosen:
            _show_job(chosen[0])
        else:
            st.caption("Choose a job to see its command and its log, or to stop it.")


def jobs_table(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return a row for each job; exit statuses below 0 are signals that ended it."""
    return pd.DataFrame(
        {
            "job": [job.number for job in jobs],
            "about": [job.about for job in jobs],
            "state": [job.outcome for job in jobs],
            "status": pd.array([job.status for job in jobs], dtype="Int64"),
            "device": [job.device for job in jobs],
            "asked": [local_time(job.asked) for job in jobs],
        }
    )


def _show_job(job: Job) -> None:
    st.code(as_typed(job.command), language="bash", wrap_lines=True)
    if job.is_open and st.button(
        "Cancel" if job.state == "waiting" else "Stop", key=f"stop-job-{job.number}", icon=":material/stop:"
    ):
        try:
            stopped = queue().stop(job.number)
        except UsageError as error:
            st.error(str(error))
        else:
            st.toast(f"Job {job.number} is asked to stop" if stopped else f"Job {job.number} has ended")
            st.rerun()
    log = queue().log_tail(job.number, _LOG_LINES)
    if log:
        st.code(log, language=None, wrap_lines=True)
    else:
        st.caption("It has not written anything.")

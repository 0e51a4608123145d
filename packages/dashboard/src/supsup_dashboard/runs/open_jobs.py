"""The jobs of the queue that run, wait, or failed."""

from collections import Counter
from collections.abc import Sequence

import streamlit as st
from supsup_methods.errors import UsageError

from supsup_dashboard.job_table import choose_job
from supsup_dashboard.launching.command_line import as_typed
from supsup_dashboard.queueing.jobs import Job, queue

_LOG_LINES = 40


def show_jobs(jobs: Sequence[Job]) -> None:
    """Show jobs as a table, and the one that is chosen in it with its log; nothing where there is none.

    Args:
        jobs: the newest first.
    """
    if not jobs:
        return
    counts = Counter(job.outcome for job in jobs)
    st.caption("Jobs: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    with st.expander("Jobs", key="jobs"):  # its label stays: with another one the browser would close it
        chosen = choose_job(jobs, "jobs-of-runs")
        if chosen is not None:
            _show_job(chosen)
        else:
            st.caption("Choose a job to see its command and its log, or to stop it.")


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

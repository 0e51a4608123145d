"""All runs: how far they are, what came out, and what can be done with them."""

from collections.abc import Sequence

import streamlit as st
from supsup_methods.errors import UsageError

from supsup_dashboard.queueing.jobs import Job, queue
from supsup_dashboard.runs.comparison import show_comparison
from supsup_dashboard.runs.details import resume, show_run, stop
from supsup_dashboard.runs.elsewhere import show_elsewhere
from supsup_dashboard.runs.open_jobs import show_jobs
from supsup_dashboard.runs.removal import ask_on_next_run, ask_to_delete, take_question, tell_deleted
from supsup_dashboard.runs.rows import Row, jobs_to_show, run_of, run_rows
from supsup_dashboard.runs.table import choose_rows, filtered

_LIVE_SECONDS, _IDLE_SECONDS = 2, 10  # from one look to the next: a run may be started in a terminal at any time


def show() -> None:
    """Show the runs; they are looked at again every ten seconds, and every two while one goes on or a job waits.

    They stand still while a question is open: where it opens in a part of the page that is drawn again by the clock, the
    browser may lose the whole page.
    """
    st.title("Runs")
    tell_deleted()
    question = take_question()
    jobs, problem = _jobs()
    if problem:
        st.error(problem)
    rows = run_rows(jobs)
    is_live = _goes_on(rows, jobs)
    seconds = None if question else _LIVE_SECONDS if is_live else _IDLE_SECONDS
    st.fragment(_show_all, run_every=seconds)(None if question else is_live)
    show_elsewhere(still=bool(question))
    if question:
        ask_to_delete(question)


def _show_all(was_live: bool | None) -> None:
    """Show them; None where the page has to stay as it is."""
    jobs, _ = _jobs()
    rows = run_rows(jobs)
    if was_live is not None and was_live != _goes_on(rows, jobs):
        st.rerun()  # to look more often from now on, or less
    show_jobs(jobs_to_show(jobs))
    begins = [run for job in jobs if job.is_open and (run := run_of(job)) is not None]
    if not rows and begins:
        st.info(f"{begins[-1]} is about to begin.")
        return
    if not rows:
        st.info("No run yet. Start one on the page Launch, or in a terminal: `poetry run supsup-train`")
        return
    shown = filtered(rows)
    if not shown:
        st.info(f"None of the {len(rows)} runs is like that. Take something out of the filter.")
        return
    chosen = choose_rows(shown)
    if not chosen:
        st.caption(f"{_counted(shown, rows)}. Choose one to see its details, or several to compare them.")
        return
    _show_actions(chosen)
    if len(chosen) == 1:
        show_run(chosen[0])
    else:
        show_comparison(chosen)


def _jobs() -> tuple[list[Job], str]:
    """Return the jobs of the queue, having seen to it that a runner is at work on them; or none, and in a line why."""
    try:
        queue().ensure_runner()  # in place of one that was killed
        return queue().jobs(), ""
    except UsageError as error:
        return [], str(error)


def _goes_on(rows: Sequence[Row], jobs: Sequence[Job]) -> bool:
    """Tell whether a run is live, or a job runs or waits."""
    return any(row.is_live for row in rows) or any(job.is_open for job in jobs)


def _counted(shown: list[Row], rows: list[Row]) -> str:
    runs = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    return runs if len(shown) == len(rows) else f"{len(shown)} of {runs}"


def _show_actions(chosen: list[Row]) -> None:
    """Show a button for each thing that can be done with at least one of the chosen runs, and do it."""
    live, idle = [row for row in chosen if row.is_live], [row for row in chosen if row.can_go_on]
    is_held = any(row.is_held for row in chosen)
    with st.container(horizontal=True):
        if live and st.button("Stop", key="stop-runs", icon=":material/stop:"):
            for row in live:
                stop(row)
        if idle and st.button("Resume", key="resume-runs", icon=":material/play_arrow:"):
            going_on = [resume(row) for row in idle]
            if all(going_on):
                st.rerun()
        if st.button(
            "Delete",
            key="ask-to-delete",
            icon=":material/delete:",
            disabled=is_held,
            help="What works on a run, or waits for it, is stopped first" if is_held else None,
        ):
            ask_on_next_run([row.name for row in chosen])
            st.rerun()

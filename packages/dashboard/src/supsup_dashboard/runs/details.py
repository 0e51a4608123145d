"""One chosen run: how far it is, what came out, what its process wrote, and what can be done with it."""

import secrets

import streamlit as st
from supsup_core import SupsupError
from supsup_methods.errors import UsageError
from supsup_methods.run_states import stop_run

from supsup_dashboard.launching.command_line import as_typed
from supsup_dashboard.moments import spoken_moment
from supsup_dashboard.plain_text import plain
from supsup_dashboard.queueing.jobs import queue
from supsup_dashboard.runs.comparison import UNKNOWN, figures_of, settings_of
from supsup_dashboard.runs.rows import Row
from supsup_dashboard.runs.units import spoken_seconds

_LOG_LINES = 40
_IN_BAR = ("state", "tasks learned")


def show_run(row: Row) -> None:
    """Show one run."""
    st.subheader(plain(row.name))
    st.caption(plain(_about(row)))
    if row.line.problem:
        st.error(plain(row.line.problem))
    _show_progress(row)
    _show_figures(row)
    _show_log(row)
    _show_settings(row)


def stop(row: Row) -> None:
    """Ask the process of a run to stop, or take its job out of the queue, and say what came of it."""
    try:
        stopped = (
            stop_run(row.folder) if row.state == "running" else row.job is not None and queue().stop(row.job.number)
        )
    except UsageError as error:
        st.error(str(error))
        return
    if stopped:
        st.toast(f"{plain(row.name)} is asked to stop; every finished task is kept")
    else:
        st.toast(f"{plain(row.name)}: no process works on it any more")


def resume(row: Row) -> bool:
    """Have the queue go on with a run, and tell whether it will."""
    command = resume_command(row)
    try:
        queue().submit(command, f"go on with {row.name}", row.folder.path, row.line.device, secrets.token_hex(8))
    except UsageError as error:
        st.error(str(error))
        return False
    st.toast(f"{plain(row.name)} goes on")
    return True


def resume_command(row: Row) -> tuple[str, ...]:
    """Return the command that goes on with a run."""
    return ("supsup-train", "--resume", "--out", str(row.folder.path))


def _about(row: Row) -> str:
    line = row.line
    asked = [each for each in (line.recipe, line.method, line.backbone, line.stream, line.data, line.scenario) if each]
    if line.seed is not None:
        asked.append(f"seed {line.seed}")
    if line.device:
        asked.append(f"on {line.device}")
    if line.begun is not None:
        asked.append(f"begun {spoken_moment(line.begun)}")
    if line.ended is not None:
        asked.append(f"ended {spoken_moment(line.ended)}")
    return " · ".join(asked)


def _show_progress(row: Row) -> None:
    line = row.line
    if line.learned is None or not line.tasks:
        return
    parts = [row.state, f"{line.learned} of {line.tasks} tasks learned"]
    if row.state == "running":
        if line.steps_per_second is not None:
            parts.append(f"{line.steps_per_second:.1f} steps/s")
        if line.seconds_a_task is not None:
            parts.append(f"{spoken_seconds(line.seconds_a_task)} a task")
        left = line.seconds_left
        parts.append(
            "time left is known after the first task" if left is None else f"{spoken_seconds(left)} of training left"
        )
    st.progress(min(1.0, line.learned / line.tasks), text=" · ".join(parts))


def _show_figures(row: Row) -> None:
    """Show the figures that there are."""
    if row.line.accuracy is None:
        st.caption(
            "Nothing is tested yet: a run tests its tasks at its checkpoints, and when it has learned all of them."
        )
    figures = {name: value for name, value in figures_of(row).items() if name not in _IN_BAR and value != UNKNOWN}
    if figures:
        for column, (name, value) in zip(st.columns(len(figures)), figures.items(), strict=True):
            column.metric(name[0].upper() + name[1:], value)


def _show_log(row: Row) -> None:
    with st.expander("Log", expanded=row.job is not None, key="run-log"):
        if row.job is None:
            st.info("This run was started in a terminal, or gone on with there, which has what its process wrote.")
            return
        log = queue().log_tail(row.job.number, _LOG_LINES)
        if log:
            st.caption(f"Last lines of job {row.job.number}")
            st.code(log, language=None, wrap_lines=True)
        else:
            st.info(f"Job {row.job.number} has not written anything yet.")


def _show_settings(row: Row) -> None:
    with st.expander("Settings", key="run-settings"):
        try:
            settings = settings_of(row.folder)
        except (OSError, UsageError, SupsupError) as error:
            st.error(str(error))
            return
        st.dataframe(
            {"setting": list(settings), "value": list(settings.values())},
            hide_index=True,
            alt=f"Settings of {row.name}",
        )
        if row.can_go_on:
            st.caption("To go on with it in a terminal:")
            st.code(as_typed(resume_command(row)), language="bash", wrap_lines=True)

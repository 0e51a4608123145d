"""Deleting runs: with confirmation, never one that goes on, and never anything outside of runs/."""

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from supsup_methods.errors import UsageError
from supsup_methods.run_folder import LOCK, RUNS, RunFolder

from supsup_dashboard.plain_text import plain
from supsup_dashboard.queueing.jobs import JobQueue, lock_patiently, queue
from supsup_dashboard.run_choice import keep_in_view
from supsup_dashboard.runs.rows import run_of

_BIN = ".deleted-"
"""Begins the name of a folder in runs/ of what is being removed; a stop midway leaves it there, for the next removal to end."""
_QUESTION = "asked-to-delete"
_DELETED = "deleted-runs"


def ask_on_next_run(names: Sequence[str]) -> None:
    """Take note that whoever looks wants these runs deleted; the page asks once more when it is drawn again as a whole."""
    st.session_state[_QUESTION] = list(names)


def take_question() -> list[str]:
    """Return, once, the runs that somebody wants deleted."""
    names: list[str] = st.session_state.pop(_QUESTION, [])
    return names


@st.dialog("Delete runs", on_dismiss="rerun")
def ask_to_delete(names: Sequence[str]) -> None:
    """Ask once more, and delete the runs of these names."""
    st.write(f"Delete {plain(_listed(names))}? What was learned is lost, with all results. Nobody can bring it back.")
    sure, keep = st.columns(2)
    if keep.button("Keep", key="keep-runs", width="stretch"):
        st.rerun()
    if sure.button("Delete", key="delete-runs", type="primary", width="stretch"):
        deleted, problems = _removed(names)
        keep_in_view([name for name in names if name not in deleted])
        if problems:
            st.error("\n\n".join([*problems, *([f"Deleted {plain(_listed(deleted))}."] if deleted else [])]))
            return
        st.session_state[_DELETED] = _listed(deleted)
        st.rerun()


def tell_deleted() -> None:
    """Say what was deleted; a dialog that closes takes its own words with it."""
    if _DELETED in st.session_state:
        st.toast(f"Deleted {plain(st.session_state.pop(_DELETED))}")


def _removed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Delete runs, and return the names of those that are gone now, some perhaps before, and what kept the others."""
    deleted, problems = list[str](), list[str]()
    for name in names:
        try:
            if (RUNS / name).exists():
                remove_run(RunFolder(RUNS / name), queue())
        except (UsageError, OSError) as error:
            problems.append(str(error))
        else:
            deleted.append(name)
    return deleted, problems


def remove_run(folder: RunFolder, jobs: JobQueue) -> None:
    """Delete a run's folder and its jobs: first it is renamed, so that nobody sees half of it, then removed.

    Args:
        folder: of a run directly under runs/.
        jobs: of the queue, in which none may be open for it.

    Raises:
        UsageError: it is not a run under runs/, or a link that leads elsewhere, or a process works on it, or will.
    """
    path = folder.path
    if not folder.holds_run or path.absolute().parent != RUNS.absolute():
        raise UsageError(f"{path}: no run in {RUNS}/; choose one from the table")
    if path.is_symlink() or path.resolve().parent != RUNS.resolve():
        raise UsageError(
            f"{path}: it is a link to {path.resolve()}; remove it in a terminal, where you see what it leads to"
        )
    place = RUNS / f"{_BIN}{secrets.token_hex(8)}"
    with _held(path):
        own = [job for job in jobs.jobs() if run_of(job) == path.name]
        for job in own:
            if job.is_open:
                raise UsageError(
                    f"{path}: job {job.number} of the queue ({job.about}) works on it, or will; stop or cancel that first"
                )
        place.mkdir()
        path.rename(place / path.name)
    for job in own:  # else the next run of this name would have their logs and failures
        jobs.forget(job.number)
    for leftover in RUNS.glob(f"{_BIN}*"):
        shutil.rmtree(leftover, ignore_errors=True)  # another removal may be at it as well
    if place.exists():
        raise UsageError(
            f"{path}: not all of it could be removed; what is left is in {place}, remove that in a terminal"
        )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep processes from a run. Its note of how it ended stays as it is: the run is going, or stays as it was."""
    with open(path / LOCK, "ab") as file:
        if not lock_patiently(file):
            raise UsageError(f"{path}: a process works on it; stop it first")
        yield


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} runs ({', '.join(names)})"

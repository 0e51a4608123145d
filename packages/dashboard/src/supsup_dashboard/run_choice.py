"""Which runs a page is about: chosen from those under runs/, kept in its address and on the way to other pages, opened once."""

from collections.abc import Mapping
from pathlib import Path

import streamlit as st
from supsup_methods.run_folder import BANK, PROGRESS, RECIPE, RUNS, SUMMARY, RunFolder
from supsup_methods.runs import Run, find_runs, open_run

from supsup_dashboard.plain_text import plain

QUERY = "run"
"""In a page's address, before the name of each run that is chosen."""
_LOOKED_AT = "runs that were chosen last"


def choose_run(no_run: str) -> RunFolder | None:
    """Let the reader choose a run, the newest first, and return it; None where there is none, having said what to do.

    Args:
        no_run: what this page would show of a run.
    """
    folders = {folder.path.name: folder for folder in newest_first(list(find_runs(RUNS)))}
    if not folders:
        st.info(f"No run yet. Start one on the page Launch, or in a terminal: `poetry run supsup-train`. {no_run}")
        return None
    _tell_gone(folders)
    names, asked = list(folders), _asked(folders)
    chosen = st.selectbox("Run", names, index=names.index(asked[0]) if asked else 0, key="chosen-run")
    keep_in_view([chosen])
    return folders[chosen]


def choose_runs(no_run: str) -> list[RunFolder]:
    """Let the reader choose some runs, at first the newest; none where there is none, having said what to do.

    Args:
        no_run: what this page would show of runs.
    """
    folders = {folder.path.name: folder for folder in newest_first(list(find_runs(RUNS)))}
    if not folders:
        st.info(f"No run yet. Start one on the page Launch, or in a terminal: `poetry run supsup-train`. {no_run}")
        return []
    _tell_gone(folders)
    chosen = st.multiselect("Runs", list(folders), default=_asked(folders) or list(folders)[:1], key="chosen-runs")
    keep_in_view(chosen)
    return [folders[name] for name in chosen]


def keep_in_view(names: list[str]) -> None:
    """Put runs into the page's address, and have the next page begin with them."""
    if st.query_params.get_all(QUERY) != names:
        st.query_params[QUERY] = names
    st.session_state[_LOOKED_AT] = names


def _asked(folders: Mapping[str, RunFolder]) -> list[str]:
    """Return the runs that the address names, or else those of the page before, as far as they are there."""
    return [name for name in _named() if name in folders]


def _named() -> list[str]:
    return st.query_params.get_all(QUERY) or st.session_state.get(_LOOKED_AT, [])


def _tell_gone(folders: Mapping[str, RunFolder]) -> None:
    """Say which of the runs that were chosen are there no more, as others stand in their place."""
    gone = [name for name in _named() if name not in folders]
    if gone:
        st.warning(f"{RUNS}/ no longer holds {plain(', '.join(gone))}: deleted or moved since it was chosen.")


def newest_first(folders: list[RunFolder]) -> list[RunFolder]:
    """Return runs by when they were started, the last one first."""
    return sorted(folders, key=lambda folder: changed(folder.path / RECIPE), reverse=True)


def opened(folder: RunFolder, stamped: tuple[int, ...]) -> Run:
    """Return the run, opened on the CPU; it stays open for all pages until its files change.

    Args:
        folder: its files.
        stamped: their `stamp`, taken before; what is derived from the run is to be kept under the same one.

    Raises:
        UsageError: one of its files is damaged.
        DatasetError: its data is gone.
        SupsupError: its bank is damaged.
    """
    return _opened(folder.path, stamped)


def stamp(folder: RunFolder) -> tuple[int, ...]:
    """Return what changes when a run comes further: a key for caches."""
    return tuple(changed(folder.path / name) for name in (RECIPE, PROGRESS, SUMMARY, BANK))


@st.cache_resource(max_entries=4, show_spinner="Opening the run")
def _opened(path: Path, stamped: tuple[int, ...]) -> Run:
    return open_run(path)


def changed(path: Path) -> int:
    """Return when a file was changed, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0

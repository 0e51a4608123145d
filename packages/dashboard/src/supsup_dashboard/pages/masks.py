"""Masks while they form: one in training, all beside each other, and one that Hopfield Recovery finds again."""

import streamlit as st
from supsup_core import SupsupError
from supsup_datasets.errors import DatasetError
from supsup_methods.errors import UsageError
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.run_folder import RunFolder
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings

from supsup_dashboard.masks.mask_sets import show_mask_set
from supsup_dashboard.masks.recovery import show_recovery
from supsup_dashboard.masks.watching import show_watching
from supsup_dashboard.run_choice import choose_run

_WHAT = (
    "Of runs of supsup this page shows how a mask forms in training, what masks have in common and how dense they are; of runs "
    "of supsup-unknown-tasks the last two; of runs of hopsupsup how a mask is found again."
)


def show() -> None:
    """Show what there is to see of the masks of the run that is chosen."""
    st.title("Masks")
    folder = choose_run(_WHAT)
    if folder is None:
        return
    try:
        _show_run(folder)
    except (OSError, SupsupError, UsageError, DatasetError) as error:
        st.error(str(error))


def _show_run(folder: RunFolder) -> None:
    method = folder.recipe().method
    if isinstance(method, HopSupSupSettings):
        show_recovery(folder, method)
    elif isinstance(method, SupSupSettings):
        show_watching(folder)
        show_mask_set(folder, "task")
    elif isinstance(method, UnknownTasksSettings):
        st.caption(
            "This run was never told which task it learned, and trained a mask wherever it recognised one: none of them can be "
            "trained again by itself."
        )
        show_mask_set(folder, "mask")
    else:
        st.info(
            f"{method.kind} keeps no masks. {_WHAT} Choose one of those above, or start one on the page Launch: `demo` takes a "
            "minute, `figure7-hopsupsup` recovers masks."
        )

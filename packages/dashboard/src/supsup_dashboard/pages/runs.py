"""All runs under runs/, and how each did on every task."""

from typing import Any

import pandas as pd
import streamlit as st
from supsup_core import SupsupError
from supsup_methods.errors import UsageError
from supsup_methods.reporting.figures import task_accuracy
from supsup_methods.run_folder import RUNS, RunFolder
from supsup_methods.runs import find_runs


def show() -> None:
    """Show a table of runs and, for the one chosen, its accuracy on each task."""
    st.title("Runs")
    folders = {folder.path.name: folder for folder in find_runs(RUNS)}
    if not folders:
        st.info("No run yet. Start one in a terminal: `poetry run supsup-train`")
        return
    st.dataframe(pd.DataFrame([_row(folder) for folder in folders.values()]), hide_index=True)
    chosen = st.selectbox("Run", list(folders), index=len(folders) - 1)
    if chosen is not None:
        _show_run(folders[chosen])


def _row(folder: RunFolder) -> dict[str, Any]:
    """Return one line of the table; a run whose files are damaged says so."""
    row: dict[str, Any] = {"run": folder.path.name}
    try:
        recipe, progress, learned = folder.recipe(), folder.progress(), folder.tasks_saved
        row["status"] = _status(folder)
    except (OSError, SupsupError, UsageError) as error:
        return {**row, "status": f"damaged: {error}"}
    row |= {"recipe": recipe.name, "tasks": recipe.tasks, "learned": learned, "seed": recipe.seed}
    if progress.checkpoints:
        last = progress.checkpoints[-1]
        row |= {"accuracy": last.accuracy, "task inference accuracy": last.task_inference_accuracy}
    return row


def _status(folder: RunFolder) -> str:
    if folder.is_done:
        return "done"
    return "running" if folder.is_active else "stopped"


def _show_run(folder: RunFolder) -> None:
    try:
        checkpoints = folder.progress().checkpoints
    except (OSError, UsageError) as error:
        st.error(str(error))
        return
    if not checkpoints:
        st.info("Nothing is tested yet: this run tests its tasks when it has learned them.")
        return
    scores = pd.DataFrame(
        {
            "task": score.task,
            "accuracy": score.accuracy,
            "task inferred right": score.guesses_right / score.guesses if score.guesses else None,
        }
        for score in checkpoints[-1].scores
    )
    st.plotly_chart(task_accuracy(scores))

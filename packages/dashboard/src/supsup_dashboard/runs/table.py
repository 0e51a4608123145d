"""Runs as a table: filtered, chosen from, and kept in the page's address."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st
from supsup_methods.run_listing import RunLine

from supsup_dashboard.kept_values import beginning, held
from supsup_dashboard.moments import local_time, moment_column
from supsup_dashboard.row_choice import choose_in_table
from supsup_dashboard.run_choice import QUERY, keep_in_view
from supsup_dashboard.runs.rows import STATES, Row
from supsup_dashboard.runs.units import spoken_seconds

_HEIGHT_PIXELS = 420
_HIDDEN = "runs that the filter hides"
_AT_TIMES = ("problem", "steps/s", "left")  # columns that are empty most of the time, and not shown then
_COLUMNS = {
    "run": st.column_config.TextColumn("run", pinned=True),
    "progress": st.column_config.ProgressColumn("progress", format="percent", help="Tasks learned, of all"),
    "accuracy": st.column_config.NumberColumn(
        "accuracy", format="percent", help="Images that are right at the last checkpoint, averaged over tasks"
    ),
    "task inference": st.column_config.NumberColumn(
        "task inference", format="percent", help="Test batches whose task was found; empty where the task is given"
    ),
    "steps/s": st.column_config.NumberColumn("steps/s", format="%.1f", help="Training steps, while it runs"),
    "left": st.column_config.TextColumn("left", width=100, help="Time of training that is left; tests come on top"),
    "training": st.column_config.NumberColumn("training (s)", format="%.0f", help="Seconds of training so far"),
    "bytes": st.column_config.NumberColumn("stored", format="bytes", help="Contexts, buffers and shared weights"),
    "problem": st.column_config.TextColumn("problem", width="large"),
}


def filtered(rows: Sequence[Row]) -> list[Row]:
    """Let the reader say which runs to show, by text, recipe, method and state, and return those."""
    text, recipe, method, state = st.columns((2, 1, 1, 1))
    words = text.text_input(
        "Filter",
        beginning("runs-filter", ""),
        key="runs-filter",
        placeholder="words to look for",
        help="In name, state, recipe, method, data, stream, backbone, device and problem; all of them are to be there.",
    )
    held("runs-filter", words)
    recipes = _some(recipe, "Recipe", sorted({row.line.recipe for row in rows} - {""}))
    methods = _some(method, "Method", sorted({row.line.method for row in rows} - {""}))
    states = _some(state, "State", STATES)
    shown = [
        row
        for row in rows
        if (not recipes or row.line.recipe in recipes)
        and (not methods or row.line.method in methods)
        and (not states or row.state in states)
        and all(word in _searched(row) for word in words.lower().split())
    ]
    st.session_state[_HIDDEN] = {row.name for row in rows} - {row.name for row in shown}
    return shown


def _some(place: "st.delta_generator.DeltaGenerator", label: str, there: Sequence[str]) -> list[str]:
    """Let the reader choose among what there is; what was chosen stays to be chosen when the last such run has gone."""
    key = f"runs-{label.lower()}s"
    begins = beginning(key, list[str]())
    offered = list(dict.fromkeys([*there, *begins, *st.session_state.get(key, ())]))
    return held(key, place.multiselect(label, offered, begins, key=key))


def choose_rows(rows: Sequence[Row]) -> list[Row]:
    """Show the table and return the rows that are chosen in it; those in the page's address are at first.

    A run that was chosen and that the filter hides stays in the address: it is chosen when it is shown again.
    """
    table, asked = table_of(rows), st.query_params.get_all(QUERY)
    places = choose_in_table(
        table,
        [row.name for row in rows],
        "runs-table",
        mode="multi-row",
        asked=asked,
        column_config={**_COLUMNS, "begun": moment_column(), "ended": moment_column()},
        column_order=[
            name for name in table if name not in _AT_TIMES or table[name].map(bool, na_action="ignore").any()
        ],
        height=_HEIGHT_PIXELS if len(rows) > 10 else "auto",
        alt="Runs under runs/",
    )
    chosen = [rows[place] for place in places]
    if chosen or asked:
        hidden = [name for name in asked if name in st.session_state.get(_HIDDEN, ())]
        keep_in_view([*(row.name for row in chosen), *hidden])
    return chosen


def table_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the table's content: fractions, seconds, bytes, and moments by the reader's clock."""
    lines = [row.line for row in rows]
    return pd.DataFrame(
        {
            "run": [line.name for line in lines],
            "state": [row.state for row in rows],
            "progress": [_share(line) for line in lines],
            "learned": pd.array([line.learned for line in lines], dtype="Int64"),
            "tasks": pd.array([line.tasks for line in lines], dtype="Int64"),
            "accuracy": pd.array([line.accuracy for line in lines], dtype="Float64"),
            "task inference": pd.array([line.task_inference_accuracy for line in lines], dtype="Float64"),
            "steps/s": pd.array([line.steps_per_second for line in lines], dtype="Float64"),
            "left": ["" if line.seconds_left is None else spoken_seconds(line.seconds_left) for line in lines],
            "recipe": [line.recipe for line in lines],
            "method": [line.method for line in lines],
            "scenario": [line.scenario for line in lines],
            "seed": pd.array([line.seed for line in lines], dtype="Int64"),
            "training": pd.array([line.train_seconds for line in lines], dtype="Float64"),
            "bytes": pd.array([line.stored_bytes for line in lines], dtype="Int64"),
            "device": [line.device for line in lines],
            "data": [line.data for line in lines],
            "stream": [line.stream for line in lines],
            "backbone": [line.backbone for line in lines],
            "begun": [local_time(line.begun) for line in lines],
            "ended": [local_time(line.ended) for line in lines],
            "problem": [line.problem for line in lines],
        }
    )


def _share(line: RunLine) -> float | None:
    """Return the fraction of the tasks that is learned, in whole percents: all of them only at the end."""
    return 100 * line.learned // line.tasks / 100 if line.learned is not None and line.tasks else None


def _searched(row: Row) -> str:
    line = row.line
    return " ".join(
        (
            line.name,
            row.state,
            line.recipe,
            line.method,
            line.data,
            line.stream,
            line.backbone,
            line.device,
            line.problem,
        )
    ).lower()

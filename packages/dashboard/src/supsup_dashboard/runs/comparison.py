"""Chosen runs side by side: in which settings they differ, and what came out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st
from supsup_methods.errors import UsageError
from supsup_methods.run_folder import RunFolder
from supsup_methods.run_listing import RunLine

from supsup_dashboard.runs.rows import Row
from supsup_dashboard.runs.units import spoken_bytes, spoken_seconds

UNKNOWN = "–"
"""For a figure or a setting that a run does not have."""

_PLACES = ("data_digest", "data_root")  # of the environment: they say where the data is, data_name says what it is


def show_comparison(rows: Sequence[Row]) -> None:
    """Show the settings in which runs differ and their figures, a column for each run."""
    st.subheader(f"{len(rows)} runs side by side")
    settings = {}
    for row in rows:
        try:
            settings[row.name] = settings_of(row.folder)
        except (OSError, UsageError) as error:
            st.error(str(error))
    figures = pd.DataFrame({row.name: figures_of(row) for row in rows})
    st.dataframe(figures.rename_axis("figure"), alt="Figures of the chosen runs")
    different = differences(settings)
    if len(settings) < 2:
        return
    if different.empty:
        st.info("These runs were asked for with the same settings, on the same kind of machine.")
        return
    st.dataframe(different, alt="Settings in which the chosen runs differ")
    alike = len({name for each in settings.values() for name in each}) - len(different)
    st.caption(f"{alike} more settings are the same in all of them.")


def settings_of(folder: RunFolder) -> dict[str, str]:
    """Return all that was asked for a run, and what it ran on, by dotted names: `method.training.batches`, `device`.

    Raises:
        UsageError: there is no run here, or a file is damaged.
    """
    recipe, environment = asdict(folder.recipe()), asdict(folder.environment())
    return dict(_flat({**recipe, **{name: value for name, value in environment.items() if name not in _PLACES}}, ""))


def differences(settings: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Return the settings that are not the same in all runs: a row for each, a column for each run, "–" where a run has none.

    Args:
        settings: of each run, by its name.
    """
    names = dict.fromkeys(name for each in settings.values() for name in each)  # in their order
    table = pd.DataFrame(
        {run: [each.get(name, UNKNOWN) for name in names] for run, each in settings.items()},
        index=pd.Index(list(names), name="setting"),
        dtype=object,
    )
    return table[table.nunique(axis=1) > 1]


def figures_of(row: Row) -> dict[str, str]:
    """Return what came out of a run, as one says it."""
    line: RunLine = row.line
    return {
        "state": row.state,
        "tasks learned": UNKNOWN if line.learned is None else f"{line.learned} of {line.tasks}",
        "accuracy": _percent(line.accuracy),
        "task inference accuracy": _percent(line.task_inference_accuracy),
        "training": UNKNOWN if line.train_seconds is None else spoken_seconds(line.train_seconds),
        "training of a task": UNKNOWN if line.seconds_a_task is None else spoken_seconds(line.seconds_a_task),
        "stored": UNKNOWN if line.stored_bytes is None else spoken_bytes(line.stored_bytes),
    }


def _percent(fraction: float | None) -> str:
    return UNKNOWN if fraction is None else f"{fraction:.2%}"


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

"""Figures of which tasks test batches were given to, from data frames to plotly figures (extra `plots`)."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.reporting.style import SCALE, labelled

FEW = 60
"""Tasks up to which all pairs are shown, as a heat map; of more, the pairs that were confused, as points."""

_TICKS = 20  # at most one for each number
_SHARE = {"title": {"text": "% of the task's<br>test batches"}}
_HOVER = "task %{y} given to %{x}: %{customdata:.1f} % of its batches<extra></extra>"


def task_confusion(guesses: pd.DataFrame, tasks: int, *, masks: bool = False) -> go.Figure:
    """Draw which task the test batches of each task were given to.

    Up to `FEW` tasks it is a heat map of all pairs. Of more it is a point for each pair that was confused: right guesses, which
    would be a diagonal, are left out. Where masks are no tasks (NNs) none is right by its number, and none is left out.

    Args:
        guesses: columns `task` (the true one), `guessed`, `batches` (how many of the task's were given there).
        tasks: how many there are.
        masks: whether batches are given to masks whose numbers are no tasks (NNs).
    """
    shares = guesses.assign(share=100 * guesses["batches"] / guesses.groupby("task")["batches"].transform("sum"))
    answers = 1 + int(guesses["guessed"].max()) if len(guesses) else 1
    columns = answers if masks else max(tasks, answers)
    figure = _map(shares, tasks, columns) if max(tasks, columns) <= FEW else _points(shares, tasks, columns, masks)
    labelled(figure, "mask guessed" if masks else "task guessed", "true task")
    return figure.update_layout(legend_title_text="", hovermode="closest")


def confused(guesses: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of batches that were given to another task, those of most batches first.

    Args:
        guesses: as `task_confusion` takes them, of tasks whose guesses are tasks.
    """
    wrong = guesses[guesses["task"] != guesses["guessed"]]
    return wrong.sort_values(["batches", "task", "guessed"], ascending=[False, True, True], ignore_index=True)


def _map(shares: pd.DataFrame, tasks: int, columns: int) -> go.Figure:
    table = shares.pivot_table(index="task", columns="guessed", values="share", fill_value=0.0)
    table = table.reindex(index=range(tasks), columns=range(columns), fill_value=0.0)
    figure = go.Figure()
    figure.add_heatmap(
        x=list(table.columns),
        y=list(table.index),
        z=table.to_numpy(),
        customdata=table.to_numpy(),
        zmin=0,
        zmax=100,
        colorscale=SCALE,
        colorbar=_SHARE,
        hovertemplate=_HOVER,
    )
    # As a matrix is written: task 0 at the top, whole numbers alone at the axes, and a square where there are as many columns.
    square = {"scaleanchor": "x", "constrain": "domain"} if tasks == columns else {}
    figure.update_yaxes(autorange="reversed", **_whole(tasks), **square)
    return figure.update_xaxes(constrain="domain", **_whole(columns))


def _whole(numbers: int) -> dict[str, Any]:
    """Return the settings of an axis of whole numbers."""
    return {"tickformat": "d", "dtick": 1 if numbers <= _TICKS else None}


def _points(shares: pd.DataFrame, tasks: int, columns: int, masks: bool) -> go.Figure:
    shown = shares if masks else shares[shares["task"] != shares["guessed"]]
    marker = {
        "color": shown["share"],
        "size": 5,
        "colorscale": SCALE,
        "cmin": 0,
        "cmax": 100,
        "colorbar": _SHARE,
        "line": {"width": 0},
    }
    figure = go.Figure()
    figure.add_scattergl(
        x=shown["guessed"],
        y=shown["task"],
        mode="markers",
        marker=marker,
        customdata=shown["share"],
        hovertemplate=_HOVER,
        name="confused",
    )
    figure.update_yaxes(range=[tasks - 0.5, -0.5])
    return figure.update_xaxes(range=[-0.5, columns - 0.5])

"""Figures of how tasks fare, as pure functions from data frames to plotly figures (extra `plots`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.reporting.style import BLUE, GREY, ORANGE, counted, labelled

MANY = 400
"""Points from which on a curve is drawn by WebGL, which takes thousands where SVG makes a page slow."""

_FIRST = "accuracy when just learned"


def task_accuracy(scores: pd.DataFrame) -> go.Figure:
    """Draw accuracy and task-inference accuracy against the task; behind them the accuracy that tasks had when just learned.

    What lies between that and the accuracy now was forgotten since.

    Args:
        scores: columns `task`, `accuracy` (fraction), `task inferred right` (fraction, or missing where it was given), and,
            where it is known, `accuracy when just learned` (fraction, or missing).
    """
    figure = go.Figure()
    for column, colour, symbol, size in (
        (_FIRST, GREY, "circle-open", 11),  # a ring around what was kept
        ("accuracy", BLUE, "circle", 7),
        ("task inferred right", ORANGE, "diamond", 7),
    ):
        if column in scores and scores[column].notna().any():
            marker = {"color": colour, "symbol": symbol, "size": size}
            figure.add_trace(_tasks(column, scores["task"], 100 * scores[column], marker))
    labelled(figure, "task", "% of test images (of test batches: tasks inferred)")
    return counted(figure, int(scores["task"].max()))


def curve(x: Sequence[Any] | pd.Series, y: Sequence[Any] | pd.Series, **options: Any) -> go.Scatter | go.Scattergl:
    """Return a curve, or points, drawn by WebGL where there are many.

    Args:
        x: as the axis has them.
        y: as many.
        options: of plotly's Scatter.
    """
    return (go.Scattergl if len(x) >= MANY else go.Scatter)(x=x, y=y, **options)


def _tasks(name: str, tasks: pd.Series, percent: pd.Series, marker: Mapping[str, Any]) -> go.Scatter | go.Scattergl:
    many = len(tasks) >= MANY
    return curve(
        tasks,
        percent,
        name=name,
        mode="markers" if many else "lines+markers",
        line={"color": marker["color"], "width": 1},
        marker={**marker, "size": 3} if many else dict(marker),
    )

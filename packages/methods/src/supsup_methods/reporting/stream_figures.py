"""Figures of a stream in which nobody says when a task begins, from data frames to plotly figures (extra `plots`)."""

import math

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.reporting.figures import MANY, curve
from supsup_methods.reporting.style import BLUE, GREY, VERMILION, labelled

_TICKS = 20  # at most one for each mask


def decisions_along_stream(decisions: pd.DataFrame, epsilon: float) -> go.Figure:
    """Draw (k + 1) max ν of each decision, and the threshold: below it nothing known suits, and above it the fresh mask may lead.

    Args:
        decisions: columns `batch`, `ratio`, `new` (whether a mask was allocated).
        epsilon: ε.
    """
    figure = go.Figure()
    for new, colour, symbol, name in ((False, BLUE, "circle", "known mask"), (True, VERMILION, "x", "new mask")):
        rows = decisions[decisions["new"] == new]
        marker = {"color": colour, "symbol": symbol, "size": _size(len(decisions))}
        figure.add_trace(curve(rows["batch"], rows["ratio"], mode="markers", marker=marker, name=name))
    figure.add_hline(y=1 + epsilon, line_dash="dash", line_color=GREY)
    # plotly takes the place of a note on a logarithmic axis as the logarithm, and that of a line as it is.
    figure.add_annotation(
        x=1,
        xref="paper",
        y=math.log10(1 + epsilon),
        text=f"1 + ε, ε = {epsilon:g}",
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
    )
    return labelled(figure, "training batch of the stream", "(k + 1) max ν").update_layout(yaxis_type="log")


def masks_along_stream(parts: pd.DataFrame) -> go.Figure:
    """Draw which mask each part of the stream was given to, and whether that mask is one of the part's own task.

    A mask belongs to the task that most of its batches came from, which nobody told the method.

    Args:
        parts: columns `batch` (its first), `mask`, `task` (the true one), `own` (whether the mask is one of the task's).
    """
    figure = go.Figure()
    for own, colour, symbol, name in (
        (True, BLUE, "circle", "a mask of this task"),
        (False, VERMILION, "x", "a mask of another task"),
    ):
        rows = parts[parts["own"] == own]
        if len(rows):
            marker = {"color": colour, "symbol": symbol, "size": _size(len(parts))}
            points = curve(rows["batch"], rows["mask"], mode="markers", marker=marker, name=name)
            points.update(text=rows["task"], hovertemplate="batch %{x}: mask %{y}, task %{text}")
            figure.add_trace(points)
    labelled(figure, "training batch of the stream", "mask")
    return figure.update_yaxes(tickformat="d", dtick=1 if len(parts) and parts["mask"].max() < _TICKS else None)


def masks_by_epsilon(rows: pd.DataFrame) -> go.Figure:
    """Draw how many masks were allocated for the tasks there were, against ε.

    Args:
        rows: columns `epsilon`, `masks`, `tasks`.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=rows["epsilon"], y=rows["masks"], mode="lines+markers", line_color=BLUE, name="masks allocated"
    )
    figure.add_scatter(
        x=rows["epsilon"], y=rows["tasks"], mode="lines", line_color=GREY, line_dash="dash", name="true tasks"
    )
    return labelled(figure, "ε", "masks").update_layout(xaxis_type="log", yaxis_rangemode="tozero")


def _size(points: int) -> int:
    """Return the size of markers, in pixels."""
    return 3 if points >= MANY else 7

"""Figures of a stream in which nobody says when a task begins, from data frames to plotly figures (extra `plots`)."""

import pandas as pd
import plotly.graph_objects as go

# From the Okabe-Ito palette, which colour-blind readers can tell apart.
_KNOWN, _NEW, _RULE = "#0072B2", "#D55E00", "#000000"


def decisions_along_stream(decisions: pd.DataFrame, epsilon: float) -> go.Figure:
    """Draw (k + 1) max ν of each decision, and the threshold: below it nothing known suits, and above it the fresh mask may lead.

    Args:
        decisions: columns `batch`, `ratio`, `new` (whether a mask was allocated).
        epsilon: ε.
    """
    figure = go.Figure()
    for new, colour, symbol, name in ((False, _KNOWN, "circle", "known mask"), (True, _NEW, "x", "new mask")):
        rows = decisions[decisions["new"] == new]
        marker = {"color": colour, "symbol": symbol, "size": 6}
        figure.add_scatter(x=rows["batch"], y=rows["ratio"], mode="markers", marker=marker, name=name)
    figure.add_hline(y=1 + epsilon, line_dash="dash", line_color=_RULE, annotation_text=f"1 + ε, ε = {epsilon:g}")
    return figure.update_layout(
        xaxis_title="training batch of the stream", yaxis_title="(k + 1) max ν", yaxis_type="log"
    )


def masks_by_epsilon(rows: pd.DataFrame) -> go.Figure:
    """Draw how many masks were allocated for the tasks there were, against ε.

    Args:
        rows: columns `epsilon`, `masks`, `tasks`.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=rows["epsilon"], y=rows["masks"], mode="lines+markers", line_color=_KNOWN, name="masks allocated"
    )
    figure.add_scatter(
        x=rows["epsilon"], y=rows["tasks"], mode="lines", line_color=_RULE, line_dash="dash", name="true tasks"
    )
    return figure.update_layout(xaxis_title="ε", xaxis_type="log", yaxis_title="masks", yaxis_rangemode="tozero")

"""Figures as pure functions from data frames to plotly figures (extra `plots`)."""

import pandas as pd
import plotly.graph_objects as go

# From the Okabe-Ito palette, which colour-blind readers can tell apart.
_BLUE, _ORANGE = "#0072B2", "#E69F00"


def task_accuracy(scores: pd.DataFrame) -> go.Figure:
    """Draw accuracy and task-inference accuracy against the task.

    Args:
        scores: columns `task`, `accuracy` (fraction), `task inferred right` (fraction, or missing where it was given).
    """
    figure = go.Figure()
    for column, colour in (("accuracy", _BLUE), ("task inferred right", _ORANGE)):
        if scores[column].notna().any():
            figure.add_scatter(
                x=scores["task"], y=100 * scores[column], name=column, line_color=colour, mode="lines+markers"
            )
    figure.update_layout(xaxis_title="task", yaxis_title="% of test images (batches)", yaxis_rangemode="tozero")
    return figure

"""Figures of the paper's tables, from data frames to plotly figures (extra `plots`)."""

import pandas as pd
import plotly.graph_objects as go

# The Okabe-Ito palette, which colour-blind readers can tell apart; symbols say the same without colours.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
_SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")


def accuracy_against_tasks(results: pd.DataFrame) -> go.Figure:
    """Draw accuracy against the number of tasks learned, the paper's behind it (Figures 3 to 6).

    Args:
        results: columns `row` (its label), `tasks`, `accuracy` (percent, a line for each seed) and `paper` (percent, or missing).
    """
    figure = go.Figure()
    for number, (label, lines) in enumerate(results.groupby("row", sort=False)):
        colour, symbol = _COLOURS[number % len(_COLOURS)], _SYMBOLS[number % len(_SYMBOLS)]
        spread = lines.groupby("tasks")["accuracy"].agg(["mean", "std"])
        paper = lines.dropna(subset="paper").drop_duplicates("tasks")
        figure.add_scatter(
            x=paper["tasks"],
            y=paper["paper"],
            name=f"{label}, paper",
            mode="lines+markers",
            line={"color": colour, "dash": "dot", "width": 1},
            marker={"symbol": f"{symbol}-open", "size": 10},
        )
        figure.add_scatter(
            x=spread.index,
            y=spread["mean"],
            error_y={"type": "data", "array": spread["std"], "visible": bool(spread["std"].notna().any())},
            name=str(label),
            mode="lines+markers",
            line={"color": colour},
            marker={"symbol": symbol, "size": 7},
        )
    return figure.update_layout(xaxis_title="tasks learned", yaxis_title="accuracy, mean over tasks (%)")


def accuracy_against_bytes(results: pd.DataFrame) -> go.Figure:
    """Draw accuracy against the bytes that all tasks take (Figure 2, right).

    Args:
        results: columns `row` (its label), `bytes` and `accuracy` (percent), a line for each seed.
    """
    figure = go.Figure()
    for number, (label, lines) in enumerate(results.groupby("row", sort=False)):
        marker = {
            "color": _COLOURS[number % len(_COLOURS)],
            "symbol": _SYMBOLS[number // 2 % len(_SYMBOLS)],
            "size": 10,
        }
        mean = lines[["bytes", "accuracy"]].mean()
        figure.add_scatter(x=[mean["bytes"]], y=[mean["accuracy"]], mode="markers", name=str(label), marker=marker)
    return figure.update_layout(
        xaxis_title="bytes of all tasks", xaxis_type="log", yaxis_title="accuracy, mean over tasks (%)"
    )


def accuracy_against_share(results: pd.DataFrame) -> go.Figure:
    """Draw accuracy against the share γ of the tasks that a round of the search keeps (Figure 11, left).

    Args:
        results: columns `share` (a fraction) and `accuracy` (percent), a line for each seed.
    """
    mean = results.groupby("share")["accuracy"].mean()
    figure = go.Figure()
    figure.add_scatter(x=mean.index, y=mean, mode="lines+markers", line_color=_COLOURS[0], name="accuracy")
    return figure.update_layout(
        xaxis_title="share γ of the tasks that a round keeps", yaxis_title="accuracy, mean over tasks (%)"
    )

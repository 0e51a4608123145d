"""Figures of the paper's tables, from data frames to plotly figures (extra `plots`)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.reporting.style import BLUE, COLOURS, DASHES, GREY, ORANGE, SYMBOLS, labelled

_TASKS, _ACCURACY = "tasks learned", "accuracy, mean over tasks (%)"
_SHARE = "share γ of the tasks that a round keeps"
_PAPER_DASHES = tuple(dash for dash in DASHES if dash != "solid")


def accuracy_against_tasks(results: pd.DataFrame) -> go.Figure:
    """Draw accuracy against the number of tasks learned, the paper's behind it (Figures 3 to 6).

    Args:
        results: columns `row` (its label), `tasks`, `accuracy` (percent, a line for each seed) and `paper` (percent, or missing).
    """
    figure = go.Figure()
    for number, (label, lines) in enumerate(results.groupby("row", sort=False)):
        colour, symbol = COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]
        paper = lines.dropna(subset="paper").drop_duplicates("tasks")
        figure.add_scatter(
            x=paper["tasks"],
            y=paper["paper"],
            name=f"{label}, paper",
            mode="lines+markers",
            line={"color": colour, "dash": "dot", "width": 1},
            marker={"symbol": f"{symbol}-open", "size": 10},
            showlegend=len(paper) > 0,
        )
        figure.add_trace(_with_spread(str(label), lines, colour, symbol))
    return labelled(figure, _TASKS, _ACCURACY)


def learning_curves(runs: pd.DataFrame, paper: pd.DataFrame) -> go.Figure:
    """Draw the accuracy of runs against the number of tasks they had learned, the paper's curves behind them.

    A curve of the paper has the colour of the run that it is like, and is grey where there is none.

    Args:
        runs: columns `run`, `tasks` and `accuracy` (percent).
        paper: columns `row` (its label), `tasks`, `accuracy` (percent) and `like` (a run's name, or missing).
    """
    names = list(dict.fromkeys(runs["run"]))
    colours = {name: COLOURS[number % (len(COLOURS) - 1)] for number, name in enumerate(names)}  # grey is the paper's
    figure = go.Figure()
    for number, (label, lines) in enumerate(paper.groupby("row", sort=False)):
        like = lines["like"].iloc[0]
        figure.add_scatter(
            x=lines["tasks"],
            y=lines["accuracy"],
            name=f"paper: {label}",
            mode="lines+markers",
            line={"color": colours.get(like, GREY), "dash": _PAPER_DASHES[number % len(_PAPER_DASHES)], "width": 1},
            marker={"symbol": f"{SYMBOLS[number % len(SYMBOLS)]}-open", "size": 10},
        )
    for number, name in enumerate(names):
        figure.add_trace(_with_spread(name, runs[runs["run"] == name], colours[name], SYMBOLS[number % len(SYMBOLS)]))
    return labelled(figure, _TASKS, _ACCURACY)


def values_beside_paper(rows: pd.DataFrame, unit: str) -> go.Figure:
    """Draw one value for each row, the mean and standard deviation over seeds, with the paper's beside it.

    Args:
        rows: columns `row` (its label), `value` (a line for each seed) and `paper` (or missing), all in one unit.
        unit: of the values.
    """
    spread = rows.groupby("row", sort=False)["value"].agg(["mean", "std"])  # of a row that was not run they are missing
    paper = rows.dropna(subset="paper").drop_duplicates("row")
    figure = go.Figure()
    if len(paper):
        marker = {"color": GREY, "symbol": "diamond-open", "size": 12}
        figure.add_scatter(x=paper["paper"], y=paper["row"], mode="markers", marker=marker, name="paper")
    figure.add_scatter(
        x=spread["mean"],
        y=spread.index,
        mode="markers",
        marker={"color": BLUE, "symbol": "circle", "size": 8},
        error_x={"type": "data", "array": spread["std"].fillna(0.0), "visible": bool(spread["std"].notna().any())},
        name="ours",
        showlegend=True,
    )
    figure.update_yaxes(categoryorder="array", categoryarray=list(spread.index)[::-1], automargin=True)
    return labelled(figure, unit, "").update_layout(height=max(300, 120 + 24 * len(spread)))


def accuracy_against_bytes(results: pd.DataFrame, paper: pd.DataFrame | None = None) -> go.Figure:
    """Draw accuracy against the bytes that all tasks take (Figures 2 and 11, right), the paper's behind it.

    Args:
        results: columns `row` (its label), `bytes` and `accuracy` (percent), a line for each seed; and, where means of several
            rows are to be joined, `curve`, the name of what they share.
        paper: columns `row`, `bytes` and `accuracy` (percent), a line for each point; points of one row are joined.
    """
    figure = go.Figure()
    for number, (label, lines) in enumerate(() if paper is None else paper.groupby("row", sort=False)):
        ordered = lines.sort_values("bytes")
        figure.add_scatter(
            x=ordered["bytes"],
            y=ordered["accuracy"],
            mode="lines+markers",
            name=f"paper: {label}",
            line={"color": GREY, "dash": _PAPER_DASHES[number % len(_PAPER_DASHES)], "width": 1},
            marker={"symbol": f"{SYMBOLS[number % len(SYMBOLS)]}-open", "size": 10},
        )
    curve = "curve" if "curve" in results else "row"
    for number, (label, lines) in enumerate(results.groupby(curve, sort=False)):
        means = lines.groupby("row")[["bytes", "accuracy"]].mean().sort_values("bytes")
        figure.add_scatter(
            x=means["bytes"],
            y=means["accuracy"],
            text=means.index,
            mode="lines+markers" if len(means) > 1 else "markers",
            name=str(label),
            marker={"color": COLOURS[number % len(COLOURS)], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 10},
        )
    return labelled(figure, "bytes of all tasks", _ACCURACY).update_layout(xaxis_type="log")


def accuracy_against_share(results: pd.DataFrame) -> go.Figure:
    """Draw accuracy against the share γ of the tasks that a round of the search keeps (Figure 11, left).

    Args:
        results: columns `share` (a fraction), `search` and `accuracy` (percent), a line for each seed; One-Shot and Binary are
            written at their points. With a column `task inferred right` (percent) that is drawn as well.
    """
    by_share = results.groupby("share")
    mean, search = by_share["accuracy"].mean(), by_share["search"].first()
    figure = go.Figure()
    figure.add_scatter(
        x=mean.index,
        y=mean,
        mode="lines+markers+text",
        text=[name if name in ("One-Shot", "Binary") else "" for name in search],
        textposition="top center",
        cliponaxis=False,
        line_color=BLUE,
        name="accuracy",
    )
    if "task inferred right" not in results:
        return labelled(figure, _SHARE, _ACCURACY)
    right = by_share["task inferred right"].mean()
    marker = {"color": ORANGE, "symbol": "diamond"}
    line = {"color": ORANGE, "dash": "dash"}
    figure.add_scatter(
        x=right.index, y=right, mode="lines+markers", marker=marker, line=line, name="tasks inferred right"
    )
    return labelled(figure, _SHARE, "% of test images (of test batches: tasks inferred)")


def _with_spread(name: str, lines: pd.DataFrame, colour: str, symbol: str) -> go.Scatter:
    """Return the mean over seeds as a curve, with standard deviations where there are several."""
    spread = lines.dropna(subset="accuracy").groupby("tasks")["accuracy"].agg(["mean", "std"])
    error: Mapping[str, Any] = {
        "type": "data",
        "array": spread["std"],
        "visible": bool(spread["std"].notna().any()),
    }
    return go.Scatter(
        x=spread.index,
        y=spread["mean"],
        error_y=dict(error),
        name=name,
        mode="lines+markers",
        line={"color": colour},
        marker={"symbol": symbol, "size": 7},
        showlegend=len(spread) > 0,  # a row that was not run has the paper's curve alone
    )

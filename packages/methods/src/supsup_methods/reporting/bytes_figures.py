"""Figures of what a bank takes, and what a guess and a mask cost, from data frames to plotly figures (extra `plots`)."""

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.reporting.style import BLUE, COLOURS, GREY, SYMBOLS, labelled


def bytes_by_part(parts: pd.DataFrame) -> go.Figure:
    """Draw what the same learned tasks take in several forms, each as a bar of its parts.

    Args:
        parts: columns `form` (such as packed bits), `part` (such as masks) and `bytes`; a line for each.
    """
    figure = go.Figure()
    for number, (part, rows) in enumerate(parts.groupby("part", sort=False)):
        figure.add_bar(
            x=rows["bytes"],
            y=rows["form"],
            orientation="h",
            name=str(part),
            marker_color=COLOURS[number % len(COLOURS)],
            hovertemplate="%{y}<br>%{x:,.0f} bytes of %{fullData.name}<extra></extra>",
        )
    forms = list(dict.fromkeys(parts["form"]))
    figure.update_yaxes(categoryorder="array", categoryarray=forms[::-1], automargin=True)  # the first at the top
    return labelled(figure, "bytes", "").update_layout(barmode="stack", legend_traceorder="normal")


def density_by_layer(densities: pd.DataFrame) -> go.Figure:
    """Draw the share of ones in the masks of each layer: the mean over tasks, with the least and the most.

    Args:
        densities: columns `layer`, `least`, `mean`, `most` (fractions), the network's first layer first.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=100 * densities["mean"],
        y=densities["layer"],
        mode="markers",
        marker={"color": BLUE, "symbol": "circle", "size": 9},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": 100 * (densities["most"] - densities["mean"]),
            "arrayminus": 100 * (densities["mean"] - densities["least"]),
            "color": GREY,
        },
        name="mean; least and most of all tasks",
        showlegend=True,
    )
    figure.update_yaxes(categoryorder="array", categoryarray=list(densities["layer"])[::-1], automargin=True)
    return labelled(figure, "ones in a mask, % of the layer's weights", "").update_layout(xaxis_rangemode="tozero")


def overhead_of_masks(rows: pd.DataFrame, estimate: float, at_most: float) -> go.Figure:
    """Draw what masks cost beside a plain forward pass, with the middle half of all rounds; the paper's estimate behind it.

    Args:
        rows: columns `images` (of a pass), `masks` (their kind; empty of the plain pass), `way`, `overhead`, `low` and `high`
            (% of the plain pass's median: the median, and the quartiles of the rounds).
        estimate: the paper's, in %.
        at_most: up to which the paper lets it grow, in %.
    """
    figure = go.Figure()
    said = f"paper: {estimate:g} %, at most {at_most:g} %"
    figure.add_vrect(x0=0, x1=at_most, fillcolor=GREY, opacity=0.2, line_width=0, layer="below")
    figure.add_vline(x=estimate, line={"color": GREY, "dash": "dot"}, layer="below", annotation_text=said)
    for number, ((images, masks), lines) in enumerate(rows.groupby(["images", "masks"], sort=False)):
        spread = {"array": lines["high"] - lines["overhead"], "arrayminus": lines["overhead"] - lines["low"]}
        figure.add_scatter(
            x=lines["overhead"],
            y=lines["way"],
            mode="markers",
            orientation="h",
            offsetgroup=number,
            error_x={"type": "data", "symmetric": False, **spread},
            name=", ".join(filter(None, (f"{images} image{'s' * (images != 1)}", str(masks)))),
            marker={"color": COLOURS[number % len(COLOURS)], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9},
        )
    ways = list(dict.fromkeys(rows["way"]))
    figure.update_yaxes(categoryorder="array", categoryarray=ways[::-1], automargin=True)  # the first at the top
    return labelled(figure, "beyond a plain forward pass, % of it", "").update_layout(scattermode="group")


def seconds_per_guess(costs: pd.DataFrame) -> go.Figure:
    """Draw what one guess of the task costs, against the number of tasks among which it is made; both axes logarithmic.

    Args:
        costs: columns `search`, `tasks` and `seconds` (of a guess).
    """
    figure = go.Figure()
    for number, (search, rows) in enumerate(costs.groupby("search", sort=False)):
        figure.add_scatter(
            x=rows["tasks"],
            y=1000 * rows["seconds"],
            mode="lines+markers",
            name=str(search),
            line_color=COLOURS[number % len(COLOURS)],
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8},
        )
    labelled(figure, "tasks to choose from", "milliseconds for one guess, from one image")
    return figure.update_layout(xaxis_type="log", yaxis_type="log")

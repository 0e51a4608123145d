"""Figures of Hopfield Recovery, from data frames to plotly figures (extra `plots`)."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from supsup_methods.reporting.style import (
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    ORANGE,
    VERMILION,
    counted,
    labelled,
    see_through,
)

_RIGHT, _LOST = BLUE, VERMILION


def distance_to_right_mask(steps: pd.DataFrame) -> go.Figure:
    """Draw Figure 7: by layer, the units in which the mask of each step differs from the right one.

    Of several recoveries the median, and where eight in ten of them are; of a single one its way.

    Args:
        steps: columns `seed`, `task`, `step` (from 1), `layer`, `distance` (units).
    """
    return distance_bands(distance_quantiles(steps), several=len(steps[["seed", "task"]].drop_duplicates()) > 1)


def distance_quantiles(steps: pd.DataFrame) -> pd.DataFrame:
    """Return columns `layer`, `step`, `low`, `median` and `high`: of all recoveries, the distance that so many in ten are below.

    Args:
        steps: as of `distance_to_right_mask`; `low` is of one in ten, `high` of nine.
    """
    by_step = steps.groupby(["layer", "step"], sort=False)["distance"]
    shares = {"low": 0.1, "median": 0.5, "high": 0.9}
    return pd.DataFrame({name: by_step.quantile(share) for name, share in shares.items()}).reset_index()


def distance_bands(quantiles: pd.DataFrame, *, several: bool = True) -> go.Figure:
    """Draw what `distance_quantiles` returns: medians, and the band between low and high.

    Args:
        quantiles: columns `layer`, `step`, `low`, `median`, `high`.
        several: whether they are of several recoveries; without, there is no band.
    """
    figure = go.Figure()
    for number, (layer, rows) in enumerate(quantiles.groupby("layer", sort=False)):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        line, step = {"color": colour, "dash": dash}, rows["step"]
        if not several:
            figure.add_scatter(x=step, y=rows["median"], line=line, name=str(layer), showlegend=True)
            continue
        figure.add_scatter(x=step, y=rows["high"], line_width=0, showlegend=False, hoverinfo="skip", legendgroup=layer)
        figure.add_scatter(
            x=step,
            y=rows["low"],
            line_width=0,
            fill="tonexty",
            fillcolor=see_through(colour),
            name=f"{layer}: 10 % to 90 %",
            legendgroup=layer,
        )
        figure.add_scatter(x=step, y=rows["median"], line=line, name=f"{layer}: median", legendgroup=layer)
    figure.update_yaxes(rangemode="tozero")
    labelled(figure, "step of recovery", "units unlike the right mask")
    return counted(figure, int(quantiles["step"].max()))


def recovery_terms(steps: pd.DataFrame, strength: float) -> go.Figure:
    """Draw what one recovery goes down, J = γ (t/T) E + (1 - t/T) H at step t of T (Eq. 7): H and E, and the terms of J.

    Args:
        steps: columns `step` (from 1), `entropy` (H, nats), `energy` (E), `objective` (J), of all steps of one recovery.
        strength: γ.
    """
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.06)
    share = steps["step"] / steps["step"].max()
    lines = (
        (1, "entropy H", steps["entropy"], BLUE, "solid"),
        (2, "energy E", steps["energy"], VERMILION, "solid"),
        (3, "(1 - t/T) H", (1 - share) * steps["entropy"], BLUE, "dash"),
        (3, "γ (t/T) E", strength * share * steps["energy"], VERMILION, "dot"),
        (3, "objective J", steps["objective"], GREY, "solid"),
    )
    for row, name, values, colour, dash in lines:
        figure.add_scatter(x=steps["step"], y=values, name=name, line={"color": colour, "dash": dash}, row=row, col=1)
    for row, title in enumerate(("entropy H, nats", "energy E", "terms of J, nats"), start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(title_text="step of recovery", row=3, col=1)
    return figure.update_layout(height=640, legend={"orientation": "h", "yanchor": "top", "y": -0.1}, margin={"t": 40})


def recovered_accuracy(seeds: pd.DataFrame) -> go.Figure:
    """Draw Figure 8: for each seed the accuracy under the recovered masks, and that under the right ones.

    Args:
        seeds: columns `seed`, `recovered`, `right` (fractions, means over tasks).
    """
    figure = go.Figure()
    for column, colour, symbol in (("right", ORANGE, "circle-open"), ("recovered", BLUE, "x")):
        figure.add_scatter(
            x=seeds["seed"],
            y=100 * seeds[column],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 9},
            name=f"{column} mask",
        )
    return labelled(figure, "seed", "accuracy, % of test images, mean over tasks")


def energy_against_entropy(steps: pd.DataFrame) -> go.Figure:
    """Draw why masks are lost: entropy of the outputs and energy of the reservoir at each step, of masks found and of masks lost.

    Args:
        steps: columns `step` (from 1), `entropy` (nats), `energy`, `recovered` (whether to the last unit).
    """
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.06)
    for recovered, rows in steps.groupby("recovered", sort=False):
        colour, name = (_RIGHT, "recovered") if recovered else (_LOST, "lost")
        for line, column in enumerate(("entropy", "energy"), start=1):
            mean = rows.groupby("step")[column].mean()
            figure.add_scatter(
                x=mean.index,
                y=mean,
                line_color=colour,
                name=name,
                legendgroup=name,
                showlegend=line == 1,
                row=line,
                col=1,
            )
    figure.update_yaxes(title_text="entropy, nats", row=1, col=1)
    figure.update_yaxes(title_text="energy", row=2, col=1)
    return figure.update_xaxes(title_text="step of recovery", row=2, col=1)


def recall_against_stored(shares: pd.DataFrame) -> go.Figure:
    """Draw how many of the stored masks come back from a damaged copy, against how many are stored for each unit.

    Args:
        shares: columns `masks` (trained or random), `rule`, `units`, `stored`, `recalled` (fraction).
    """
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, subplot_titles=("trained", "random"))
    dashes = dict(zip(sorted(shares["units"].unique()), ("dot", "dash", "dashdot", "solid"), strict=False))
    colours = dict(zip(shares["rule"].unique(), COLOURS, strict=False))
    for (masks, rule, units), rows in shares.groupby(["masks", "rule", "units"], sort=False):
        name = f"{rule}, d = {units}"
        figure.add_scatter(
            x=rows["stored"] / rows["units"],
            y=100 * rows["recalled"],
            line={"color": colours[rule], "dash": dashes.get(units, "solid")},
            name=name,
            legendgroup=name,
            showlegend=masks == "trained",
            row=1,
            col=1 if masks == "trained" else 2,
        )
    figure.update_yaxes(title_text="% of stored masks recalled exactly", row=1, col=1)
    return figure.update_xaxes(title_text="stored masks / units")

"""Figures of masks, one while it is trained and many beside each other, from data frames to plotly figures (extra `plots`)."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from supsup_methods.mask_statistics import MaskStatistics
from supsup_methods.reporting.style import COLOURS, DASHES, GREY, SCALE, SYMBOLS, labelled
from supsup_methods.watched_records import BINS, WatchedTraining

Overlap: TypeAlias = Literal["equal", "intersection_over_union"]
"""Columns of `overlap_rows` that `mask_overlap` can draw."""

_OVERLAPS: dict[Overlap, str] = {
    "equal": "% of bits<br>that are equal",
    "intersection_over_union": "intersection<br>/ union, %",
}
_PLACE_OF_0 = 0.5  # on a logarithmic axis of steps


def step_rows(watched: WatchedTraining) -> pd.DataFrame:
    """Return a line for each moment and layer: `step`, `layer`, `weights`, `density`, `unlike_final`, `flipped` (fractions)."""
    parts = [
        pd.DataFrame(
            {
                "step": watched.moments,
                "layer": each.layer,
                "weights": each.weights,
                "density": each.density,
                "unlike_final": each.unlike_final,
                "flipped": each.flipped,
            }
        )
        for each in watched.layers
    ]
    return pd.concat(parts, ignore_index=True)


def loss_rows(watched: WatchedTraining) -> pd.DataFrame:
    """Return a line for each moment: `step`, `loss` (nats, or missing)."""
    return pd.DataFrame({"step": watched.moments, "loss": pd.Series(watched.loss, dtype="float64")})


def score_rows(watched: WatchedTraining, layer: str) -> pd.DataFrame:
    """Return a line for each moment and bin of a layer's scores: `step`, `score` (the bin's middle), `share` (a fraction).

    Raises:
        KeyError: there is no such layer.
    """
    found = {each.layer: each for each in watched.layers}[layer]
    width = 2 * found.score_limit / BINS
    middles = -found.score_limit + width * (np.arange(BINS) + 0.5)
    return pd.DataFrame(
        {
            "step": np.repeat(watched.moments, BINS),
            "score": np.tile(middles, len(watched.moments)),
            "share": np.array(found.scores).ravel() / found.weights,
        }
    )


def overlap_rows(statistics: MaskStatistics) -> pd.DataFrame:
    """Return a line for each ordered pair of different tasks: `task`, `other`, `equal`, `intersection_over_union` (fractions)."""
    tasks = np.array(statistics.tasks)
    rows = pd.DataFrame(
        {
            "task": np.repeat(tasks, len(tasks)),
            "other": np.tile(tasks, len(tasks)),
            "equal": statistics.equal.numpy().ravel(),
            "intersection_over_union": statistics.intersection_over_union.numpy().ravel(),
        }
    )
    return rows[rows["task"] != rows["other"]].reset_index(drop=True)


def density_rows(statistics: MaskStatistics) -> pd.DataFrame:
    """Return a line for each task and layer: `task`, `layer`, `density` (a fraction)."""
    tasks, layers = statistics.tasks, statistics.layers
    return pd.DataFrame(
        {
            "task": np.repeat(tasks, len(layers)),
            "layer": np.tile(layers, len(tasks)),
            "density": statistics.density.numpy().ravel(),
        }
    )


def score_histograms(scores: pd.DataFrame) -> go.Figure:
    """Draw how a layer's scores are spread at each moment, the first one at the top; they turn a threshold mask at 0.

    Colours go by the logarithm: where scores start from earlier masks, most of them are 0, and the others count. A bin without
    scores has none.

    Args:
        scores: columns `step`, `score` (a bin's middle), `share` (a fraction of the layer's scores).
    """
    percent = 100 * scores.pivot_table(index="step", columns="score", values="share")
    powers = np.log10(percent.where(percent > 0))
    ticks = [power for power in range(-6, 3) if powers.min(axis=None) <= power <= powers.max(axis=None)]
    figure = go.Figure()
    figure.add_heatmap(
        x=percent.columns,
        y=[f"{step:,}" for step in percent.index],
        z=powers,
        customdata=percent,
        colorscale=SCALE,
        colorbar={"title": "% of scores", "tickvals": ticks, "ticktext": [f"{10.0**power:g}" for power in ticks]},
        hovertemplate="step %{y}, score %{x:.4f}: %{customdata:.3g} %<extra></extra>",
        hoverongaps=False,
    )
    figure.add_vline(x=0, line_dash="dash", line_color=GREY)
    figure.update_xaxes(showgrid=False).update_yaxes(type="category", autorange="reversed", showgrid=False)
    return labelled(figure, "score S", "training steps")


def mask_convergence(steps: pd.DataFrame) -> go.Figure:
    """Draw the share of bits that are not yet what they are at the end, by layer.

    Args:
        steps: columns `step`, `layer`, `unlike_final` (a fraction).
    """
    return _against_steps(steps, "unlike_final", "bits unlike the final mask (%)")


def bits_turned(steps: pd.DataFrame) -> go.Figure:
    """Draw the share of bits that turned in a step, by layer: of those since the moment before, of which some are far apart.

    Args:
        steps: columns `step`, `layer`, `flipped` (a fraction); step 0, with nothing before it, is left out.
    """
    passed = steps.groupby("layer", sort=False)["step"].diff()
    return _against_steps(steps.assign(rate=steps["flipped"] / passed)[passed > 0], "rate", "bits turned in a step (%)")


def density_while_training(steps: pd.DataFrame) -> go.Figure:
    """Draw the share of ones in the mask, by layer.

    Args:
        steps: columns `step`, `layer`, `density` (a fraction).
    """
    figure = _against_steps(steps, "density", "ones in the mask (%)")
    return figure.update_yaxes(rangemode="normal")


def loss_while_training(losses: pd.DataFrame) -> go.Figure:
    """Draw the loss of the batch at hand.

    Args:
        losses: columns `step`, `loss` (nats, or missing).
    """
    figure = go.Figure()
    figure.add_scatter(
        x=_places(losses["step"]),
        y=losses["loss"],
        customdata=losses["step"],
        mode="lines+markers",
        line_color=COLOURS[0],
        hovertemplate="step %{customdata:,}: %{y:.4f} nats<extra></extra>",
    )
    figure.update_yaxes(rangemode="tozero")
    return _step_axis(labelled(figure, "training steps (log scale, and 0)", "loss of the batch (nats)"), losses["step"])


def mask_overlap(pairs: pd.DataFrame, measure: Overlap = "equal", noun: str = "task") -> go.Figure:
    """Draw what the masks of each two tasks have in common, as a heat map; a mask and itself are left out.

    Args:
        pairs: columns `task`, `other`, and the measure's (a fraction).
        measure: `equal` for the share of equal bits, `intersection_over_union` for that of the ones.
        noun: what a mask belongs to: a mask is its own where it is no task's (NNs).
    """
    table = pairs.pivot_table(index="task", columns="other", values=measure)
    figure = go.Figure()
    figure.add_heatmap(
        x=[str(task) for task in table.columns],
        y=[str(task) for task in table.index],
        z=100 * table,
        colorscale=SCALE,
        colorbar_title=_OVERLAPS[measure],
        hovertemplate=f"{noun}s %{{y}} and %{{x}}: %{{z:.2f}} %<extra></extra>",
        hoverongaps=False,
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return labelled(figure, noun, noun).update_layout(height=560)


def mask_density(rows: pd.DataFrame, noun: str = "task") -> go.Figure:
    """Draw the share of ones of each mask in each layer, as a heat map.

    Args:
        rows: columns `task`, `layer`, `density` (a fraction).
        noun: as for `mask_overlap`.
    """
    layers = list(dict.fromkeys(rows["layer"]))
    table = rows.pivot_table(index="layer", columns="task", values="density").loc[layers]
    figure = go.Figure()
    figure.add_heatmap(
        x=[str(task) for task in table.columns],
        y=layers,
        z=100 * table,
        colorscale=SCALE,
        colorbar_title="% ones",
        hovertemplate=f"{noun} %{{x}}, %{{y}}: %{{z:.2f}} %<extra></extra>",
    )
    figure.update_xaxes(type="category").update_yaxes(type="category", autorange="reversed")
    return labelled(figure, noun, "layer").update_layout(height=max(280, 140 + 24 * len(layers)))


def _against_steps(steps: pd.DataFrame, column: str, title: str) -> go.Figure:
    """Draw a column, fractions that are shown in percent, against the step, with a line for each layer."""
    figure = go.Figure()
    for number, (layer, rows) in enumerate(steps.groupby("layer", sort=False)):
        figure.add_scatter(
            x=_places(rows["step"]),
            y=100 * rows[column],
            customdata=rows["step"],
            name=str(layer),
            mode="lines+markers",
            line={"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)]},
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7},
            hovertemplate="step %{customdata:,}: %{y:.2f} %",
        )
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(showlegend=True)
    return _step_axis(labelled(figure, "training steps (log scale, and 0)", title), steps["step"])


def _places(steps: pd.Series) -> list[float]:
    """Return where steps are on the axis: 0 has no logarithm, and stands left of 1."""
    return [float(step) or _PLACE_OF_0 for step in steps]


def _step_axis(figure: go.Figure, steps: Sequence[int] | pd.Series) -> go.Figure:
    """Return the figure with 0, 1, 10, 100, ... on its axis of steps."""
    powers = [10**power for power in range(len(str(max(steps))))]
    return figure.update_xaxes(
        type="log", tickvals=[_PLACE_OF_0, *powers], ticktext=["0", *(f"{power:,}" for power in powers)]
    )

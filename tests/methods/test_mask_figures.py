"""Figures of masks: what is drawn is what was counted, and every axis says its unit."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from supsup_core.hopfield import Reservoir, hebb
from supsup_core.hopfield_recovery import Recovery, RecoverySettings
from supsup_methods.mask_statistics import MaskStatistics
from supsup_methods.reporting import mask_figures as figures
from supsup_methods.reporting.hopfield_figures import distance_to_right_mask, recovery_terms
from supsup_methods.watched_records import BINS, WatchedLayer, WatchedTraining

HALF = BINS // 2


def counts(*places):
    """Return a histogram with a score in each of these bins."""
    return tuple(int(np.sum(np.array(places) == number)) for number in range(BINS))


LAYER = WatchedLayer(
    "a.weight",
    weights=4,
    score_limit=3.2,  # bins of a tenth
    scores=(counts(0, HALF, HALF, HALF + 1), counts(0, 0, 0, BINS - 1), counts(HALF, HALF, HALF, HALF)),
    density=(0.75, 0.25, 1.0),
    unlike_final=(0.25, 0.75, 0.0),
    flipped=(0.0, 0.5, 0.75),
)
WATCHED = WatchedTraining(
    task=1,
    moments=(0, 1, 100),
    loss=(2.5, None, 0.5),
    layers=(LAYER, dataclasses.replace(LAYER, layer="b.weight", density=(0.5, 0.5, 0.5))),
    bits=8,
    bits_unlike_run=0,
    statistics_as_run=True,
    unlike_run=(),
    machine="abacus",
    seconds=1.0,
)
STATISTICS = MaskStatistics(
    (0, 25, 50),
    ("a.weight", "b.weight"),
    (4, 6),
    torch.tensor([[1, 3], [2, 0], [4, 6]]),
    torch.tensor([[4, 1, 4], [1, 2, 2], [4, 2, 10]]),
)


def axis_titles(figure):
    return figure.layout.xaxis.title.text, figure.layout.yaxis.title.text


def test_moments_become_rows():
    rows = figures.step_rows(WATCHED)
    assert list(rows.columns) == ["step", "layer", "weights", "density", "unlike_final", "flipped"]
    assert rows[rows["layer"] == "a.weight"]["density"].tolist() == [0.75, 0.25, 1.0]
    assert rows[rows["step"] == 100]["layer"].tolist() == ["a.weight", "b.weight"]
    losses = figures.loss_rows(WATCHED)
    assert losses["step"].tolist() == [0, 1, 100]
    assert losses["loss"].tolist()[::2] == [2.5, 0.5]
    assert np.isnan(losses["loss"][1])


def test_scores_become_shares_at_the_middles_of_bins():
    rows = figures.score_rows(WATCHED, "a.weight")
    assert len(rows) == 3 * BINS
    some = rows[rows["share"] > 0]
    expected = [
        (0, -3.15, 0.25), (0, 0.05, 0.5), (0, 0.15, 0.25),
        (1, -3.15, 0.75), (1, 3.15, 0.25),
        (100, 0.05, 1.0),
    ]  # fmt: skip
    for row, (step, score, share) in zip(some.itertuples(), expected, strict=True):
        assert (row.step, row.share) == (step, share)
        assert row.score == pytest.approx(score)
    with pytest.raises(KeyError):
        figures.score_rows(WATCHED, "c.weight")


def test_scores_are_drawn_moment_by_moment_in_percent():
    figure = figures.score_histograms(figures.score_rows(WATCHED, "a.weight"))
    (heat,) = figure.data
    assert list(heat.y) == ["0", "1", "100"]
    assert len(heat.x) == BINS
    percent = np.array(heat.customdata)
    assert percent.shape == (3, BINS)
    assert percent[:, HALF].tolist() == [50.0, 0.0, 100.0]
    assert percent.sum(axis=1).tolist() == [100.0, 100.0, 100.0]
    z = np.array(heat.z)
    assert z[0, HALF] == pytest.approx(np.log10(50))
    assert np.array_equal(np.isnan(z), percent == 0), "bins without scores have no colour"
    assert list(heat.colorbar.ticktext) == ["100"], "the powers of ten between 25 and 100"
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.shapes[0].x0 == 0
    assert axis_titles(figure) == ("score S", "training steps")


@pytest.mark.parametrize(
    ("draw", "expected", "title"),
    [
        (figures.mask_convergence, [25.0, 75.0, 0.0], "bits unlike the final mask (%)"),
        (figures.density_while_training, [75.0, 25.0, 100.0], "ones in the mask (%)"),
    ],
)
def test_shares_are_drawn_by_layer_in_percent_with_step_0_on_the_axis(draw, expected, title):
    figure = draw(figures.step_rows(WATCHED))
    first, second = figure.data
    assert (first.name, second.name) == ("a.weight", "b.weight")
    assert list(first.y) == expected
    assert list(first.customdata) == [0, 1, 100]
    assert list(first.x) == [0.5, 1, 100], "0 has no logarithm"
    axis = figure.layout.xaxis
    assert axis.type == "log"
    assert (list(axis.tickvals), list(axis.ticktext)) == ([0.5, 1, 10, 100], ["0", "1", "10", "100"])
    assert axis_titles(figure) == ("training steps (log scale, and 0)", title)


def test_bits_that_turned_begin_with_the_second_moment():
    first, _ = figures.bits_turned(figures.step_rows(WATCHED)).data
    assert list(first.x) == [1, 100]
    assert list(first.y) == pytest.approx([50.0, 75.0 / 99]), "of each step since the moment before"


def test_the_loss_is_drawn_in_nats():
    figure = figures.loss_while_training(figures.loss_rows(WATCHED))
    (line,) = figure.data
    assert list(line.y)[::2] == [2.5, 0.5]
    assert axis_titles(figure) == ("training steps (log scale, and 0)", "loss of the batch (nats)")


def test_many_layers_can_be_told_apart():
    layers = tuple(dataclasses.replace(LAYER, layer=f"{number}.weight") for number in range(30))
    lines = figures.mask_convergence(figures.step_rows(dataclasses.replace(WATCHED, layers=layers))).data
    assert len({(line.line.color, line.line.dash, line.marker.symbol) for line in lines}) == 30


def test_pairs_and_densities_become_rows():
    pairs = figures.overlap_rows(STATISTICS)
    assert len(pairs) == 6, "a mask and itself are no pair"
    pair = pairs[(pairs["task"] == 0) & (pairs["other"] == 25)].iloc[0]
    assert pair["equal"] == pytest.approx(1 - (4 + 2 - 2) / 10)
    assert pair["intersection_over_union"] == pytest.approx(1 / 5)
    rows = figures.density_rows(STATISTICS)
    assert rows.to_dict("records")[:2] == [
        {"task": 0, "layer": "a.weight", "density": 0.25},
        {"task": 0, "layer": "b.weight", "density": 0.5},
    ]
    assert rows[rows["task"] == 50]["density"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("measure", "value"), [("equal", 60.0), ("intersection_over_union", 20.0)])
def test_overlap_is_a_square_with_nothing_on_its_diagonal(measure, value):
    figure = figures.mask_overlap(figures.overlap_rows(STATISTICS), measure)
    (heat,) = figure.data
    assert list(heat.x) == list(heat.y) == ["0", "25", "50"]
    z = np.array(heat.z, dtype=float)
    assert np.isnan(z.diagonal()).all()
    assert z[0, 1] == pytest.approx(value)
    assert np.array_equal(z, z.T, equal_nan=True)
    assert figure.layout.xaxis.type == "category", "tasks at uneven distances are as wide as others"
    assert axis_titles(figure) == ("task", "task")


def test_density_has_a_line_for_each_layer_in_the_networks_order():
    statistics = dataclasses.replace(STATISTICS, layers=("z.weight", "b.weight"))
    (heat,) = figures.mask_density(figures.density_rows(statistics)).data
    assert list(heat.y) == ["z.weight", "b.weight"]
    assert list(heat.x) == ["0", "25", "50"]
    assert np.array(heat.z).tolist() == [[25.0, 50.0, 100.0], [50.0, 0.0, 100.0]]


def test_masks_that_are_no_tasks_are_called_masks():
    overlap = figures.mask_overlap(figures.overlap_rows(STATISTICS), "equal", "mask")
    density = figures.mask_density(figures.density_rows(STATISTICS), "mask")
    assert (axis_titles(overlap), axis_titles(density)) == (("mask", "mask"), ("mask", "layer"))
    for figure in (overlap, density):
        assert "task" not in figure.data[0].hovertemplate


def test_a_single_recovery_is_drawn_as_it_was():
    steps = pd.DataFrame(
        {"seed": 0, "task": 2, "step": [1, 2, 1, 2], "layer": ["a", "a", "b", "b"], "distance": [9, 0, 4, 1]}
    )
    lines = distance_to_right_mask(steps).data
    assert [(line.name, list(line.x), list(line.y)) for line in lines] == [
        ("a", [1, 2], [9, 0]),
        ("b", [1, 2], [4, 1]),
    ]


def test_the_terms_of_a_real_recovery_add_up_to_its_objective():
    pattern = {"a": torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0])}
    reservoir = Reservoir.empty({"a": 6}).store({"a": pattern["a"] > 0}, hebb)
    settings = RecoverySettings(strength=0.25, learning_rate=0.1)
    recovery = Recovery(reservoir, 5, settings)
    taken = [recovery.step(lambda strings: (strings["a"] - 0.25).square().sum()) for _ in range(5)]
    rows = pd.DataFrame(
        {
            "step": range(1, 6),
            "entropy": [step.entropy for step in taken],
            "energy": [step.energy for step in taken],
            "objective": [step.objective for step in taken],
        }
    )
    figure = recovery_terms(rows, 0.25)
    lines = {line.name: np.array(line.y) for line in figure.data}
    assert list(lines) == ["entropy H", "energy E", "(1 - t/T) H", "γ (t/T) E", "objective J"]
    assert lines["entropy H"].tolist() == rows["entropy"].tolist()
    # The recovery adds in float32.
    assert lines["(1 - t/T) H"] + lines["γ (t/T) E"] == pytest.approx(lines["objective J"], rel=1e-6, abs=1e-6)
    assert figure.layout.yaxis.title.text == "entropy H, nats"
    assert figure.layout.xaxis3.title.text == "step of recovery"


def test_no_figure_has_a_colour_that_a_page_may_have():
    drawn = [
        figures.score_histograms(figures.score_rows(WATCHED, "a.weight")),
        figures.mask_convergence(figures.step_rows(WATCHED)),
        figures.loss_while_training(figures.loss_rows(WATCHED)),
        figures.mask_overlap(figures.overlap_rows(STATISTICS)),
        figures.mask_density(figures.density_rows(STATISTICS)),
    ]
    for figure in drawn:
        drawing = figure.to_plotly_json()
        del drawing["layout"]["template"]  # the page's own takes its place
        text = str(drawing).replace("'", '"').lower()
        for colour in ('"black"', '"white"', "#000000", "#ffffff", '#000"', '#fff"'):
            assert colour not in text
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None

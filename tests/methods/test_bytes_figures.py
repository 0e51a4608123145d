import pandas as pd
import pytest
from supsup_methods.reporting.bytes_figures import bytes_by_part, density_by_layer, overhead_of_masks, seconds_per_guess


def test_parts_of_a_form_are_stacked_in_bytes():
    parts = pd.DataFrame(
        {"form": ["packed", "coded", "coded"], "part": ["masks", "masks", "manifest"], "bytes": [100, 40, 5]}
    )
    figure = bytes_by_part(parts)
    masks, manifest = figure.data
    assert (masks.name, list(masks.y), list(masks.x)) == ("masks", ["packed", "coded"], [100, 40])
    assert (manifest.name, list(manifest.y), list(manifest.x)) == ("manifest", ["coded"], [5])
    assert figure.layout.barmode == "stack"
    assert figure.layout.xaxis.title.text == "bytes"


def test_densities_are_percent_with_the_least_and_the_most():
    (points,) = density_by_layer(
        pd.DataFrame({"layer": ["a", "b"], "least": [0.4, 0.1], "mean": [0.5, 0.1], "most": [0.7, 0.1]})
    ).data
    assert list(points.x) == [50.0, 10.0]
    assert list(points.error_x.array) == pytest.approx([20.0, 0.0])
    assert list(points.error_x.arrayminus) == pytest.approx([10.0, 0.0])


def test_costs_are_milliseconds_on_logarithmic_axes():
    figure = seconds_per_guess(
        pd.DataFrame({"search": ["s", "s", "t"], "tasks": [1, 2, 2], "seconds": [0.001, 0.002, 1]})
    )
    first, second = figure.data
    assert (list(first.x), list(first.y)) == ([1, 2], [1.0, 2.0])
    assert list(second.y) == [1000.0]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")


def test_overheads_are_points_with_quartiles_beside_the_papers_estimate():
    figure = overhead_of_masks(
        pd.DataFrame(
            {
                "images": [1, 1, 1, 16],
                "masks": ["", "half", "half", "half"],
                "way": ["plain", "switch", "masked", "switch"],
                "overhead": [0.0, 5.0, -1.0, 0.5],
                "low": [-2.0, 4.0, -3.0, 0.25],
                "high": [1.0, 8.0, 0.0, 1.0],
            }
        ),
        1.0,
        3.0,
    )
    plain, one, sixteen = figure.data
    assert [trace.name for trace in figure.data] == ["1 image", "1 image, half", "16 images, half"]
    assert (list(one.y), list(one.x)) == (["switch", "masked"], [5.0, -1.0])
    assert (list(one.error_x.array), list(one.error_x.arrayminus)) == ([3.0, 1.0], [1.0, 2.0])
    assert len({plain.offsetgroup, one.offsetgroup, sixteen.offsetgroup}) == 3
    assert list(figure.layout.yaxis.categoryarray) == ["masked", "switch", "plain"]
    band, line = figure.layout.shapes
    assert (band.x0, band.x1, line.x0) == (0, 3.0, 1.0)
    assert figure.layout.annotations[0].text == "paper: 1 %, at most 3 %"

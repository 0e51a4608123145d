import math

import numpy as np
import pandas as pd
import pytest
from supsup_methods.reporting.inference_figures import (
    Marked,
    beliefs_by_round,
    entropy_of_outputs,
    likeliest_tasks,
    slopes_of_tasks,
)
from supsup_methods.reporting.style import GREEN, GREY, VERMILION

# Binary over five tasks: 5, then 1, 2 and then 2 alone.
BELIEFS = pd.DataFrame(
    [(1, task, 0.2) for task in range(5)]
    + [(2, task, 0.5 if task in (1, 2) else 0.0) for task in range(5)]
    + [(3, task, float(task == 2)) for task in range(5)],
    columns=["round", "task", "belief"],
)
SLOPES = pd.DataFrame(
    [(1, task, slope, True) for task, slope in enumerate([0.5, -1.0, -0.9, 0.1, -0.2])]
    + [(2, task, slope, task in (1, 2)) for task, slope in enumerate([9.0, -0.3, -0.7, -9.0, 3.0])],
    columns=["round", "task", "slope", "left"],
)
MARKED = Marked(answer=2, right=(4,))


def named(figure):
    return {trace.name: trace for trace in figure.data}


def titles(figure):
    return figure.layout.xaxis.title.text, figure.layout.yaxis.title.text


def test_a_task_that_stands_out_says_why():
    assert [MARKED.name(task) for task in (1, 2, 4)] == ["1", "2 (answer)", "4 (true)"]
    assert Marked(3, (3, 5)).name(3) == "3 (answer, true)"


def test_the_likeliest_stayed_longest_and_then_had_the_lowest_slope():
    nobody = Marked(answer=2)
    assert likeliest_tasks(SLOPES, nobody, 2) == [1, 2], "2 and 1 were in the last round"
    assert likeliest_tasks(SLOPES, nobody, 3) == [1, 2, 4], "of those that went first, 4 had the lowest slope: -0.2"
    assert likeliest_tasks(SLOPES, nobody, 4) == [1, 2, 3, 4]
    assert likeliest_tasks(SLOPES, nobody) == [0, 1, 2, 3, 4]


def test_the_answer_and_what_would_be_right_are_always_among_the_likeliest():
    assert likeliest_tasks(SLOPES, Marked(2, (0,)), 2) == [0, 2]
    assert likeliest_tasks(SLOPES, Marked(2, (0, 3)), 2) == [2, 3], "of those that would be right, the likeliest"
    assert likeliest_tasks(SLOPES, Marked(2, (2,)), 2) == [1, 2]


def test_beliefs_are_drawn_round_by_round_and_who_is_out_is_left_empty():
    figure = beliefs_by_round(BELIEFS, range(5), MARKED)
    (cells,) = figure.data
    assert list(cells.x) == ["0", "1", "2 (answer)", "3", "4 (true)"]
    assert list(cells.y) == ["round 1", "round 2", "answer"]
    low, half = math.log10(0.2), math.log10(0.5)
    assert [list(row) for row in cells.z] == [
        pytest.approx([low] * 5),
        [None, pytest.approx(half), pytest.approx(half), None, None],
        [None, None, 0.0, None, None],
    ]
    assert [list(row) for row in cells.text] == [["1/5"] * 5, ["", "1/2", "1/2", "", ""], ["", "", "1", "", ""]]
    assert cells.texttemplate == "%{text}"
    assert list(cells.colorbar.ticktext) == ["1/5", "1/2", "1"]
    assert list(cells.colorbar.tickvals) == pytest.approx([low, half, 0.0])
    assert (cells.zmin, cells.zmax) == (pytest.approx(low), 0)
    assert titles(figure) == ("task", "before round")
    assert figure.layout.yaxis.autorange == "reversed", "the first round is on top"


def test_of_many_tasks_the_likeliest_are_drawn_and_the_others_counted():
    tasks, rounds = 2500, 12
    beliefs = pd.DataFrame(
        [
            (number, task, 1 / (tasks >> number - 1) if task < tasks >> number - 1 else 0.0)
            for number in range(1, rounds + 1)
            for task in range(tasks)
        ],
        columns=["round", "task", "belief"],
    )
    slopes = beliefs.assign(slope=beliefs["task"].astype(float), left=beliefs["belief"] > 0)
    shown = likeliest_tasks(slopes[slopes["round"] < rounds], Marked(0, (2499,)))
    assert shown == [*range(29), 2499]
    figure = beliefs_by_round(beliefs, shown, Marked(0, (2499,), "mask"))
    (cells,) = figure.data
    assert (len(cells.z), len(cells.z[0])) == (12, 30)
    assert list(cells.x)[-1] == "2499 (true)"
    assert cells.z[0][29] == pytest.approx(-math.log10(2500))
    assert cells.z[1][29] is None
    assert cells.texttemplate is None, "thirty columns leave no room for numbers"
    assert titles(figure)[0] == "mask, the 30 likeliest; 2,470 others are not shown"
    assert cells.colorbar.ticktext[0] == "1/2,500"
    assert len(cells.colorbar.ticktext) <= 8


def test_a_single_task_is_drawn():
    beliefs = pd.DataFrame({"round": [1, 2], "task": [0, 0], "belief": [1.0, 1.0]})
    (cells,) = beliefs_by_round(beliefs, [0], Marked(0)).data
    assert [list(row) for row in cells.z] == [[0.0], [0.0]]
    assert cells.zmin < cells.zmax


def test_slopes_of_a_round_show_who_is_left_and_who_is_right():
    figure = slopes_of_tasks(SLOPES[SLOPES["round"] == 2], MARKED, "G")
    traces = named(figure)
    assert list(traces) == ["out before", "left", "true task", "answer"]
    assert (list(traces["left"].x), list(traces["left"].y)) == ([1, 2], [-0.3, -0.7])
    assert (list(traces["out before"].x), list(traces["out before"].y)) == ([0, 3, 4], [9.0, -9.0, 3.0])
    assert (list(traces["answer"].x), list(traces["answer"].y)) == ([2], [-0.7])
    assert (list(traces["true task"].x), list(traces["true task"].y)) == ([4], [3.0])
    assert traces["answer"].marker.color == VERMILION
    assert traces["true task"].marker.color == GREEN
    symbols = {trace.marker.symbol for trace in figure.data}
    assert len(symbols) == 4, "they can be told apart without colours"
    assert titles(figure) == ("task", "slope dG/dα, nats for each unit of belief")


def test_in_the_first_round_nobody_is_out():
    assert list(named(slopes_of_tasks(SLOPES[SLOPES["round"] == 1], Marked(2)))) == ["left", "answer"]


def test_entropies_stand_below_that_of_equal_outputs():
    entropies = pd.DataFrame({"task": [0, 1, 2], "entropy": [1.5, 0.1, 0.2]})
    figure = entropy_of_outputs(entropies, Marked(2, (0, 1), "mask"), outputs=100)
    traces = named(figure)
    assert (list(traces["entropy"].x), list(traces["entropy"].y)) == ([0, 1, 2], [1.5, 0.1, 0.2])
    assert list(traces["true mask"].x) == [0, 1], "several masks may be right"
    assert list(traces["answer"].y) == [0.2]
    (line,) = figure.layout.shapes
    assert line.y0 == line.y1 == pytest.approx(math.log(100))
    assert line.line.color == GREY
    assert titles(figure) == ("mask", "entropy of the output, nats")
    assert figure.layout.yaxis.rangemode == "tozero"


def test_of_thousands_all_are_one_line_and_the_lowest_are_points():
    values = np.random.default_rng(0).permutation(2500) / 2500
    slopes = pd.DataFrame({"round": 1, "task": range(2500), "slope": values, "left": True})
    entropies = pd.DataFrame({"task": range(2500), "entropy": values})
    lowest = values.argsort()[:30].tolist()
    answer = lowest[0]
    for figure, name in (
        (slopes_of_tasks(slopes, Marked(answer)), "left"),
        (entropy_of_outputs(entropies, Marked(answer), 100), "entropy"),
    ):
        traces = named(figure)
        assert list(traces) == [name, f"{name}, the 30 lowest", "answer"]
        assert traces[name].mode == "lines"
        assert list(traces[name].y) == values.tolist()
        assert list(traces[f"{name}, the 30 lowest"].x) == lowest
        assert traces[f"{name}, the 30 lowest"].mode == "markers"


@pytest.mark.parametrize(
    "figure",
    [
        beliefs_by_round(BELIEFS, range(5), MARKED),
        slopes_of_tasks(SLOPES, MARKED),
        entropy_of_outputs(pd.DataFrame({"task": [2], "entropy": [0.1]}), MARKED, 10),
    ],
    ids=["beliefs", "slopes", "entropies"],
)
def test_figures_are_readable_on_light_and_dark(figure):
    drawn = str({**figure.to_dict(), "layout": {**figure.to_dict()["layout"], "template": None}}).lower()
    for fixed in ("black", "white", "#000", "#fff", "paper_bgcolor", "plot_bgcolor"):
        assert fixed not in drawn

import pandas as pd
import plotly.graph_objects as go
import pytest
from supsup_methods.reporting.style import COLOURS, GREY, counted
from supsup_methods.reporting.table_figures import (
    accuracy_against_bytes,
    accuracy_against_share,
    accuracy_against_tasks,
    learning_curves,
    values_beside_paper,
)


def test_runs_have_their_own_colours_and_the_paper_that_of_the_run_it_is_like():
    runs = pd.DataFrame({"run": ["a", "a", "b"], "tasks": [1, 10, 10], "accuracy": [95.0, 90.0, 80.0]})
    paper = pd.DataFrame(
        {
            "row": ["SupSup", "SupSup", "PSP"],
            "tasks": [10, 50, 10],
            "accuracy": [93.6, 93.7, 94.8],
            "like": ["b", "b", None],
        }
    )
    supsup, psp, a, b = learning_curves(runs, paper).data
    assert [trace.name for trace in (supsup, psp, a, b)] == ["paper: SupSup", "paper: PSP", "a", "b"]
    assert (list(supsup.x), list(supsup.y)) == ([10, 50], [93.6, 93.7])
    assert (list(a.x), list(a.y)) == ([1, 10], [95.0, 90.0])
    assert supsup.line.color == b.line.color == COLOURS[1]
    assert psp.line.color == GREY
    assert supsup.line.dash != "solid"
    assert supsup.marker.symbol.endswith("-open")


def test_without_runs_the_papers_curves_are_there_alone():
    runs = pd.DataFrame(columns=["run", "tasks", "accuracy"])
    paper = pd.DataFrame({"row": ["PSP"], "tasks": [10], "accuracy": [94.8], "like": [None]})
    (psp,) = learning_curves(runs, paper).data
    assert psp.name == "paper: PSP"


def test_a_row_that_the_paper_lacks_has_no_entry_for_it_in_the_legend():
    lines = pd.DataFrame({"row": ["a"], "tasks": [10], "accuracy": [50.0], "paper": [None]})
    paper, _ = accuracy_against_tasks(lines).data
    assert paper.showlegend is False


def test_values_stand_in_the_order_of_their_rows_with_the_papers_beside_them():
    rows = pd.DataFrame(
        {"row": ["b", "b", "a"], "value": [10.0, 14.0, 5.0], "paper": [11.0, 11.0, float("nan")]},
    )
    figure = values_beside_paper(rows, "%")
    paper, ours = figure.data
    assert (list(paper.x), list(paper.y)) == ([11.0], ["b"])
    assert (list(ours.x), list(ours.y)) == ([12.0, 5.0], ["b", "a"])
    assert list(ours.error_x.array) == [8.0**0.5, 0.0]
    assert figure.layout.xaxis.title.text == "%"
    assert list(figure.layout.yaxis.categoryarray) == ["a", "b"], "axes go up, and the first row is at the top"


def test_points_of_a_row_of_the_paper_are_joined_by_bytes():
    ours = pd.DataFrame({"row": ["mine"], "bytes": [7.0], "accuracy": [60.0]})
    paper = pd.DataFrame({"row": ["S", "S", "U"], "bytes": [20, 10, 99], "accuracy": [80.0, 70.0, 90.0]})
    supsup, upper, mine = accuracy_against_bytes(ours, paper).data
    assert (supsup.name, list(supsup.x), list(supsup.y)) == ("paper: S", [10, 20], [70.0, 80.0])
    assert (upper.name, list(upper.x)) == ("paper: U", [99])
    assert (list(mine.x), list(mine.y)) == ([7.0], [60.0])


SHARES = pd.DataFrame(
    {
        "share": [0.1, 0.1, 0.3, 0.5],
        "search": ["One-Shot", "One-Shot", "γ = 0.3", "Binary"],
        "accuracy": [80.0, 90.0, 88.0, 95.0],
        "task inferred right": [81.0, 93.0, 90.0, 100.0],
    }
)


def test_the_ends_of_the_curve_over_gamma_are_named():
    accuracy, right = accuracy_against_share(SHARES).data
    assert (list(accuracy.x), list(accuracy.y)) == ([0.1, 0.3, 0.5], [85.0, 88.0, 95.0])
    assert list(accuracy.text) == ["One-Shot", "", "Binary"]
    assert (right.name, list(right.y)) == ("tasks inferred right", [87.0, 90.0, 100.0])
    (alone,) = accuracy_against_share(SHARES.drop(columns="task inferred right")).data
    assert alone.name == "accuracy"


@pytest.mark.parametrize(("largest", "step"), [(4, 1), (10, 1), (11, None)])
def test_a_count_has_whole_ticks(largest, step):
    assert counted(go.Figure(), largest).layout.xaxis.dtick == step

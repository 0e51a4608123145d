import pandas as pd
import pytest
from supsup_methods.reporting.confusion_figures import FEW, confused, task_confusion


def guesses(*lines):
    return pd.DataFrame(lines, columns=["task", "guessed", "batches"])


def test_few_tasks_are_a_heat_map_of_shares():
    (table,) = task_confusion(guesses((0, 0, 6), (0, 2, 2), (1, 1, 8), (2, 0, 8)), 3).data
    assert table.type == "heatmap"
    assert [list(row) for row in table.z] == [[75.0, 0.0, 25.0], [0.0, 100.0, 0.0], [100.0, 0.0, 0.0]]
    assert (list(table.x), list(table.y)) == ([0, 1, 2], [0, 1, 2])


def test_many_tasks_are_points_off_the_diagonal_drawn_by_webgl():
    lines = [(task, task, 9) for task in range(2500)]
    figure = task_confusion(guesses(*lines, (3, 2400, 1), (2000, 17, 27)), 2500)
    (points,) = figure.data
    assert points.type == "scattergl"
    assert (list(points.x), list(points.y)) == ([2400, 17], [3, 2000])
    assert list(points.marker.color) == pytest.approx([10.0, 75.0])
    assert figure.layout.xaxis.range == (-0.5, 2499.5)


def test_where_masks_are_no_tasks_no_guess_is_left_out_and_all_masks_have_a_column():
    many = FEW + 1
    (points,) = task_confusion(guesses(*((task, task, 1) for task in range(many))), many, masks=True).data
    assert len(points.x) == many
    figure = task_confusion(guesses((0, 4, 1), (1, 0, 1)), 2, masks=True)
    assert list(figure.data[0].x) == [0, 1, 2, 3, 4]
    assert list(task_confusion(guesses((0, 0, 1), (1, 1, 1), (2, 0, 1)), 3, masks=True).data[0].x) == [0, 1]
    assert figure.layout.xaxis.title.text == "mask guessed"


def test_no_guess_of_many_tasks_is_an_empty_figure():
    (points,) = task_confusion(guesses(), 100).data
    assert points.x is None or len(points.x) == 0


def test_the_confused_pairs_begin_with_the_most_batches():
    found = confused(guesses((0, 0, 5), (0, 1, 1), (1, 0, 3), (2, 1, 1)))
    assert found.to_dict("list") == {"task": [1, 0, 2], "guessed": [0, 1, 1], "batches": [3, 1, 1]}

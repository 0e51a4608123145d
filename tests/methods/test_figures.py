import pandas as pd
from supsup_methods.reporting.figures import task_accuracy


def test_accuracy_and_inference_are_drawn_in_percent():
    scores = pd.DataFrame({"task": [0, 1], "accuracy": [0.5, 0.9], "task inferred right": [1.0, 0.25]})
    accuracy, inferred = task_accuracy(scores).data
    assert (accuracy.name, list(accuracy.x), list(accuracy.y)) == ("accuracy", [0, 1], [50.0, 90.0])
    assert (inferred.name, list(inferred.y)) == ("task inferred right", [100.0, 25.0])


def test_a_given_task_has_no_inference_curve():
    scores = pd.DataFrame({"task": [0], "accuracy": [0.5], "task inferred right": [None]})
    assert [curve.name for curve in task_accuracy(scores).data] == ["accuracy"]

import pandas as pd
import pytest
import torch
from supsup_core import ByteLedger
from supsup_methods.byte_accounts import LayerDensity, MaskAccount, PaperBytes
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.mask_bookkeeping import Stretch
from supsup_methods.reporting.confusion_figures import task_confusion
from supsup_methods.reporting.figures import MANY, task_accuracy
from supsup_methods.reporting.stream_figures import decisions_along_stream, masks_along_stream
from supsup_methods.run_folder import Progress, RunFolder
from supsup_methods.run_frames import (
    byte_rows,
    decision_rows,
    density_rows,
    read_stretches,
    stretch_rows,
    task_tests,
)

A, B = TaskScore(0, 100, 90, 4, 3, {0: 3, 1: 1}), TaskScore(1, 100, 80, 4, 4, {1: 4})
FIRST = {0: TaskScore(0, 100, 95, 4, 4, {0: 4}), 1: TaskScore(1, 100, 80, 4, 4, {1: 4})}
PROGRESS = Progress({0: 1.0, 1: 1.0}, [Checkpoint(1, (FIRST[0],), 0.5), Checkpoint(2, (A, B), 1.0)], FIRST)


def test_tests_of_a_run_become_rows_by_checkpoint():
    found = task_tests(PROGRESS)
    assert found.checkpoints["tasks"].tolist() == [1, 2]
    assert found.checkpoints["accuracy"].tolist() == pytest.approx([0.95, 0.85])
    assert found.checkpoints["task inferred right"].tolist() == pytest.approx([1.0, 7 / 8])
    assert found.checkpoints["forgetting"].tolist() == pytest.approx([float("nan"), 0.05], nan_ok=True)
    assert found.checkpoints["backward transfer"].tolist() == pytest.approx([float("nan"), -0.05], nan_ok=True)
    second = found.at(2)
    assert second["accuracy"].tolist() == [0.9, 0.8]
    assert second["accuracy when just learned"].tolist() == [0.95, 0.8]
    assert second["task inferred right"].tolist() == [0.75, 1.0]
    assert found.guesses_at(2).to_numpy().tolist() == [[0, 0, 3], [0, 1, 1], [1, 1, 4]]
    (table,) = task_confusion(found.guesses_at(2), 2).data
    assert [list(row) for row in table.z] == [[75.0, 25.0], [0.0, 100.0]]


def test_a_run_without_a_checkpoint_has_its_first_tests():
    rows = task_tests(Progress({0: 1.0}, [], {0: FIRST[0]})).at(None)
    assert [trace.name for trace in task_accuracy(rows).data] == ["accuracy when just learned"]
    assert list(task_accuracy(rows).data[0].y) == [95.0]
    nothing = task_tests(Progress({}, []))
    assert nothing.checkpoints.empty
    assert nothing.first.empty


def test_a_task_that_was_given_has_no_share_of_right_guesses():
    given = task_tests(Progress({}, [Checkpoint(1, (TaskScore(0, 10, 9, 0, 0),), 1.0)]))
    assert given.checkpoints["task inferred right"].isna().all()
    assert given.guesses.empty
    assert [trace.name for trace in task_accuracy(given.at(1)).data] == ["accuracy"]


def test_thousands_of_tasks_are_drawn_by_webgl_and_without_lines():
    many = pd.DataFrame({"task": range(MANY), "accuracy": 0.9, "task inferred right": 1.0})
    assert {(trace.type, trace.mode) for trace in task_accuracy(many).data} == {("scattergl", "markers")}
    few = many.iloc[: MANY - 1]
    assert {(trace.type, trace.mode) for trace in task_accuracy(few).data} == {("scatter", "lines+markers")}


STRETCHES = [
    Stretch(0, 100, 0, 0, True, 1.0),
    Stretch(100, 30, 0, 0, False, 1.5),  # the task changes at 130, and the next decision is at 200
    Stretch(130, 70, 0, 1, False, 1.5),
    Stretch(200, 60, 1, 1, True, 1.05),
]


def test_decisions_are_told_from_cuts_where_a_task_ends(tmp_path):
    folder = RunFolder(tmp_path)
    assert read_stretches(folder) == []
    folder.write_stretches(STRETCHES)
    assert read_stretches(folder) == STRETCHES
    parts = stretch_rows(STRETCHES)
    assert parts["own"].tolist() == [True, True, False, True]
    decisions = decision_rows(parts, 100)
    assert decisions.to_numpy().tolist() == [[0, 1.0, True], [100, 1.5, False], [200, 1.05, True]]
    known, new = decisions_along_stream(decisions, 0.125).data
    assert (list(known.x), list(known.y)) == ([100], [1.5])
    assert list(new.x) == [0, 200]
    right, wrong = masks_along_stream(parts).data
    assert (list(right.x), list(right.y)) == ([0, 100, 200], [0, 0, 1])
    assert (list(wrong.x), list(wrong.text)) == ([130], [1])


@pytest.mark.parametrize("content", ["{", "[]", '{"stretches": 3}', '{"stretches": [{"mask": 1}]}'])
def test_damaged_decisions_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "stretches.json").write_text(content)
    with pytest.raises(UsageError, match=r"stretches\.json: it does not say which masks were trained") as refused:
        read_stretches(RunFolder(tmp_path))
    assert len(str(refused.value).splitlines()) == 1


def test_bytes_are_told_in_every_form():
    ledger = ByteLedger(contexts=60, buffers=16, bookkeeping=8, manifest=4, order_0=50.4)
    account = MaskAccount(2, 100, 32, {torch.float16: ledger}, 70, (LayerDensity("fc", 400, 0.4, 0.5, 0.6),))
    rows = byte_rows(account, {"contexts": 100, "shared": 0, "buffers": 32}, PaperBytes({"heads": 12, "nothing": 0}))
    assert list(rows.itertuples(index=False, name=None)) == [
        ("as the run keeps it", "each task's own", 100),
        ("as the run keeps it", "running statistics", 32),
        ("entropy-coded, float16 statistics", "each task's own", 60),
        ("entropy-coded, float16 statistics", "running statistics", 16),
        ("entropy-coded, float16 statistics", "bookkeeping", 8),
        ("entropy-coded, float16 statistics", "manifest", 4),
        ("order-0 reference", "each task's own", 50),
        ("as scipy.sparse.csc, about", "each task's own", 70),
        ("by Table 2's convention", "heads", 12),
    ]
    assert density_rows(account).to_dict("records") == [
        {"layer": "fc", "weights": 400, "least": 0.4, "mean": 0.5, "most": 0.6}
    ]
    assert byte_rows(None, {"contexts": 0, "shared": 7, "buffers": 0}, None)["part"].tolist() == ["trained and shared"]

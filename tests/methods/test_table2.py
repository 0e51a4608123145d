from dataclasses import replace

import pandas as pd
import pytest
import torch
from supsup_methods.byte_accounts import mask_account
from supsup_methods.data_assembly import load_dataset
from supsup_methods.recipes import RECIPES
from supsup_methods.reporting.table_figures import accuracy_against_bytes
from supsup_methods.reproduction import figure11_right, table2, vision_rows
from supsup_methods.reproduction.bench import Bench
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import open_run

from ..datasets.folders import make_folder
from .test_running import Watcher


@pytest.fixture
def bench(tmp_path):
    """Ten classes of noise, two tasks of them: what is found is of no interest."""
    classes = [f"class{number}" for number in range(10)]
    make_folder(tmp_path / "tiny-imagenet-32", classes=classes, images=3, width=32, height=32)

    def carry_out(recipe, path):
        data, folder = load_dataset(recipe.stream, tmp_path), RunFolder(path)
        path.mkdir(parents=True)
        folder.begin(recipe, describe_environment(torch.device("cpu"), data, tmp_path))
        execute(folder, recipe, data, torch.device("cpu"), Watcher())

    def digest_of(stream):
        return load_dataset(stream, tmp_path).digest

    return Bench(tmp_path / "runs", 1, True, tmp_path, digest_of, "cpu", carry_out, lambda line: None)


def test_every_row_of_the_paper_is_measured_on_both_data_and_in_its_order():
    rows = list(table2.TABLE2)
    assert len(rows) == 18
    assert [row.paper.bytes for row in rows[:6]] == [408432, 508432, 695592, 1035792, 1630032, 2487472]
    assert [row.paper.accuracy_percent for row in rows[6:12]] == [79.53, 85.33, 88.52, 90.12, 91.31, 91.66]
    for prefix in ("table2", "tiny"):
        assert {row.suffix for row in rows} == {
            name.removeprefix(f"{prefix}-")
            for name in RECIPES
            if name.startswith(f"{prefix}-") and "figure11" not in name
        }


def test_a_row_that_is_asked_for_is_measured_alone(bench):
    found = table2.measure_table2("tiny", replace(bench, row="SupSup, c = 1"))
    assert {row.what.partition(":")[0] for row in found.rows} == {"SupSup, c = 1"}
    assert [run["recipe"] for run in found.runs] == ["tiny-supsup-c1-quick-float32-statistics"]


def test_accuracy_and_bytes_stand_beside_the_papers_and_other_data_reproduces_nothing(bench, monkeypatch):
    wanted = {"supsup-c1", "upper-bound", "lower-bound"}
    rows = [row for row in table2.TABLE2 if row.suffix in wanted]
    monkeypatch.setattr(table2, "TABLE2", tuple(rows))
    found = table2.measure_table2("tiny", bench)
    rows = {row.what: row for row in found.rows}
    assert list(rows) == [
        *(f"SupSup, c = 1: {what}" for what in ("accuracy", "bytes", "accuracy with statistics of 32 bits")),
        *(f"{label}: {what}" for label in ("Upper Bound", "Lower Bound") for what in ("accuracy", "bytes")),
    ]
    assert rows["SupSup, c = 1: accuracy"].paper == "77.56 on CIFAR-100"
    assert {row.status for row in found.rows} == {""}
    run = open_run(bench.runs / "tiny-supsup-c1-quick-float32-statistics-seed-0")
    assert run.bank.buffers.dtype == torch.float32
    assert rows["SupSup, c = 1: accuracy with statistics of 32 bits"].ours == (100 * run.checkpoints[-1].accuracy,)
    ledger = mask_account(run.network, run.bank).coded[torch.float16]
    assert rows["SupSup, c = 1: bytes"].ours == (float(ledger.total - ledger.manifest),)
    weights, channels = run.network.num_bits, sum(entry.size for entry in run.network.task_buffers)
    assert rows["Upper Bound: bytes"].ours == (float(4 * 2 * weights + 2 * 2 * 2 * channels),)
    assert len(found.figures["frontier"].data) == 3


def test_masks_are_tested_with_statistics_of_16_bits_as_a_run_that_keeps_no_more(bench):
    found = table2.measure_table2("tiny", replace(bench, row="SupSup, c = 4"))
    recipe = vision_rows.sized(RECIPES["tiny-supsup-c4"], bench).recipe
    recipe = replace(recipe, name="narrow", method=replace(recipe.method, statistics="float16"))
    (narrow,) = bench.each_seed(recipe)
    assert open_run(narrow.path).bank.buffers.dtype == torch.float16
    assert found.rows[0].ours == (100 * narrow.summary()["checkpoints"][-1]["accuracy"],)


def test_on_the_papers_data_a_row_is_reproduced_where_it_is_near():
    row = table2.TABLE2[0]
    near, far = (vision_rows._both(row, (value,), (1.0,), comparable=True)[0].status for value in (76.0, 75.0))
    assert (near, far) == ("reproduced", "deviates")


def test_rows_that_were_cut_say_so_and_reproduce_nothing(bench):
    recipe, whole = RECIPES["table2-upper-bound"], replace(bench, quick=False)
    assert vision_rows.sized(recipe, whole) == vision_rows.Sized(recipe, "")
    assert vision_rows.sized(recipe, replace(whole, tasks=50, epochs=1000)) == vision_rows.Sized(recipe, "")
    small = vision_rows.sized(recipe, replace(whole, tasks=5, epochs=50, precision="bfloat16"))
    assert small.cut == ", 5 of 20 tasks, 50 of 250 epochs, in bfloat16"
    assert (small.recipe.name, small.recipe.tasks) == ("table2-upper-bound-5-tasks-50-epochs-bfloat16", 5)
    assert (small.recipe.method.training.epochs, small.recipe.method.training.precision) == (50, "bfloat16")
    longer_first = vision_rows.sized(RECIPES["figure11-right-c4"], replace(whole, epochs=50)).recipe
    assert longer_first.name == "figure11-right-c4-50-epochs-float32-statistics"
    assert (longer_first.method.training.first_epochs, longer_first.method.training.epochs) == (50, 20), (
        "as 250 and 100"
    )
    masks = vision_rows.sized(RECIPES["table2-supsup-c4"], whole)
    assert (masks.cut, masks.recipe.method.statistics) == ("", "float32")


def test_a_cut_row_has_a_name_of_its_own_and_no_status(bench):
    lower = [row for row in table2.TABLE2 if row.suffix == "lower-bound"]
    whole, cut = (
        vision_rows.measure_rows(lower, "tiny", replace(bench, precision=precision), comparable=True)
        for precision in ("float32", "bfloat16")
    )
    assert [row.what for row in cut.rows] == ["Lower Bound, in bfloat16: accuracy", "Lower Bound, in bfloat16: bytes"]
    assert whole.rows[0].what in table2.expected_accuracies()
    assert whole.rows[0].status in ("reproduced", "deviates")
    assert cut.rows[0].status == ""
    assert cut.runs[0]["settings"]["method"]["training"]["precision"] == "bfloat16"


def test_figure_11_right_has_both_curves_at_every_budget_on_both_data(bench, monkeypatch):
    rows = list(figure11_right.FIGURE11_RIGHT)
    for prefix in ("figure11-right", "tiny-figure11-right"):
        assert {f"{prefix}-{row.suffix}" for row in rows} == {name for name in RECIPES if name.startswith(f"{prefix}-")}
    assert {vision_rows.curve_of(row.label) for row in rows} == {"SupSup", "SupSup Transfer, half of the epochs"}
    monkeypatch.setattr(figure11_right, "FIGURE11_RIGHT", (rows[0], rows[6]))
    found = figure11_right.measure_figure11_right("tiny-figure11-right", bench)
    assert [row.what for row in found.rows[::3]] == [f"{row.label}: accuracy" for row in (rows[0], rows[6])]
    trainings = [
        vision_rows.sized(RECIPES[f"tiny-figure11-right-{row.suffix}"], bench).recipe.method.training for row in rows
    ]
    assert {(each.first_epochs, each.epochs) for each in trainings} == {(1, 1)}


def test_the_frontier_joins_the_means_of_rows_of_one_curve():
    lines = pd.DataFrame(
        {
            "row": ["S, c = 2", "S, c = 2", "S, c = 1", "U"],
            "curve": ["S", "S", "S", "U"],
            "bytes": [10.0, 20.0, 5.0, 99.0],
            "accuracy": [50.0, 70.0, 40.0, 90.0],
        }
    )
    supsup, upper = accuracy_against_bytes(lines).data
    assert (supsup.mode, list(supsup.x), list(supsup.y)) == ("lines+markers", [5.0, 15.0], [40.0, 60.0])
    assert (upper.mode, list(upper.x), list(upper.y)) == ("markers", [99.0], [90.0])


def test_the_frontier_is_a_point_for_each_row():
    lines = pd.DataFrame({"row": ["a", "a", "b"], "bytes": [10.0, 20.0, 5.0], "accuracy": [50.0, 70.0, 40.0]})
    first, second = accuracy_against_bytes(lines).data
    assert (list(first.x), list(first.y)) == ([15.0], [60.0])
    assert (list(second.x), list(second.y)) == ([5.0], [40.0])

from dataclasses import replace

import pandas as pd
import pytest
import torch
from supsup_datasets import embedded_mnist
from supsup_methods import recipes
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.recipes import RECIPES
from supsup_methods.registry import inference_of
from supsup_methods.reporting.table_figures import accuracy_against_tasks
from supsup_methods.reproduction import searches, tables
from supsup_methods.reproduction.asked_again import accuracies_under
from supsup_methods.reproduction.findings import Row
from supsup_methods.reproduction.paper_numbers import curve, paper_numbers
from supsup_methods.reproduction.targets import TARGETS
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import EveryTask, Gamma, OneShot
from supsup_methods.training_length import TaskTraining

from .test_running import Watcher

TINY = Recipe(
    "tiny-table",
    3,
    backbone=FullyConnected(hidden=(40,), outputs=20),
    method=SupSupSettings(training=MaskTraining(batches=60, batch_size=64, learning_rate=3e-3)),
    evaluation=Evaluation(scenario="GNu", checkpoints=(2,)),
)


def test_the_papers_numbers_are_those_that_it_prints():
    assert {number.table for number in paper_numbers()} == {*"23456789", "figure 2, left", "section 4.1"}
    assert curve("3", "SupSup", "H")[250].accuracy_percent == 93.62
    assert curve("9", "SupSup", "H", 25)[10].accuracy_percent == 82.28
    assert curve("5", "SupSup", "H", 500, "NNs")[2500].accuracy_percent == 92.54
    assert curve("6", "SupSup full batch, Binary")[36].accuracy_percent == 96.13
    assert curve("section 4.1", "Lower Bound")[20].accuracy_percent == 24.5
    assert [number.bytes for number in paper_numbers() if number.method == "Upper Bound" and number.table == "2"] == [
        89_675_200
    ]


@pytest.mark.parametrize(("table", "row"), [(table, row) for table, rows in tables.ROWS.items() for row in rows])
def test_every_row_has_numbers_of_the_paper_for_each_of_its_checkpoints_and_a_recipe_that_comes_to_them(table, row):
    recipe = RECIPES[row.recipe]
    assert row.paper, "the paper has this row"
    assert {number.table for number in row.paper.values()} == {table}
    assert set(row.paper) <= {*recipe.evaluation.checkpoints, recipe.tasks}
    assert {number.scenario for number in row.paper.values()} == {recipe.evaluation.scenario}
    asked = row.inference or inference_of(recipe.method)
    for number in row.paper.values():
        if number.objective:
            assert asked.objective == number.objective
        if number.outputs is not None:
            assert recipe.backbone.outputs == number.outputs


def test_every_table_is_a_target():
    assert {f"table{number}" for number in tables.ROWS} <= set(TARGETS)


def carried_out(recipe, path):
    folder = RunFolder(path)
    path.mkdir(parents=True)
    folder.begin(recipe, describe_environment(torch.device("cpu"), embedded_mnist(), None))
    execute(folder, recipe, embedded_mnist(), torch.device("cpu"), Watcher())
    return folder


def test_another_search_is_asked_of_the_same_masks_once_and_finds_what_a_run_with_it_would(bench, tmp_path):
    bench, _, said = bench
    short = replace(
        TINY, method=replace(TINY.method, training=replace(TINY.method.training, batches=10))
    )  # so that H errs
    by_h = carried_out(short, tmp_path / "h")
    asked = OneShot(objective="G", images_per_guess=3)
    by_g = carried_out(replace(short, method=replace(short.method, inference=asked)), tmp_path / "g")
    found = accuracies_under(bench, by_h, asked)
    expected = by_g.summary()["checkpoints"]
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("tasks_learned", "accuracy", "task_inference_accuracy"):
            assert ours[name] == theirs[name]
    assert [each["accuracy"] for each in expected] != [each["accuracy"] for each in by_h.summary()["checkpoints"]]
    told = len(said)
    assert accuracies_under(bench, by_h, asked) == found
    assert len(said) == told, "it was not tested again"
    assert accuracies_under(bench, by_h, OneShot()) != found


def test_a_method_that_is_given_its_tasks_cannot_be_asked_in_another_way(bench, tmp_path):
    recipe = replace(TINY, tasks=1, method=PspSettings(), evaluation=Evaluation(scenario="GG"))
    recipe = replace(recipe, method=replace(recipe.method, training=replace(recipe.method.training, batches=2)))
    run = carried_out(recipe, tmp_path / "psp")
    with pytest.raises(UsageError, match="psp searches no contexts for tasks, so it cannot be asked in another way"):
        accuracies_under(bench[0], run, OneShot())


def test_a_table_sets_ours_beside_the_papers_and_runs_rows_of_the_same_masks_once(bench, monkeypatch):
    bench, carried, _ = bench
    monkeypatch.setitem(recipes._OURS, TINY.name, TINY)
    paper = {3: replace(paper_numbers()[0], tasks=3, accuracy_percent=50.0)}
    rows = (
        tables.TableRow("by H", TINY.name, paper, points=0.5),
        tables.TableRow("by G", TINY.name, {}, OneShot(objective="G")),
    )
    monkeypatch.setitem(tables.ROWS, "3", rows)
    found = tables.measure_table("3", bench)
    assert carried == [(TINY.name, 0), (TINY.name, 1)]
    assert [row.what for row in found.rows] == ["by H, 2 tasks", "by H, 3 tasks", "by G, 2 tasks", "by G, 3 tasks"]
    summaries = [run["checkpoints"] for run in found.runs]
    assert found.rows[1].ours == tuple(100 * checkpoints[-1]["accuracy"] for checkpoints in summaries)
    assert found.rows[1].difference == found.rows[1].mean - 50.0
    assert (found.rows[0].paper_value, found.rows[1].paper_value) == (None, 50.0)
    assert len(found.figures["accuracy"].data) == 4


def test_a_row_that_is_asked_for_is_measured_alone(bench, monkeypatch):
    bench, carried, _ = bench
    monkeypatch.setitem(recipes._OURS, TINY.name, TINY)
    rows = (tables.TableRow("PSP, GG", "table3-psp", {}), tables.TableRow("BatchE, GG", TINY.name, {}))
    assert bench.chosen(rows) == list(rows)
    monkeypatch.setitem(tables.ROWS, "3", rows)
    found = tables.measure_table("3", replace(bench, seeds=1, row="BatchE, GG"))
    assert carried == [(TINY.name, 0)]
    assert [row.what for row in found.rows] == ["BatchE, GG, 2 tasks", "BatchE, GG, 3 tasks"]


def test_a_row_alone_runs_the_recipe_that_searches_as_it_says_and_asks_a_run_that_is_there(bench, monkeypatch):
    bench, carried, _ = bench
    by_g = replace(TINY, name="tiny-table-g", method=replace(TINY.method, inference=OneShot(objective="G")))
    for recipe in (TINY, by_g):
        monkeypatch.setitem(recipes._OURS, recipe.name, recipe)
    rows = tuple(
        tables.TableRow(f"by {name}", TINY.name, {}, OneShot(objective=name), points=0.5) for name in ("H", "G")
    )
    monkeypatch.setitem(tables.ROWS, "3", rows)
    alone = {name: tables.measure_table("3", replace(bench, seeds=1, row=f"by {name}")) for name in ("G", "H")}
    assert carried == [(by_g.name, 0)]
    both = tables.measure_table("3", replace(bench, seeds=1))
    assert carried == [(by_g.name, 0), (TINY.name, 0)]
    assert (*alone["H"].rows, *alone["G"].rows) == both.rows


def test_fewer_tasks_are_another_run_with_a_name_that_says_so(bench, monkeypatch):
    bench, carried, _ = bench
    monkeypatch.setitem(recipes._OURS, TINY.name, TINY)
    monkeypatch.setitem(tables.ROWS, "3", (tables.TableRow("by H", TINY.name, {}),))
    tables.measure_table("3", replace(bench, tasks=2, seeds=1))
    tables.measure_table("3", replace(bench, tasks=10, seeds=1))
    assert carried == [(f"{TINY.name}-2-tasks", 0), (TINY.name, 0)]


def test_figure_10_asks_one_run_for_every_number_of_images_and_both_objectives(bench, monkeypatch):
    bench, carried, _ = bench
    batche = replace(TINY, method=BatchESettings(training=TaskTraining(batches=40, batch_size=64)))
    monkeypatch.setitem(recipes._OURS, TINY.name, batche)
    monkeypatch.setattr(searches, "_ABATCHE", {"LeNet": TINY.name})
    monkeypatch.setattr(searches, "FIGURE10", (searches.Panel("LeNet"),))
    found = searches.figure10(replace(bench, seeds=1))
    assert carried == [(f"{TINY.name}-given", 0)]
    ways = [f"{objective}, b = {images}" for objective in "HM" for images in (1, 2, 4, 8, 16)]
    assert [row.what for row in found.rows] == [
        f"LeNet, {way}, {tasks} tasks" for way in ("given", *ways) for tasks in (2, 3)
    ]
    run = RunFolder(bench.runs / f"{TINY.name}-given-seed-0")
    assert run.recipe().evaluation.scenario == "GG"
    asked = accuracies_under(bench, run, EveryTask(objective="M", images_per_guess=4))
    values = {row.what: row.ours for row in found.rows}
    assert values["LeNet, M, b = 4, 3 tasks"] == (100 * asked[-1]["accuracy"],)
    assert values["LeNet, given, 3 tasks"] == (100 * run.summary()["checkpoints"][-1]["accuracy"],)
    assert [trace.name for trace in found.figures["lenet"].data if trace.showlegend] == ["given", *ways]


def test_a_panel_of_figure_10_is_measured_alone(bench, monkeypatch):
    bench, carried, _ = bench
    batche = replace(TINY, method=BatchESettings(training=TaskTraining(batches=2, batch_size=64)))
    monkeypatch.setitem(recipes._OURS, TINY.name, batche)
    monkeypatch.setattr(searches, "_ABATCHE", {"FC": TINY.name})
    found = searches.figure10(replace(bench, seeds=1, row="FC"))
    assert carried == [(f"{TINY.name}-given", 0)]
    assert list(found.figures) == ["fc"]
    assert TARGETS["figure10"].rows == ("LeNet", "FC")


def test_figure_11_goes_from_one_shot_to_binary(bench, monkeypatch):
    bench, carried, _ = bench
    monkeypatch.setitem(recipes._OURS, TINY.name, TINY)
    monkeypatch.setattr(searches, "_ROTATED", TINY.name)
    found = searches.figure11_left(replace(bench, seeds=1))
    assert carried == [(TINY.name, 0)]
    assert [row.what for row in found.rows] == ["γ = 1/3, One-Shot: accuracy", "γ = 0.4: accuracy", "γ = 0.5: accuracy"]
    run = RunFolder(bench.runs / f"{TINY.name}-seed-0")
    binary = accuracies_under(bench, run, Gamma(share=0.5, images_per_guess=128))
    assert found.rows[-1].ours == (100 * binary[-1]["accuracy"],)
    (curve_of_shares,) = found.figures["gamma"].data
    assert list(curve_of_shares.x) == pytest.approx([1 / 3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("ours", "status"), [((93.1, 93.3), "reproduced"), ((92.9,), "deviates"), ((94.3,), "deviates")]
)
def test_a_row_is_reproduced_where_it_is_near_enough(ours, status):
    assert Row("row", ours, paper="93.65", paper_value=93.65, tolerance=0.5).status == status
    assert Row("row", ours).status == ""


def test_the_figure_shows_the_papers_values_behind_the_mean_of_ours():
    lines = [
        {"row": "SupSup", "tasks": tasks, "accuracy": accuracy, "paper": paper}
        for tasks, accuracy, paper in ((10, 90.0, 93.0), (10, 92.0, 93.0), (50, 80.0, None))
    ]
    paper, ours = accuracy_against_tasks(pd.DataFrame(lines)).data
    assert (list(paper.x), list(paper.y)) == ([10], [93.0])
    assert (list(ours.x), list(ours.y)) == ([10, 50], [91.0, 80.0])

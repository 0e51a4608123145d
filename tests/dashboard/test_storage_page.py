import dataclasses
import os
import re
import time

import pytest
from streamlit.testing.v1 import AppTest
from supsup_dashboard.pages import storage
from supsup_datasets import embedded_mnist
from supsup_methods.byte_accounts import file_bytes, mask_account, paper_bytes
from supsup_methods.experiment import Evaluation
from supsup_methods.guess_costs import GuessCost
from supsup_methods.psp import PspSettings
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import open_run

from ..methods.test_running import CPU, RECIPE, Watcher, begin
from .shown_figures import shown_figures
from .shown_pages import shown


def storage_page():
    from supsup_dashboard.pages import storage

    storage.show()


def opened(*runs):
    return shown(AppTest.from_function(storage_page, default_timeout=60), runs)


def charts(page):
    """Return the figures that are shown, by what their x axis is titled, as their JSON."""
    return {figure["layout"]["xaxis"]["title"]["text"]: figure for figure in shown_figures(page)}


def pressed(page, label):
    next(button for button in page.button if button.label == label).click().run()
    assert not page.exception


def done(here, name, recipe=RECIPE):
    folder = RunFolder(here / "runs" / name)
    folder.path.mkdir()
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None))
    execute(folder, recipe, embedded_mnist(), CPU, Watcher())
    return folder


PSP = dataclasses.replace(
    RECIPE,
    method=dataclasses.replace(PspSettings(), training=dataclasses.replace(PspSettings().training, batches=2)),
    evaluation=Evaluation(scenario="GG"),
)


def test_without_runs_it_says_how_to_start_one(here):
    assert "poetry run supsup-train" in opened().info[0].value


def test_a_run_without_a_task_has_nothing_to_count(here):
    begin(here / "runs" / "young")
    page = opened("young")
    said = [info.value for info in page.info]
    assert said[0].startswith("Without results, and so not drawn: young.")
    assert said[1].startswith("Nothing is learned yet")
    assert not page.button


def test_the_ledger_of_masks_is_counted_when_asked_as_supsup_eval_counts_it(here):
    folder = done(here, "demo-1")
    page = opened("demo-1")
    assert f"**{file_bytes(folder.bank):,} bytes**" in page.markdown[0].value
    assert set(charts(page)) == {"bytes of all tasks"}, "entropy-coding is not done unasked"
    pressed(page, "Count what it could take")
    run = open_run(folder.path)
    account = mask_account(run.network, run.bank)
    (ledger,) = account.coded.values()
    table = page.dataframe[0].value.set_index("form")["bytes"]
    assert table["as the run keeps it"] == folder.summary()["bytes"]["total"] == account.packed
    assert table["entropy-coded"] == ledger.total
    assert table["order-0 reference"] == round(ledger.order_0)
    assert table["as scipy.sparse.csc, about"] == account.csc
    densities = charts(page)["ones in a mask, % of the layer's weights"]["data"][0]
    assert densities["x"] == pytest.approx([100 * each.mean for each in account.densities])
    points = {trace["name"]: trace["x"] for trace in charts(page)["bytes of all tasks"]["data"]}
    assert points == {"demo-1": [account.packed], "demo-1, entropy-coded": [ledger.total - ledger.manifest]}


def test_a_method_without_masks_is_counted_by_the_papers_convention(here):
    folder = done(here, "psp", PSP)
    page = opened("psp")
    pressed(page, "Count what it could take")
    run = open_run(folder.path)
    counted = paper_bytes(run.recipe.method, run.network, 3)
    table = page.dataframe[0].value.set_index("form")["bytes"]
    assert table["by Table 2's convention"] == counted.total
    assert "no row of Table 2" in " ".join(caption.value for caption in page.caption)
    pressed(page, "Measure")
    assert "it keeps no contexts to search" in page.info[0].value


def test_the_cost_of_a_guess_is_measured_when_asked_and_says_where_and_when(here):
    done(here, "demo-1")
    page = opened("demo-1")
    pressed(page, "Measure")
    one_shot, every = charts(page)["tasks to choose from"]["data"]
    assert one_shot["x"] == every["x"] == [1, 2, 3]
    assert all(0 < value < 60_000 for value in (*one_shot["y"], *every["y"]))
    assert "cores" in page.caption[-1].value
    assert re.match(r"Measured here, \d{4}-\d\d-\d\d \d\d:\d\d UTC, among up to 3 tasks: ", page.caption[-1].value)


def test_what_was_measured_of_a_run_that_goes_on_meanwhile_is_shown(here, monkeypatch):
    folder = done(here, "demo-1")

    def costs(*_):
        later = time.time() + 60
        os.utime(folder.path / "progress.json", (later, later))  # the next task is saved meanwhile
        return [GuessCost("One-Shot", 3, 0.001)]

    monkeypatch.setattr(storage, "guess_costs", costs)
    page = opened("demo-1")
    pressed(page, "Measure")
    assert charts(page)["tasks to choose from"]["data"]
    later = time.time() + 120
    os.utime(folder.path / "recipe.json", (later, later))  # another run of that name
    page.run()
    assert "tasks to choose from" not in charts(page)


def test_what_was_counted_of_a_run_that_goes_on_stands_until_it_is_counted_again(here):
    folder = done(here, "demo-1")
    page = opened("demo-1")
    pressed(page, "Count what it could take")
    assert next(each for each in page.button if each.key == "count").disabled
    later = time.time() + 60
    os.utime(folder.path / "progress.json", (later, later))
    page.run()
    assert "Counted when 3 tasks were learned." in [each.value for each in page.caption]
    assert "form" in page.dataframe[0].value
    pressed(page, "Count again")
    assert "Counted when" not in " ".join(each.value for each in page.caption)


def test_each_session_measures_for_itself_and_again_when_asked(here, monkeypatch):
    done(here, "demo-1")
    seconds = iter((0.001, 0.002, 0.003))
    monkeypatch.setattr(storage, "guess_costs", lambda *_: [GuessCost("One-Shot", 3, next(seconds))])
    mine, theirs = opened("demo-1"), opened("demo-1")
    for page, label, milliseconds in ((mine, "Measure", 1), (theirs, "Measure", 2), (mine, "Measure again", 3)):
        pressed(page, label)
        (costs,) = charts(page)["tasks to choose from"]["data"]
        assert costs["y"] == [pytest.approx(milliseconds)]


def test_the_papers_frontier_stands_behind_when_it_is_chosen(here, taken_along):
    folder = done(here, "demo-1")
    page = opened("demo-1")
    box = page.selectbox[0]
    assert box.value is None, "runs on digits are like neither panel of Figure 2"
    box.select_index(0).run()
    traces = {trace["name"]: trace for trace in charts(page)["bytes of all tasks"]["data"]}
    assert traces["paper: SupSup"]["x"] == [408432, 508432, 695592, 1035792, 1630032, 2487472]
    accuracy = folder.summary()["checkpoints"][-1]["accuracy"]
    assert traces["demo-1"]["y"] == pytest.approx([100 * accuracy])
    assert traces["paper: SupSup"]["y"][0] == 77.56
    numbers = taken_along["accuracy-against-bytes.csv"].set_index("row")["accuracy"]
    assert numbers["demo-1"] == pytest.approx(accuracy), "to take along they are fractions"
    assert numbers["paper: SupSup"].iloc[0] == 0.7756


def test_damage_is_told_in_a_line(here):
    folder = done(here, "demo-1")
    (folder.path / "summary.json").write_text("{")
    (folder.bank / "manifest.json").write_text("{")
    page = opened("demo-1")
    assert len(page.error) >= 2
    assert "summary.json" in page.error[0].value
    assert all(len(error.value.splitlines()) == 1 for error in page.error)


def test_a_summary_without_tests_is_told_in_a_line_and_its_ledger_is_shown(here):
    folder = done(here, "demo-1")
    folder.write_summary({**folder.summary(), "checkpoints": []})
    page = opened("demo-1")
    (error,) = page.error
    assert error.value.startswith("runs/demo-1/summary.json: it tells of no test; ")
    assert f"**{file_bytes(folder.bank):,} bytes**" in page.markdown[0].value

import dataclasses
import re
import shutil

import pytest
from streamlit.testing.v1 import AppTest
from supsup_datasets import embedded_mnist
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.experiment import Evaluation, FullyConnected
from supsup_methods.recipes import RECIPES
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import Progress, RunFolder
from supsup_methods.running import execute
from supsup_methods.training_length import StreamTraining

from ..methods.test_running import CPU, RECIPE, Watcher, begin
from .shown_figures import shown_figures
from .shown_pages import shown


def accuracy_page():
    from supsup_dashboard.pages import accuracy

    accuracy.show()


def opened(*runs):
    return shown(AppTest.from_function(accuracy_page, default_timeout=60), runs)


def look_again(page):
    """Let the page notice, as its clock does, that the files have changed."""
    page.run()
    assert not page.exception


def charts(page):
    """Return the figures that are shown, by what their y axis is titled, as their JSON."""
    return {figure["layout"]["yaxis"]["title"]["text"]: figure for figure in shown_figures(page)}


def demo(here, name="demo-1"):
    folder = begin(here / "runs" / name)
    execute(folder, RECIPE, embedded_mnist(), CPU, Watcher())
    return folder


def test_without_runs_it_says_how_to_start_one(here):
    page = opened()
    assert "poetry run supsup-train" in page.info[0].value
    assert len(page.info) == 1


def test_curves_of_the_chosen_runs_stand_before_the_papers_that_they_are_like(here):
    folder = demo(here)
    begin(here / "runs" / "demo-2")
    page = opened("demo-1", "demo-2")
    assert "No test of all tasks yet: demo-2" in page.info[0].value
    traces = {trace["name"]: trace for trace in charts(page)["accuracy, mean over tasks (%)"]["data"]}
    assert list(traces) == ["paper: Table 3: SupSup, GNu, H, s = 100", "demo-1"]
    expected = [100 * checkpoint.accuracy for checkpoint in folder.progress().checkpoints]
    assert traces["demo-1"]["x"] == [1, 2, 3]
    assert traces["demo-1"]["y"] == pytest.approx(expected)
    assert traces["paper: Table 3: SupSup, GNu, H, s = 100"]["y"] == [93.65, 93.68, 93.68, 93.66, 93.64, 93.62]


def test_numbers_to_take_along_are_fractions_of_runs_and_of_the_paper(here, taken_along):
    folder = demo(here)
    opened("demo-1")
    numbers = taken_along["accuracy-against-tasks.csv"].set_index("run")
    checkpoint = folder.progress().checkpoints[-1]
    last = numbers.loc["demo-1"].iloc[-1][["accuracy", "task inferred right"]]
    assert list(last) == pytest.approx([checkpoint.accuracy, checkpoint.task_inference_accuracy])
    paper = numbers.loc["paper: Table 3: SupSup, GNu, H, s = 100", "accuracy"]
    assert list(paper) == [0.9365, 0.9368, 0.9368, 0.9366, 0.9364, 0.9362]
    by_task = [score.accuracy for score in checkpoint.scores]
    assert list(taken_along["task-by-task.csv"]["accuracy"]) == pytest.approx(by_task)


def test_what_makes_a_run_unlike_the_papers_is_told_and_the_axis_leaves_it_room(here):
    demo(here)
    page = opened("demo-1")
    (told,) = [each.value for each in page.caption if "not quite like" in each.value]
    assert told.startswith(
        "demo-1 is not quite like the paper's row (Table 3: SupSup, GNu, H, s = 100): its data is MNIST-5k"
    )
    assert "it is trained otherwise than table3-supsup-h" in told
    assert charts(page)["accuracy, mean over tasks (%)"]["layout"]["xaxis"]["type"] == "log", "250 tasks beside 3"
    page.multiselect[2].set_value([]).run()
    assert not [each for each in page.caption if "not quite like" in each.value]


def test_another_run_has_the_papers_curves_that_it_is_like(here):
    folder, other = begin(here / "runs" / "h"), here / "runs" / "psp"
    other.mkdir()
    RunFolder(other).begin(RECIPES["table3-psp"], folder.environment())
    page = opened("h")
    page.multiselect(key="chosen-runs").set_value(["psp"]).run()
    assert not page.exception
    assert page.multiselect[2].value == ["Table 3: PSP, GG"]


def test_the_reader_chooses_among_the_papers_curves_and_axes(here):
    demo(here)
    page = opened("demo-1")
    papers, curves = page.multiselect[1], page.multiselect[2]
    assert papers.value == ["3"]
    assert papers.options[1] == "Figure 3, right (Table 4)"
    curves.set_value(["Table 3: PSP, GG"]).run()
    page.toggle(key="logarithmic-True").set_value(False).run()
    figure = charts(page)["accuracy, mean over tasks (%)"]
    assert [trace["name"] for trace in figure["data"]] == ["paper: Table 3: PSP, GG", "demo-1"]
    assert figure["layout"]["xaxis"]["type"] == "linear"
    page.multiselect[1].set_value(["6"]).run()
    assert not page.exception
    names = [trace["name"] for trace in charts(page)["accuracy, mean over tasks (%)"]["data"]]
    assert len(names) == 6, "none of the runs is like a row of Table 6, so all of them are shown"


def test_tasks_of_a_run_at_a_checkpoint_with_their_first_tests_and_what_was_confused(here):
    folder = demo(here)
    page = opened("demo-1")
    assert page.selectbox(key="checkpoint").options == ["3 tasks learned", "2 tasks learned", "1 tasks learned"]
    page.selectbox(key="checkpoint").select(2).run()
    progress = folder.progress()
    scores = progress.checkpoints[1].scores
    shown = {
        trace["name"]: trace["y"]
        for trace in charts(page)["% of test images (of test batches: tasks inferred)"]["data"]
    }
    assert shown["accuracy"] == pytest.approx([100 * score.accuracy for score in scores])
    first = [100 * progress.first_scores[task].accuracy for task in range(2)]
    assert shown["accuracy when just learned"] == pytest.approx(first)
    assert page.metric[0].value == f"{progress.checkpoints[1].accuracy:.2%}"
    (table,) = charts(page)["true task"]["data"]
    expected = [[100 * score.guessed.get(task, 0) / score.guesses for task in range(2)] for score in scores]
    assert [list(row) for row in table["z"]] == expected


def test_the_confusion_of_2500_tasks_is_points(here):
    folder = begin(here / "runs" / "big")
    scores = tuple(TaskScore(task, 100, 90, 10, 9, {task: 9, (task + 1) % 2500: 1}) for task in range(2500))
    folder.write_progress(Progress({}, [Checkpoint(2500, scores, 1.0)], {}))
    page = opened("big")
    (points,) = charts(page)["true task"]["data"]
    assert (points["type"], points["mode"]) == ("scattergl", "markers")
    assert "2,500 of 25,000 batches went to another task (10.00%)." in [text.value for text in page.markdown]


def test_a_run_that_is_given_its_tasks_guesses_none(here):
    folder = begin(here / "runs" / "given")
    folder.write_progress(Progress({}, [Checkpoint(1, (TaskScore(0, 10, 9, 0, 0),), 1.0)], {}))
    page = opened("given")
    assert "none was guessed (scenario GG)" in page.info[0].value


def test_a_run_that_has_only_begun_shows_what_it_has(here):
    folder = begin(here / "runs" / "young")
    page = opened("young")
    assert "Nothing is tested yet" in page.info[1].value
    folder.write_progress(Progress({0: 1.0}, [], {0: TaskScore(0, 10, 9, 1, 1, {0: 1})}))
    page.run()
    (first,) = charts(page)["% of test images (of test batches: tasks inferred)"]["data"]
    assert (first["name"], first["y"]) == ("accuracy when just learned", [90.0])


def test_damaged_files_are_told_and_the_other_runs_are_shown(here):
    demo(here)
    (begin(here / "runs" / "demo-2").path / "progress.json").write_text("{")
    (begin(here / "runs" / "demo-3").path / "recipe.json").write_text("{")
    page = opened("demo-1", "demo-2", "demo-3")
    assert [re.match(r"demo-\d", error.value)[0] for error in page.error] == ["demo-2", "demo-3"]
    assert "accuracy, mean over tasks (%)" in charts(page)


def test_a_test_without_images_is_told_in_a_line(here):
    folder = begin(here / "runs" / "odd")
    folder.write_progress(Progress({}, [Checkpoint(1, (TaskScore(0, 0, 0, 0, 0),), 1.0)], {}))
    (error,) = opened("odd").error
    assert error.value.startswith("odd: runs/odd/progress.json: it tells of a test without images; ")


def test_all_of_the_page_follows_a_run_that_goes_on(here):
    folder = begin(here / "runs" / "young")
    page = opened("young")
    tests = (Checkpoint(1, (TaskScore(0, 10, 9, 1, 1, {0: 1}),), 1.0),)
    folder.write_progress(Progress({0: 1.0}, list(tests), {0: tests[0].scores[0]}))
    look_again(page)
    assert page.metric[0].value == "90.00%"
    assert "accuracy, mean over tasks (%)" in charts(page)


def test_a_run_that_is_damaged_while_it_is_looked_at_is_told(here):
    folder = demo(here)
    page = opened("demo-1")
    (folder.path / "progress.json").write_text("{")
    look_again(page)
    assert "demo-1" in page.error[0].value
    shutil.rmtree(folder.path)
    begin(here / "runs" / "demo-2")
    look_again(page)
    assert page.warning[0].value == "runs/ no longer holds demo-1: deleted or moved since it was chosen."


def test_choosing_no_run_asks_for_one(here):
    begin(here / "runs" / "demo-1")
    page = opened()
    page.multiselect[0].set_value([]).run()
    assert [info.value for info in page.info] == ["Choose at least one run above."]


def test_decisions_of_a_stream_that_nobody_told_are_drawn(here):
    recipe = RECIPES["table5-nns"]
    training = StreamTraining(batches=20, batch_size=64, learning_rate=1e-3)
    method = dataclasses.replace(recipe.method, training=training)
    recipe = dataclasses.replace(
        recipe,
        tasks=2,
        backbone=FullyConnected(hidden=(30,), outputs=20),
        method=dataclasses.replace(method, allocation=dataclasses.replace(method.allocation, every=10)),
        evaluation=Evaluation(scenario="NNs"),
    )
    folder = RunFolder(here / "runs" / "nns")
    folder.path.mkdir()
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None))
    execute(folder, recipe, embedded_mnist(), CPU, Watcher())
    page = opened("nns")
    known, new = charts(page)["(k + 1) max ν"]["data"]
    assert sorted([*known["x"], *new["x"]]) == [0, 10, 20, 30]
    assert sum(len(trace["x"]) for trace in charts(page)["mask"]["data"]) == 4
    (folder.path / "stretches.json").write_text("{")
    (folder.path / "summary.json").touch()  # written after it, and so what tells that it changed
    assert "stretches.json: it does not say which masks were trained" in opened("nns").error[0].value
    (folder.path / "stretches.json").unlink()
    (folder.path / "progress.json").touch()
    page = opened("nns")
    assert "The run writes its decisions when it is done." in [info.value for info in page.info]

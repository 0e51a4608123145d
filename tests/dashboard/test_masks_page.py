"""The page Masks: for each method what there is to see, and what to do where there is nothing."""

import os
import shutil
import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest
from supsup_core import MaskBank
from supsup_core.packed_bits import row_bytes
from supsup_dashboard.queueing.database import DATABASE
from supsup_dashboard.queueing.jobs import RUNNER_LOCK, JobQueue, queue, try_lock
from supsup_dashboard.queueing.runner import QueueRunner
from supsup_datasets import embedded_mnist
from supsup_methods.assembly import build_problem
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, FullyConnected, NormalisedFullyConnected, Recipe, SplitMnist
from supsup_methods.hopsupsup import HopfieldRecovery, HopSupSupSettings, UnitMaskTraining
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import open_run
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import Allocation, UnknownTasksSettings
from supsup_methods.training_length import StreamTraining
from supsup_methods.watched_records import read_watched, write_watched
from supsup_methods.watched_training import watch_task

from ..methods.test_running import CPU, Watcher

SUPSUP = Recipe(
    "masks",
    3,
    backbone=FullyConnected(hidden=(30,), outputs=12),
    method=SupSupSettings(training=MaskTraining(batches=30, batch_size=20, learning_rate=1e-3)),
)
HOP = Recipe(
    "hop",
    2,
    stream=SplitMnist(),
    backbone=NormalisedFullyConnected(hidden=(60, 40), outputs=10),
    method=HopSupSupSettings(
        training=UnitMaskTraining(epochs=1), recovery=HopfieldRecovery(batch_size=20), witness=True
    ),
    evaluation=Evaluation(scenario="GNs", checkpoints=(1,)),
)
OTHERS = {
    "forgetful": replace(HOP, tasks=1, method=replace(HOP.method, witness=False), evaluation=Evaluation("GNs")),
    "stream": replace(
        SUPSUP,
        method=UnknownTasksSettings(
            training=StreamTraining(batches=20, batch_size=20), allocation=Allocation(every=10, epsilon=5.0)
        ),
        evaluation=Evaluation(scenario="NNs"),
    ),
    "psp": replace(SUPSUP, tasks=1, method=PspSettings(), evaluation=Evaluation(scenario="GG")),
}


def page():
    from supsup_dashboard.pages import masks

    masks.show()


def opened(run=None, timeout=60):
    shown = AppTest.from_function(page, default_timeout=timeout)
    if run is not None:
        shown.query_params["run"] = run
    shown.run()
    assert not shown.exception
    return shown


def charts(shown):
    """Return the figures of the page, by what they are told to be."""
    return [chart.proto.alt for chart in shown.get("plotly_chart")]


def said(shown):
    return " ".join(each.value for each in (*shown.info, *shown.warning, *shown.error, *shown.success, *shown.caption))


def begun(path, recipe):
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Runs that are done, for tests to copy."""
    store = tmp_path_factory.mktemp("store")
    for name, recipe in {
        "masks": SUPSUP,
        "hop": HOP,
        "forgetful": OTHERS["forgetful"],
        "stream": OTHERS["stream"],
    }.items():
        execute(begun(store / name, recipe), recipe, embedded_mnist(), CPU, Watcher())
    return store


@pytest.fixture
def here(tmp_path, monkeypatch, store):
    st.cache_data.clear()
    st.cache_resource.clear()  # copies of a run have its name and its times
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(JobQueue, "ensure_runner", lambda self: None)

    def have(name):
        shutil.copytree(store / name, tmp_path / "runs" / name)
        return RunFolder(tmp_path / "runs" / name)

    return have


def test_without_runs_it_says_how_to_start_one(here):
    shown = opened()
    assert "poetry run supsup-train" in shown.info[0].value
    assert "how a mask forms in training" in shown.info[0].value


def test_methods_without_masks_say_what_the_page_shows_of_which(here, tmp_path):
    begun(tmp_path / "runs" / "psp-1", OTHERS["psp"])
    shown = opened()
    assert "psp keeps no masks" in shown.info[0].value
    assert "start one on the page Launch" in shown.info[0].value
    assert charts(shown) == []


def test_a_run_that_has_learned_nothing_says_so(here, tmp_path):
    begun(tmp_path / "runs" / "masks-1", SUPSUP)
    shown = opened()
    assert "No task is learned yet" in said(shown)
    assert "nothing to compare before two masks" in said(shown)


def test_a_run_with_one_mask_compares_nothing(here, tmp_path):
    recipe = replace(SUPSUP, tasks=1)
    execute(begun(tmp_path / "runs" / "one", recipe), recipe, embedded_mnist(), CPU, Watcher())
    shown = opened()
    assert "nothing to compare before two masks" in said(shown)
    assert shown.number_input[0].max == 0


def test_overlap_and_density_are_those_of_the_bank(here):
    folder = here("masks")
    shown = opened()
    assert [each for each in charts(shown) if "3 tasks" in each or "each layer and task" in each] == charts(shown)
    run = open_run(folder.path)
    rows = torch.stack([run.network.flatten(run.bank.masks(task)) for task in range(3)])
    equal = [float((rows[a] == rows[b]).double().mean()) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert f"Mean {np.mean(equal):.2%}; most alike are tasks" in said(shown)
    assert f"{max(equal):.2%}" in said(shown)
    shown.radio(key="overlap-measure").set_value("intersection over union of ones").run()
    assert not shown.exception
    shares = [float((rows[a] & rows[b]).sum() / (rows[a] | rows[b]).sum()) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert f"Mean {np.mean(shares):.2%}" in said(shown)
    shown.slider(key="mask-range-masks").set_range(1, 2).run()
    assert f"Mean {shares[2]:.2%}; most alike are tasks 1 and 2, {shares[2]:.2%}" in said(shown)
    shown.slider(key="mask-range-masks").set_range(2, 2).run()
    assert not shown.exception, "a single mask is shown beside its neighbour"


def test_a_watched_mask_is_shown(here):
    folder = here("masks")
    write_watched(folder.path, watch_task(open_run(folder.path), folder.environment(), 2))
    shown = opened()
    assert shown.number_input[0].value == 2, "the one that was watched comes first"
    assert "Watched so far: task 2." in said(shown)
    assert "30 steps in" in shown.success[0].value
    assert "bit for bit" in shown.success[0].value
    assert [about.split(",")[0] for about in charts(shown)[:2]] == ["For each layer", "The loss of a batch"]
    assert len(charts(shown)) == 5 + 2
    assert shown.button(key="watch").label == "Watch it once more"
    shown.selectbox(key="scores-of-layer").set_value(1).run()
    assert not shown.exception
    shown.number_input[0].set_value(1).run()
    assert "Scores are gone when a mask is learned" in said(shown)
    assert len(charts(shown)) == 2


def test_a_mask_that_came_out_otherwise_says_why(here):
    folder = here("masks")
    watched = watch_task(open_run(folder.path), folder.environment(), 0)
    other = replace(watched, bits_unlike_run=watched.bits // 100, unlike_run=("device: cuda then, cpu now",))
    write_watched(folder.path, other)
    (told,) = opened().warning
    assert (
        f"differs from the run's in {watched.bits // 100 / watched.bits:.3%} of its bits: device: cuda then"
        in told.value
    )
    write_watched(folder.path, replace(watched, statistics_as_run=False))
    (told,) = opened().warning
    assert "in no bit, and its running statistics differ: nothing else is known" in told.value


def test_a_record_that_changes_is_read_again(here):
    folder = here("masks")
    watched = watch_task(open_run(folder.path), folder.environment(), 0)
    write_watched(folder.path, watched)
    shown = opened()
    assert shown.success
    write_watched(folder.path, replace(watched, bits_unlike_run=1))
    shown.run()
    assert not shown.success
    assert "in 0.004% of its bits" in shown.warning[0].value


def test_the_button_puts_the_training_into_the_queue_once(here):
    here("masks")
    shown = opened()
    assert shown.button(key="watch").label == "Train this mask again and watch"
    shown.number_input[0].set_value(1).run()
    shown.button(key="watch").click().run()
    assert not shown.exception
    (job,) = queue().jobs()
    assert job.command == ("supsup-eval", "runs/masks", "--watch-task", "1")
    assert (job.about, job.device, job.state) == ("watch task 1 of masks", "cpu", "waiting")
    assert "Waits for its turn on cpu" in said(shown)
    assert not [button for button in shown.button if button.key == "watch"], "it is not offered twice"
    other_tab = opened()
    other_tab.number_input[0].set_value(1).run()
    assert "Waits for its turn on cpu" in said(other_tab)
    shown.button(key="stop-watching-1").click().run()
    assert not shown.exception
    assert queue().jobs()[0].state == "cancelled"
    shown.run()
    assert "The training was stopped before its end." in said(shown)
    assert shown.button(key="watch").label == "Train this mask again and watch"


def test_a_training_of_an_earlier_run_of_that_name_is_not_told_of(here):
    folder = here("masks")
    shown = opened()
    shown.button(key="watch").click().run()
    queue().stop(1)
    later = time.time() + 60
    os.utime(folder.path / "recipe.json", (later, later))
    assert "stopped before its end" not in said(opened())


def test_a_job_that_another_tab_forgot_is_no_error(here):
    here("masks")
    shown = opened()
    shown.button(key="watch").click().run()
    with sqlite3.connect(queue().folder / DATABASE) as connection:
        connection.execute("DELETE FROM jobs")
    shown.run()
    assert not shown.exception
    assert [button.key for button in shown.button if button.key == "watch"] == ["watch"]


def test_two_tabs_start_one_job(here):
    here("masks")
    tabs = opened(), opened()
    for tab in tabs:
        tab.button(key="watch").click().run()
        assert not tab.exception
    assert len(queue().jobs()) == 1
    assert "Waits for its turn on cpu" in said(tabs[1])


def test_a_real_job_ends_with_the_figures(here):
    folder = here("masks")
    shown = opened()
    shown.button(key="watch").click().run()
    runner = QueueRunner(queue().folder)
    with open(queue().folder / RUNNER_LOCK, "ab") as lock:
        assert try_lock(lock), "as the runner's own process does"
        runner.look()
        assert queue().jobs()[0].state == "running"
        shown.run()
        assert "Figures follow when it is done" in said(shown)
        runner.work()
    (job,) = queue().jobs()
    assert (job.state, job.status) == ("ended", 0), queue().log_tail(job.number)
    assert read_watched(folder.path, 0).as_run
    shown.run()
    assert not shown.exception
    assert "bit for bit" in shown.success[0].value
    assert len(charts(shown)) == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("state = 'ended', status = 2", "The last training failed with status 2. Its last words:"),
        ("state = 'died', status = -9", "The last training died with status -9. Its last words:"),
        ("state = 'ended', status = 130", "The training was stopped before its end."),
    ],
)
def test_a_training_that_failed_says_so_with_its_last_words(here, change, told):
    here("masks")
    shown = opened()
    shown.button(key="watch").click().run()
    (job,) = queue().jobs()
    queue().log_path(job.number).write_text("step 0 of 30\nerror: no space\n")
    queue().note(job.number, change, "state = 'waiting'")
    shown.run()
    assert told in said(shown)
    assert [code.value for code in shown.code] == ([] if "130" in change else ["step 0 of 30\nerror: no space"])
    assert [button.key for button in shown.button if button.key == "watch"] == ["watch"], "it can be tried again"


def test_a_stream_without_tasks_has_masks_to_compare(here):
    here("stream")
    shown = opened()
    assert "never told which task it learned" in said(shown)
    assert [button for button in shown.button if button.key == "watch"] == []
    count = len(open_run("runs/stream").bank)
    assert count > 1
    assert charts(shown) == [
        f"For each two of {count} masks, how much their masks have in common, as a heat map.",
        "The share of ones for each layer and mask, as a heat map.",
    ]


def test_a_recovery_is_shown_step_by_step(here):
    folder = here("hop")
    shown = opened()
    scores = folder.progress().checkpoints[-1].scores
    trace = scores[0].recovery
    assert shown.selectbox[1].value == 2, "the last test first"
    steps = len(trace.entropy)
    assert (shown.slider[0].min, shown.slider[0].max, shown.slider[0].value) == (1, steps, steps)
    assert len(charts(shown)) == 2
    for step in (steps, 3):
        shown.slider[0].set_value(step).run()
        assert [metric.value for metric in shown.metric] == [
            f"{sum(way[step - 1] for way in trace.distances.values()):,}",
            f"{trace.entropy[step - 1]:.3f}",
            f"{trace.energy[step - 1]:,.1f}",
            f"{trace.objective[step - 1]:.3f}",
        ]
    (outcome,) = shown.markdown
    found = "Found to the last unit" if trace.steps_to_right else "Not found"
    assert found in outcome.value
    assert f"**{scores[0].accuracy:.2%}** of the test images are right under the mask that was found" in outcome.value
    assert f"{trace.right_mask_accuracy:.2%} under the right one" in outcome.value
    shown.selectbox[2].set_value(1).run()
    assert f"**{scores[1].accuracy:.2%}**" in shown.markdown[0].value
    shown.selectbox[1].set_value(1).run()
    assert not shown.exception
    assert shown.selectbox[2].options == ["0"]


def test_without_right_masks_the_way_is_shown_and_the_rest_explained(here):
    here("forgetful")
    shown = opened()
    assert shown.metric[0].value == "unknown"
    assert "start a run with the field witness on" in said(shown)
    assert len(charts(shown)) == 1


def test_a_recovery_run_without_tests_says_when_there_will_be_some(here, tmp_path):
    begun(tmp_path / "runs" / "hop-1", HOP)
    shown = opened()
    assert "Nothing is tested yet" in said(shown)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("masks", "recipe.json", "{", "recipe.json"),
        ("masks", "bank/manifest.json", "{", "manifest.json"),
        ("masks", "watched-000000.json", "{", "watch it again: supsup-eval runs/masks --watch-task 0"),
        ("hop", "progress.json", "{", "progress.json: not JSON"),
        ("stream", "bank/shared.safetensors", "", "shared.safetensors"),
    ],
)
def test_damaged_files_are_told_in_a_line(here, name, file, content, message):
    folder = here(name)
    (folder.path / file).write_text(content)
    shown = opened()
    (error,) = shown.error
    assert message in error.value
    assert "Traceback" not in error.value


def test_damaged_masks_are_told_in_a_line(here):
    folder = here("masks")
    (shard,) = folder.bank.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[content.rindex(bytes(open_run(folder.path).bank.rows[1, :64].tolist()))] ^= 1
    shard.write_bytes(content)
    (error,) = opened().error
    assert "do not match their checksum" in error.value


def test_of_2500_tasks_a_hundred_are_shown(here, tmp_path):
    recipe = replace(SUPSUP, tasks=2500)
    folder, data = begun(tmp_path / "runs" / "large", recipe), embedded_mnist()
    net = build_problem(recipe, data, CPU).network()
    bank = MaskBank(net)
    assert net.num_bits % 8 == 0
    rows = torch.zeros((2500, row_bytes(net.num_bits)), dtype=torch.uint8)
    rows[:, : net.num_bits // 8] = torch.arange(2500).remainder(256).unsqueeze(1)
    bank.append_rows(rows)
    bank.save(folder.bank)
    shown = opened("large")
    assert "100 of 2,500 tasks are shown, at even distances" in said(shown)
    assert "For each two of 100 tasks, how much their masks have in common, as a heat map." in charts(shown)
    shown.slider(key="mask-range-large").set_range(300, 399).run()
    assert "are shown, at even distances" not in said(shown)
    assert "For each two of 100 tasks, how much their masks have in common, as a heat map." in charts(shown)


def test_a_job_that_another_tab_asked_for_is_no_error(here, monkeypatch):
    here("masks")
    shown = opened()

    def refused(self, *given):
        raise UsageError("runs/masks/watched-000000.json: a job for it waits or runs already; wait for it, or stop it")

    monkeypatch.setattr(JobQueue, "submit", refused)
    shown.button(key="watch").click().run()
    assert "a job for it waits or runs already" in shown.warning[0].value

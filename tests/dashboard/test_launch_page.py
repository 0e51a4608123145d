import fcntl
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from supsup_dashboard.launching.devices import Device
from supsup_dashboard.launching.recipe_fields import form_fields
from supsup_dashboard.queueing.jobs import JobQueue, queue
from supsup_methods.data_assembly import needs_data_root
from supsup_methods.recipes import RECIPES

CPU = Device("cpu", "2 cores")
GPUS = [Device("cuda:0", "NVIDIA H100, 79.6 GiB", "79.2 GiB"), Device("cuda:1", "NVIDIA H100, 79.6 GiB", "1.0 GiB")]
BUSY = [replace(GPUS[0], free="3.0 GiB"), replace(GPUS[1], free="70.0 GiB")]
DIGITS = "the 5,000 digits that ship with a dependency"

SHAPES = {tuple(field.path for field in form_fields(recipe)): name for name, recipe in RECIPES.items()}.values()
"""A recipe for each set of fields."""


def page():
    import streamlit as st
    from supsup_dashboard.pages import launch

    if not st.session_state.get("elsewhere"):
        launch.show()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPSUP_DATA_ROOT", raising=False)
    monkeypatch.setattr(JobQueue, "ensure_runner", lambda self: None)
    return tmp_path


def opened():
    shown = AppTest.from_function(page, default_timeout=60).run()
    assert not shown.exception
    return shown


def offer(monkeypatch, *there):
    monkeypatch.setattr("supsup_dashboard.pages.launch.available_devices", lambda: list(there))


def captions(shown):
    return " ".join(caption.value for caption in shown.caption)


def choose_job(shown, place):
    """Click on a row of the queue's table."""
    shown.session_state[shown.dataframe[0].key] = {"selection": {"rows": [place]}}
    shown.run()
    assert not shown.exception


def typed(shown):
    return next(code.value for code in shown.code if code.value.startswith("poetry run"))


def test_what_is_shown_first_is_the_demo(here):
    shown = opened()
    assert typed(shown) == "poetry run supsup-train demo --device auto"
    assert "Nothing was started from here yet" in shown.info[0].value
    assert "the 5,000 digits" in shown.caption[-1].value


def test_a_changed_field_is_in_the_command_and_start_puts_it_into_the_queue(here):
    shown = opened()
    shown.number_input(key="field-demo-tasks").set_value(3)
    shown.text_input(key="field-demo-backbone.hidden").set_value("30, 10")
    shown.number_input(key="field-demo-method.training.learning_rate").set_value(0.5)
    shown.selectbox(key="field-demo-method.inference.objective").set_value("G")
    shown.run()
    words = (
        "supsup-train demo --tasks 3 --backbone.hidden 30 10 --method.training.learning-rate 0.5 "
        "--method.inference.objective G --device auto"
    )
    assert typed(shown) == f"poetry run {words}"
    shown.button(key="start").click().run()
    assert not shown.exception
    assert "demo-1 is in the queue" in shown.success[0].value
    (job,) = queue().jobs()
    assert job.command == (*words.split(), "--out", "runs/demo-1")
    assert (job.place, job.device, job.about) == (Path("runs/demo-1"), "cpu", "demo, 3 tasks")
    shown.button(key="start").click().run()
    assert [each.place.name for each in queue().jobs()] == ["demo-2", "demo-1"], "another press, another run"


def test_where_the_folder_of_a_job_that_waits_was_removed_its_name_is_not_given_away(here):
    shown = opened()
    shown.button(key="start").click().run()
    (here / "runs" / "demo-1").rmdir()
    shown.button(key="start").click().run()
    assert not shown.exception
    assert not shown.error
    assert [job.place.name for job in queue().jobs()] == ["demo-2", "demo-1"]
    assert sorted(path.name for path in (here / "runs").glob("demo-*")) == ["demo-1", "demo-2"]


def test_what_the_file_system_refuses_is_told_in_a_line(here):
    shown = opened()
    (here / "runs").write_text("")
    shown.button(key="start").click().run()
    assert not shown.exception
    assert "runs" in shown.error[0].value


def test_a_job_that_waits_is_taken_back_with_its_name(here):
    shown = opened()
    shown.button(key="start").click().run()
    choose_job(shown, 0)
    shown.button(key="stop-1").click().run()
    assert not shown.exception
    assert queue().job(1).state == "cancelled"
    assert not (here / "runs" / "demo-1").exists()


def test_the_queue_begins_with_what_runs_and_what_waits_in_turn_and_one_chosen_job_can_be_stopped(here):
    for number in range(1, 61):
        queue().submit(("supsup-train", "demo"), f"job {number}", Path(f"runs/demo-{number}"), "cpu", str(number))
        if number <= 30:
            queue().note(number, "state = 'ended', status = 0", "state = 'waiting'")
    with open(queue().lock_path(31), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        queue().note(31, "state = 'running', pid = 0", "state = 'waiting'")
        shown = opened()
        jobs = shown.dataframe[0].value
        assert list(jobs["job"]) == [*range(31, 61), *range(30, 10, -1)]
        assert list(jobs["state"]) == ["running", *["waiting"] * 29, *["done"] * 20]
        assert "Choose a job that runs or waits to stop it." in captions(shown)
        choose_job(shown, 1)
        assert [button.label for button in shown.button if button.key != "start"] == ["Stop demo-32"]
    queue().note(31, "state = 'ended', status = 0", "state = 'running'")
    shown.run()
    assert shown.dataframe[0].value["job"][0] == 32
    assert [button.key for button in shown.button if button.key != "start"] == ["stop-32"], "it stays chosen"


def test_each_gpu_that_is_there_reaches_the_command(here, monkeypatch):
    offer(monkeypatch, *GPUS, CPU)
    shown = opened()
    assert typed(shown).endswith("--device cuda:0")
    assert "cuda:1 (NVIDIA H100, 79.6 GiB)" in shown.multiselect(key="devices").options
    assert "Free now: 79.2 GiB of cuda:0, 1.0 GiB of cuda:1." in captions(shown)
    shown.multiselect(key="devices").set_value(["cuda:0", "cuda:1"]).run()
    shown.button(key="start").click().run()
    assert queue().job(1).command[-3:] == ("cuda:0,cuda:1", "--out", "runs/demo-1")
    shown.multiselect(key="devices").set_value([]).run()
    assert shown.error[0].value == "Device: none is chosen; choose one"
    assert len(queue().jobs()) == 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backbone.hidden", "300 x", "hidden 300 x: it should be whole numbers"),
        ("backbone.hidden", "0", "hidden 0: it should be greater than or equal to 1"),
        ("evaluation.checkpoints", "-5", "checkpoints -5: it should be greater"),
    ],
)
def test_what_breaks_a_rule_is_told_in_a_line_and_not_started(here, key, value, message):
    shown = opened()
    shown.text_input(key=f"field-demo-{key}").set_value(value).run()
    assert message in shown.error[0].value
    assert not shown.get("button")


def test_chosen_gpus_stay_chosen_while_their_free_memory_changes(here, monkeypatch):
    offer(monkeypatch, *GPUS, CPU)
    shown = opened()
    shown.multiselect(key="devices").set_value(["cuda:1", "cuda:0"]).run()
    offer(monkeypatch, *BUSY, CPU)
    for tasks in (3, 4):
        shown.number_input(key="field-demo-tasks").set_value(tasks).run()
        assert typed(shown).endswith(f"--tasks {tasks} --device cuda:1,cuda:0")
    assert "Free now: 3.0 GiB of cuda:0, 70.0 GiB of cuda:1." in captions(shown)


def test_a_mistake_in_one_field_changes_nothing_elsewhere(here, monkeypatch):
    monkeypatch.setenv("SUPSUP_DATA_ROOT", str(here))
    offer(monkeypatch, *GPUS, CPU)
    shown = opened()
    shown.multiselect(key="devices").set_value(["cuda:1"])
    shown.radio(key="data").set_value(DIGITS)
    shown.number_input(key="field-demo-method.training.learning_rate").set_value(0.5)
    shown.text_input(key="field-demo-backbone.hidden").set_value("2 x").run()
    assert "hidden 2 x" in shown.error[0].value
    shown.text_input(key="field-demo-backbone.hidden").set_value("20").run()
    words = "supsup-train demo --backbone.hidden 20 --method.training.learning-rate 0.5 --device cuda:1"
    assert typed(shown) == f"poetry run {words}"


def test_the_form_is_as_it_was_after_a_look_at_another_page(here, monkeypatch):
    offer(monkeypatch, *GPUS, CPU)
    shown = opened()
    shown.selectbox(key="recipe").set_value("table3-psp").run()
    shown.number_input(key="field-table3-psp-tasks").set_value(7)
    shown.text_input(key="field-table3-psp-evaluation.checkpoints").set_value("2 4")
    shown.multiselect(key="devices").set_value(["cpu"]).run()
    for _ in range(2):
        before = typed(shown)
        assert before == "poetry run supsup-train table3-psp --tasks 7 --evaluation.checkpoints 2 4 --device cpu"
        shown.session_state["elsewhere"] = True
        shown.run()
        assert not shown.selectbox
        shown.session_state["elsewhere"] = False
        shown.run()
        assert typed(shown) == before


def test_checkpoints_that_the_run_does_not_come_to_are_told_before_the_start(here):
    shown = opened()
    shown.text_input(key="field-demo-evaluation.checkpoints").set_value("5 12").run()
    assert "--evaluation.checkpoints 12: the run ends after --tasks 10" in shown.error[0].value
    assert not shown.get("button")


@pytest.mark.parametrize(
    ("recipe", "root", "message"),
    [
        ("table2-supsup-c1", None, "--data-root: split-cifar100 needs data that comes with no library"),
        ("tiny-supsup-c1", ".", "split-image-folder needs a folder tiny-imagenet-32 in it"),
        ("splitimagenet-supsup-c4", ".", "split-imagenet needs a folder imagenet in it"),
        ("folder-own", ".", "--backbone.factory: it names code to run"),
    ],
)
def test_what_cannot_be_carried_out_here_is_told_and_cannot_be_started(here, monkeypatch, recipe, root, message):
    if root is not None:
        monkeypatch.setenv("SUPSUP_DATA_ROOT", str(here))
    shown = opened()
    shown.selectbox(key="recipe").set_value(recipe).run()
    assert message in shown.warning[0].value
    assert shown.button(key="start").disabled
    assert typed(shown).startswith(f"poetry run supsup-train {recipe} ")
    assert "5,000 digits" not in captions(shown)


def test_what_does_not_go_together_is_told_by_the_commands_own_rules(here):
    shown = opened()
    shown.text_input(key="field-demo-backbone.hidden").set_value("300 100")
    shown.number_input(key="field-demo-backbone.outputs").set_value(5).run()
    assert "--backbone.outputs 5: a task has 10 labels, and each needs an output" in shown.warning[0].value
    assert shown.button(key="start").disabled


def test_data_that_is_there_lets_it_start(here, monkeypatch):
    (here / "tiny-imagenet-32").mkdir()
    monkeypatch.setenv("SUPSUP_DATA_ROOT", str(here))
    shown = opened()
    shown.selectbox(key="recipe").set_value("tiny-supsup-c1").run()
    assert not shown.warning
    assert not shown.button(key="start").disabled


def test_the_notice_of_a_start_goes_with_its_job(here):
    shown = opened()
    shown.button(key="start").click().run()
    assert "demo-1 is in the queue" in shown.success[0].value
    queue().stop(1)
    shown.run()
    assert not shown.success


def test_the_last_words_of_a_job_that_failed_lately_are_shown(here):
    shown = opened()
    shown.button(key="start").click().run()
    (here / "runs" / "queue" / "job-000001.log").write_text("error: no space\n")
    queue().note(1, "state = 'ended', status = 2", "state = 'waiting'")
    shown.run()
    assert "The last words of demo-1, which failed with status 2:" in captions(shown)
    assert "error: no space" in [code.value for code in shown.code]
    queue().note(1, "asked = '2026-01-01T00:00:00+00:00'", "1")
    shown.run()
    assert "last words" not in captions(shown), "it is old news"


def test_the_data_root_is_chosen_where_the_dashboard_was_started(here, monkeypatch):
    monkeypatch.setenv("SUPSUP_DATA_ROOT", str(here))
    shown = opened()
    assert typed(shown).endswith(f"--data-root {here}")
    shown.radio(key="data").set_value(DIGITS).run()
    assert "--data-root" not in typed(shown)
    monkeypatch.setenv("SUPSUP_DATA_ROOT", str(here / "gone"))
    shown.run()
    assert "there is no such folder; check the path" in shown.error[0].value


def test_code_is_named_in_a_terminal_only(here):
    shown = opened()
    shown.selectbox(key="recipe").set_value("folder-own").run()
    assert not shown.exception
    assert shown.text_input(key="field-folder-own-backbone.factory").disabled


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_recipe_has_its_form(here, name):
    shown = opened()
    shown.selectbox(key="recipe").set_value(name).run()
    assert not shown.exception
    assert not shown.error
    assert typed(shown) == f"poetry run supsup-train {name} --device auto"
    assert len(shown.warning) == needs_data_root(RECIPES[name].stream)

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from supsup_dashboard.launching import devices
from supsup_dashboard.launching.devices import Device
from supsup_dashboard.launching.recipe_fields import form_fields
from supsup_dashboard.queueing.jobs import JobQueue, queue
from supsup_methods.recipes import RECIPES

GPUS = [Device("cuda:0", "NVIDIA H100, 79.2 of 79.6 GiB free"), Device("cuda:1", "NVIDIA H100, 1.0 of 79.6 GiB free")]

SHAPES = {tuple(field.path for field in form_fields(recipe)): name for name, recipe in RECIPES.items()}.values()
"""A recipe for each set of fields."""


def page():
    from supsup_dashboard.pages import launch

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


def test_a_job_that_waits_is_taken_back_with_its_name(here):
    shown = opened()
    shown.button(key="start").click().run()
    shown.button(key="stop-1").click().run()
    assert not shown.exception
    assert queue().job(1).state == "cancelled"
    assert not (here / "runs" / "demo-1").exists()


def test_each_gpu_that_is_there_reaches_the_command(here, monkeypatch):
    monkeypatch.setattr(devices, "available_devices", lambda: [*GPUS, Device("cpu", "2 cores")])
    monkeypatch.setattr("supsup_dashboard.pages.launch.available_devices", devices.available_devices)
    shown = opened()
    assert typed(shown).endswith("--device cuda:0")
    assert "cuda:1 (NVIDIA H100, 1.0 of 79.6 GiB free)" in shown.multiselect(key="devices").options
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


def test_the_data_root_is_chosen_where_the_dashboard_was_started(here, monkeypatch):
    monkeypatch.setenv("SUPSUP_DATA_ROOT", str(here))
    shown = opened()
    assert typed(shown).endswith(f"--data-root {here}")
    shown.radio(key="data").set_value("the 5,000 digits that ship with a dependency").run()
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

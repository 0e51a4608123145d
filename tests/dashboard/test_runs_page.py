"""The page of runs, on real runs and on written ones; processes that hold a run's lock are real."""

import dataclasses
import fcntl
import json
import os
import re
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from supsup_dashboard.plain_text import plain
from supsup_dashboard.queueing.jobs import Job, queue
from supsup_dashboard.runs.comparison import differences, settings_of
from supsup_dashboard.runs.rows import Row, jobs_to_show, run_rows
from supsup_dashboard.runs.table import table_of
from supsup_dashboard.runs.units import spoken_seconds
from supsup_datasets import embedded_mnist
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.run_listing import RunLine
from supsup_methods.running import execute
from supsup_methods.supsup import SupSupSettings

from ..methods.test_run_listing import write_run
from ..methods.test_running import CPU, RECIPE, Watcher, begin
from .runs_page import buttons, held, opened, runs_table, told


def test_without_runs_it_says_how_to_start_one(here):
    page = opened()
    assert "poetry run supsup-train" in page.info[0].value
    (here / "runs").rmdir()
    assert "poetry run supsup-train" in opened().info[0].value


def test_a_real_run_and_its_figures(here):
    folder = begin(here / "runs" / "demo-1")
    summary = execute(folder, RECIPE, embedded_mnist(), CPU, Watcher())
    begin(here / "runs" / "demo-2")
    page = opened()
    rows = runs_table(page)
    assert rows.loc["demo-1", "state"] == "done"
    assert rows.loc["demo-2", "state"] == "stopped"
    assert rows.loc["demo-1", "accuracy"] == folder.progress().checkpoints[-1].accuracy
    assert rows.loc["demo-1", "bytes"] == 3 * 34_400
    assert list(rows.loc[["demo-1", "demo-2"], "progress"]) == [1.0, 0.0]
    assert "2 runs. Choose one" in told(page)
    assert buttons(page) == set()
    page = opened("demo-1")
    figures = {each.label: each.value for each in page.metric}
    assert figures["Accuracy"] == f"{summary['checkpoints'][-1]['accuracy']:.2%}"
    assert figures["Task inference accuracy"] == f"{summary['checkpoints'][-1]['task_inference_accuracy']:.2%}"
    assert figures["Stored"] == "103.2 kB"
    assert figures["Training"] == spoken_seconds(summary["seconds"]["train"])
    assert "started in a terminal" in told(page)
    assert buttons(page) == {"ask-to-delete"}
    page = opened("demo-2")
    assert "Nothing is tested yet" in told(page)
    assert {each.label for each in page.metric} == {"Training"}


def test_a_damaged_run_says_so_and_the_others_are_there(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,) * 3, checkpoints=[(3, 900, 8)], done=True)
    folder = begin(here / "runs" / "demo-2")
    (folder.path / "recipe.json").write_text("{")
    rows = runs_table(opened())
    assert rows.loc["demo-2", "state"] == "damaged"
    assert "runs/demo-2/recipe.json: not JSON" in rows.loc["demo-2", "problem"]
    assert rows.loc["demo-1", "state"] == "done"
    page = opened("demo-2")
    assert "recipe.json: not JSON" in page.error[0].value
    assert buttons(page) == {"ask-to-delete"}, "there is no recipe to go on with"
    page = opened("demo-1", "demo-2")
    assert "recipe.json: not JSON" in page.error[0].value


def test_what_is_no_run_any_more_or_of_another_kind_takes_no_other_run_away(here):
    runs = here / "runs"
    for name in ("demo-1", "lock-is-a-folder", "recipe-is-a-folder", "long-seed"):
        write_run(runs / name, seconds=(2.0,) * 3, checkpoints=[(3, 900, 8)], done=True)
    (runs / "lock-is-a-folder" / "lock").mkdir()
    (runs / "recipe-is-a-folder" / "recipe.json").unlink()
    (runs / "recipe-is-a-folder" / "recipe.json").mkdir()
    recipe = json.loads((runs / "long-seed" / "recipe.json").read_text())
    (runs / "long-seed" / "recipe.json").write_text(json.dumps({**recipe, "seed": 2**63}))
    (runs / "loop").symlink_to("loop")
    write_run(runs / os.fsdecode(b"no letters \xff"))
    page = opened()
    states = runs_table(page)["state"].to_dict()
    assert states.pop("demo-1") == "done"
    assert states == dict.fromkeys(("lock-is-a-folder", "recipe-is-a-folder", "long-seed"), "damaged")
    for name in states:
        page = opened(name)
        assert name in page.error[0].value
    page = opened("demo-1", *states)
    assert "recipe-is-a-folder" in told(page)


def test_a_run_with_damaged_results_can_be_resumed(here):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,) * 3, checkpoints=[(3, 900, 8)], done=True)
    (folder.path / "summary.json").write_text("{}")
    page = opened("demo-1")
    assert "go on with supsup-train --resume" in page.error[0].value
    assert "resume-runs" in buttons(page)


def test_a_link_to_what_is_no_run_chooses_nothing(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    page = opened("../../etc", "demo-9")
    assert "Choose one" in told(page)
    assert "run" not in page.query_params


def test_the_filter_is_as_it_was_after_a_look_at_another_page(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    write_run(here / "runs" / "demo-2", seconds=(2.0,))
    page = AppTest.from_string(
        "import streamlit as st\n"
        "from supsup_dashboard.pages import runs\n"
        "if not st.session_state.get('elsewhere'): runs.show()\n",
        default_timeout=60,
    ).run()
    (state,) = runs_table(page)["state"].unique()
    page.text_input(key="runs-filter").set_value("demo-2")
    page.multiselect(key="runs-states").set_value([state]).run()
    for elsewhere in (True, False):
        page.session_state["elsewhere"] = elsewhere
        page.run()
        assert bool(page.text_input) != elsewhere
    assert list(runs_table(page).index) == ["demo-2"]
    assert page.multiselect(key="runs-states").value == [state]


def test_what_is_chosen_stays_so_while_the_filter_hides_it(here):
    for name in ("demo-1", "demo-2", "demo-3"):
        write_run(here / "runs" / name, seconds=(2.0,))
    page = opened("demo-2", "demo-1")
    page.text_input(key="runs-filter").set_value("demo-2").run()
    assert list(runs_table(page).index) == ["demo-2"]
    assert page.query_params["run"] == ["demo-2", "demo-1"]
    assert [each.value for each in page.subheader] == ["demo-2"], "what is hidden is not acted on"
    page.text_input(key="runs-filter").set_value("demo-3").run()
    assert page.query_params["run"] == ["demo-2", "demo-1"]
    assert "Choose one" in told(page)
    page.text_input(key="runs-filter").set_value("").run()
    assert [each.value for each in page.subheader] == ["2 runs side by side"]
    assert sorted(page.query_params["run"]) == ["demo-1", "demo-2"]


def test_what_is_chosen_stays_so_in_the_same_table_when_runs_come_and_go(here):
    for name in ("demo-1", "demo-2"):
        write_run(here / "runs" / name, seconds=(2.0,))
    page = opened("demo-1")
    before = next(each for each in page.dataframe if "progress" in each.value)
    write_run(here / "runs" / "demo-3", seconds=(2.0,))
    page.run()
    table = next(each for each in page.dataframe if "progress" in each.value)
    assert list(table.value["run"]) == ["demo-3", "demo-2", "demo-1"]
    assert table.proto.id == before.proto.id, "another table would forget how it was sorted"
    assert page.session_state["runs-table"]["selection"]["rows"] == [2]
    assert [each.value for each in page.subheader] == ["demo-1"]
    page.session_state["runs-table"] = {"selection": {"rows": [0, 2]}}
    page.run()
    shutil.rmtree(here / "runs" / "demo-2")
    page.run()
    assert page.query_params["run"] == ["demo-3", "demo-1"]
    assert page.session_state["runs-table"]["selection"]["rows"] == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "a_b",
        "*a*",
        ":red[a]",
        ":smile:",
        ":+1:",
        ":100:",
        "1. a",
        "- a",
        "a $b$ c",
        "`a`",
        "[a](b)",
        "# a",
        "<b>",
        "&amp;",
        "a|b",
    ],
)
def test_marks_of_somebody_elses_text_mark_nothing_up(text):
    shown = plain(text)
    assert shown != text
    assert re.sub(r"\\(.)", r"\1", shown) == text, "a backslash before a mark is all there is to it"


@pytest.mark.parametrize(
    "text", ["demo-1", "error: no space", "at 12:30 UTC", "a & b", "1.5 s", "runs/demo-1: damaged; mend it"]
)
def test_texts_without_marks_stay_as_they_are(text):
    assert plain(text) == text


def test_a_run_of_which_somebody_elses_text_is_shown_as_it_is(here):
    write_run(here / "runs" / "a_b_", seconds=(2.0,), ended="TypeError: __init__() got `x` $1$ and :red[y]")
    page = opened("a_b_")
    assert page.subheader[0].value == r"a\_b\_"
    assert r"\_\_init\_\_() got \`x\` \$1\$ and \:red\[y\]" in page.error[0].value


@pytest.mark.parametrize(("learned", "percent"), [(2495, 0.99), (2500, 1.0), (1, 0.0), (25, 0.01)])
def test_progress_is_full_at_the_end_alone(learned, percent):
    line = RunLine(name="demo-1", state="running", learned=learned, tasks=2500)
    assert list(table_of([Row(line, "running", None, False)])["progress"]) == [percent]


def test_the_log_is_of_the_process_that_trained_the_run_last_or_failed_to(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,), ended="stopped")  # by process 1

    def job_of(*jobs):
        (row,) = run_rows(jobs)
        return None if row.job is None else row.job.number

    place = Path("runs/demo-1")
    trained = dataclasses.replace(job(1, status=130, place=place), pid=1)
    of_another = dataclasses.replace(job(2, place=place), pid=2)
    cancelled = job(3, "cancelled", None, place)
    failed = dataclasses.replace(job(4, status=2, place=place), pid=4)
    failed_long_ago = dataclasses.replace(job(5, status=2, place=place, days=1), pid=5)
    assert job_of(trained) == 1
    assert job_of(of_another) is None, "of an earlier run of that name, or of before a terminal went on with it"
    assert job_of(cancelled, trained) == 1
    assert job_of(failed, trained) == 4, "its log says why the run did not go on"
    assert job_of(failed_long_ago) is None


def test_what_is_unchecked_is_not_chosen_any_more_and_what_is_hidden_stays_so(here):
    for name in ("demo-1", "demo-2"):
        write_run(here / "runs" / name, seconds=(2.0,))
    page = opened("demo-1", "demo-2")
    page.text_input(key="runs-filter").set_value("demo-2").run()
    page.session_state["runs-table"] = {"selection": {"rows": []}}
    page.run()
    assert page.query_params["run"] == "demo-1"


def test_before_the_first_run_has_begun_it_is_said_to_be_about_to(here):
    queue().submit(("supsup-train", "demo", "--out", "runs/demo-1"), "demo", Path("runs/demo-1"), "cpu", "t1")
    assert opened().info[0].value == "demo-1 is about to begin."


def test_filters(here):
    psp = dataclasses.replace(RECIPE, name="other", method=PspSettings())
    write_run(here / "runs" / "demo-1", seconds=(2.0,) * 3, checkpoints=[(3, 900, 8)], done=True)
    folder = write_run(here / "runs" / "demo-2", seconds=(2.0,), ended="", device="cuda:1")
    write_run(here / "runs" / "other-1", recipe=psp, seconds=(2.0,), ended="OSError: no space left")

    def shown(page):
        return set(runs_table(page).index)

    page = opened()
    assert shown(page) == {"demo-1", "demo-2", "other-1"}
    assert shown(page.text_input(key="runs-filter").set_value("DEMO cuda").run()) == {"demo-2"}
    page.text_input(key="runs-filter").set_value("no space")
    assert shown(page.run()) == {"other-1"}
    page.text_input(key="runs-filter").set_value("")
    assert shown(page.multiselect(key="runs-methods").set_value(["psp"]).run()) == {"other-1"}
    page.multiselect(key="runs-methods").set_value([])
    assert shown(page.multiselect(key="runs-recipes").set_value(["demo"]).run()) == {"demo-1", "demo-2"}
    assert "2 of 3 runs" in told(page)
    assert shown(page.multiselect(key="runs-states").set_value(["died"]).run()) == {"demo-2"}
    with folder.locked():
        assert page.run().multiselect(key="runs-states").value == ["died"]
        assert "None of the 3 runs is like that" in told(page), (
            "a filter stays when the last run that it lets through has gone"
        )
    page.multiselect(key="runs-states").set_value([])
    assert shown(page.run()) == {"demo-1", "demo-2"}
    page.text_input(key="runs-filter").set_value("nothing is called so").run()
    assert "None of the 3 runs is like that" in told(page)


def test_a_run_that_goes_on_a_stop_and_a_death(here):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0, 4.0))
    write_run(here / "runs" / "newer", seconds=(2.0,))
    with held(folder) as process:
        page = opened("demo-1")
        rows = runs_table(page)
        assert rows.index[0] == "demo-1", "what goes on is on top"
        assert rows.loc["demo-1", "state"] == "running"
        assert rows.loc["demo-1", "steps/s"] == pytest.approx(10 / 3.0)
        (bar,) = page.get("progress")
        assert "running · 2 of 3 tasks learned · 3.3 steps/s · 3.0 s a task" in bar.proto.text
        assert bar.proto.value == 66
        assert page.button(key="ask-to-delete").disabled
        page.button(key="stop-runs").click().run()
        assert not page.exception
        assert process.wait(timeout=30) != 0
        assert "asked to stop" in page.toast[0].value
    page.run()
    assert runs_table(page).loc["demo-1", "state"] == "stopped"
    assert "stop-runs" not in buttons(page)
    with held(folder) as process:
        process.kill()
        process.wait()
        assert runs_table(opened()).loc["demo-1", "state"] == "died"


def test_it_is_looked_at_again_more_often_while_something_goes_on(here, monkeypatch):
    seen = []

    def fragment(function, run_every=None):
        seen.append(run_every)
        return function

    monkeypatch.setattr(st, "fragment", fragment)
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,))
    opened()
    assert seen == [10, 30], "and 30 for runs elsewhere"
    with folder.locked():
        opened()
    assert seen[2:] == [2, 30]
    queue().submit(("supsup-reproduce", "table3"), "table 3", None, "cpu", "token")
    opened()
    assert seen[4:] == [2, 30]


def test_resume_puts_a_job_in_the_queue_once(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,), ended="stopped", device="cuda:1")
    page, other_tab = opened("demo-1"), opened("demo-1")
    page.button(key="resume-runs").click().run()
    other_tab.button(key="resume-runs").click().run()
    assert not page.exception
    assert not other_tab.exception
    (job,) = queue().jobs()
    assert job.command == ("supsup-train", "--resume", "--out", "runs/demo-1")
    assert (job.place, job.device, job.state) == (Path("runs/demo-1"), "cuda:1", "waiting")
    page.run()
    assert runs_table(page).loc["demo-1", "state"] == "waiting"
    assert "resume-runs" not in buttons(page)
    assert page.button(key="ask-to-delete").disabled
    assert "has not written anything yet" in told(page)
    queue().note(job.number, "state = 'running'", "state = 'waiting'")
    queue().log_path(job.number).write_text("\n".join(f"line {number}" for number in range(100)))
    with open(queue().lock_path(job.number), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        page = opened("demo-1")
        assert runs_table(page).loc["demo-1", "state"] == "starting"
        assert any(each.value.splitlines() == [f"line {number}" for number in range(60, 100)] for each in page.code)


def test_a_job_that_let_go_of_its_run_is_not_starting(here):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,), ended="stopped")  # by process 1

    def state(pid):
        mine = dataclasses.replace(job(1, "running", None, Path("runs/demo-1")), pid=pid)
        (row,) = run_rows([mine])
        return row.state

    assert state(2) == "starting"
    assert state(None) == "starting"
    assert state(1) == "stopped"
    with folder.locked():
        assert state(2) == "running"


def test_a_job_that_waits_is_cancelled_by_stop(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,), ended="stopped")
    page = opened("demo-1")
    page.button(key="resume-runs").click().run()
    page.run()
    page.button(key="stop-runs").click().run()
    assert [job.state for job in queue().jobs()] == ["cancelled"]
    page.run()
    assert runs_table(page).loc["demo-1", "state"] == "stopped"


def test_a_job_for_the_same_run_that_came_in_between_is_told(here, monkeypatch):
    write_run(here / "runs" / "demo-1", seconds=(2.0,), ended="stopped")
    page = opened("demo-1")
    queue().submit(("supsup-eval", "runs/demo-1"), "asked again", Path("runs/demo-1"), "cpu", "token")
    page.button(key="resume-runs").click().run()
    assert "a job for it waits or runs already" in page.error[0].value
    assert len(queue().jobs()) == 1


def test_chosen_runs_side_by_side(here):
    longer = dataclasses.replace(RECIPE, seed=7, method=SupSupSettings(training=MaskTraining(batches=200)))
    write_run(here / "runs" / "a", seconds=(2.0,) * 3, checkpoints=[(3, 900, 8)], done=True)
    write_run(here / "runs" / "b", recipe=longer, seconds=(4.0, 6.0), ended="stopped", device="cuda:0")
    page = opened("a", "b")
    figures, settings = (each.value for each in page.dataframe if "a" in each.value and "b" in each.value)
    assert dict(figures["a"]) == {
        "state": "done",
        "tasks learned": "3 of 3",
        "accuracy": "90.00%",
        "task inference accuracy": "100.00%",
        "training": "6.0 s",
        "training of a task": "2.0 s",
        "stored": "103.2 kB",
    }
    assert dict(figures["b"]) == {
        "state": "stopped",
        "tasks learned": "2 of 3",
        "accuracy": "–",
        "task inference accuracy": "–",
        "training": "10 s",
        "training of a task": "5.0 s",
        "stored": "–",
    }
    assert settings.to_dict("index") == {
        "seed": {"a": "0", "b": "7"},
        "method.training.batches": {"a": "10", "b": "200"},
        "device": {"a": "cpu", "b": "cuda:0"},
    }
    write_run(here / "runs" / "c", seconds=(1.0,) * 3, checkpoints=[(3, 800, 8)], done=True)
    assert "with the same settings" in told(opened("a", "c"))


def test_settings_that_only_one_run_has_are_told_apart(here):
    psp = dataclasses.replace(RECIPE, method=PspSettings())
    one, other = write_run(here / "runs" / "a"), write_run(here / "runs" / "b", recipe=psp)
    table = differences({"a": settings_of(one), "b": settings_of(other)})
    assert table.loc["method.kind"].to_dict() == {"a": "supsup", "b": "psp"}
    assert table.loc["method.inference.objective"].to_dict() == {"a": "H", "b": "–"}
    assert "tasks" not in table.index
    assert settings_of(one)["backbone.hidden"] == "300 100"


def job(number, state="ended", status=0, place=None, command=("supsup-train", "demo"), days=0.0):
    asked = datetime.now(UTC) - timedelta(days=days)
    return Job(number, command, f"job {number}", place, "cpu", state, status, None, asked)


def test_which_jobs_are_shown():
    jobs = [
        job(9, "waiting", None),
        job(8, "running", None),
        job(7, "ended", 2, Path("runs/a")),
        job(6, "died", -9),
        job(5, "ended", 130),
        job(4, "ended", None),
        job(3, "cancelled", None),
        job(2, "ended", 2, Path("runs/a")),
        job(1, "ended", 2, days=8),
    ]
    assert [each.number for each in jobs_to_show(jobs)] == [9, 8, 7, 6], "2 was asked for again, 1 is old"


def test_jobs_are_listed_with_their_logs(here):
    queue().submit(("supsup-train", "demo", "--out", "runs/demo-5"), "demo", Path("runs/demo-5"), "cpu", "one")
    queue().submit(("supsup-reproduce", "table3"), "table 3", None, "cuda:0", "two")
    queue().submit(("supsup-train", "demo --evil $(x)"), "odd", None, "", "three")
    queue().note(3, "state = 'ended', status = 2", "state = 'waiting'")
    queue().log_path(3).write_text("error: recipe demo --evil $(x): not known\n")
    page = opened()
    assert page.expander[0].label == "Jobs", "another label would close it"
    assert "Jobs: 1 failed, 2 waiting" in told(page)
    jobs = page.dataframe[0].value
    assert list(jobs["job"]) == [3, 2, 1]
    assert list(jobs["state"]) == ["failed", "waiting", "waiting"]
    assert list(jobs["exit status"].fillna(-1)) == [2, -1, -1]
    page.session_state["jobs-of-runs"] = {"selection": {"rows": [0]}}
    page.run()
    assert [each.value for each in page.code] == [
        "poetry run supsup-train 'demo --evil $(x)'",
        "error: recipe demo --evil $(x): not known",
    ]
    queue().submit(("supsup-reproduce", "table4"), "table 4", None, "cuda:0", "four")
    page.run()
    assert page.code[1].value == "error: recipe demo --evil $(x): not known", "it stays chosen, in another row"
    page.session_state["jobs-of-runs"] = {"selection": {"rows": [3]}}
    page.run()
    page.button(key="stop-job-1").click().run()
    assert not page.exception
    assert queue().job(1).state == "cancelled"


def test_a_thousand_runs(here, capsys):
    for number in range(1000):
        write_run(here / "runs" / f"demo-{number}", seconds=(2.0,) * 3, checkpoints=[(3, number % 1000, 8)], done=True)
    opened_in = []
    for _ in range(3):
        start = time.perf_counter()
        page = opened("demo-500")
        opened_in.append(f"{time.perf_counter() - start:.2f} s")
    with capsys.disabled():
        print(f"\nthe page of 1,000 runs, three times: {', '.join(opened_in)}")  # noqa: T201
    rows = runs_table(page)
    assert len(rows) == 1000
    assert rows.loc["demo-123", "accuracy"] == 0.123
    assert {each.label: each.value for each in page.metric}["Accuracy"] == "50.00%"

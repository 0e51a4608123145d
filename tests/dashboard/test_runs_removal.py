"""Deleting runs: what is asked first, what is refused, and that nobody ever sees half of one."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from supsup_dashboard.queueing.jobs import queue
from supsup_dashboard.runs import removal as run_removal
from supsup_dashboard.runs.removal import remove_run
from supsup_dashboard.runs.rows import run_rows
from supsup_methods.errors import UsageError
from supsup_methods.run_folder import RUNS, RunFolder
from supsup_methods.runs import find_runs
from supsup_methods.watched_records import watched_path

from ..methods.test_run_listing import write_run
from .runs_page import buttons, opened, runs_table


def asked_to_delete(*names):
    """Return the dialog. The button that opens it belongs to another part of the page, which here would run again without it."""
    script = f"from supsup_dashboard.runs.removal import ask_to_delete\nask_to_delete({list(names)!r})"
    return AppTest.from_string(script, default_timeout=60).run()


def test_deleting_asks_once_more(here):
    for name in ("demo-1", "demo-2", "demo-3"):
        write_run(here / "runs" / name, seconds=(2.0,))
    page = opened("demo-1", "demo-2")
    page.button(key="ask-to-delete").click().run()
    assert any("Delete 2 runs (" in each.value for each in page.markdown)
    assert {"keep-runs", "delete-runs"} <= buttons(page)
    dialog = asked_to_delete("demo-1", "demo-2")
    dialog.button(key="keep-runs").click().run()
    assert not dialog.exception
    assert len(run_rows([])) == 3
    dialog.button(key="delete-runs").click().run()
    assert not dialog.exception
    assert [entry.name for entry in (here / "runs").iterdir()] == ["demo-3"]
    assert list(runs_table(page.run()).index) == ["demo-3"]


def test_what_was_deleted_is_told_on_the_page(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    dialog = asked_to_delete("demo-1")
    dialog.button(key="delete-runs").click().run()
    page = opened()
    page.session_state["deleted-runs"] = dialog.session_state["deleted-runs"]
    assert [toast.value for toast in page.run().toast] == ["Deleted demo-1"]
    assert not page.run().toast


def test_of_several_runs_those_that_are_free_go_and_what_keeps_the_others_is_told(here):
    for name in ("demo-1", "demo-2"):
        write_run(here / "runs" / name, seconds=(2.0,))
    dialog = asked_to_delete("demo-3", "demo-1", "demo-2")  # of which another tab deleted the first
    with RunFolder(Path("runs/demo-1")).locked():
        dialog.button(key="delete-runs").click().run()
    told = dialog.error[0].value
    assert "runs/demo-1: a process works on it; stop it first" in told
    assert "Deleted 2 runs (demo-3, demo-2)." in told
    assert [entry.name for entry in (here / "runs").iterdir()] == ["demo-1"]


def test_what_began_meanwhile_is_not_deleted(here):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,))
    dialog = asked_to_delete("demo-1")
    with folder.locked():
        dialog.button(key="delete-runs").click().run()
        assert dialog.error[0].value == "runs/demo-1: a process works on it; stop it first"
    assert folder.holds_run


def test_nobody_sees_half_a_run(here, monkeypatch):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,))
    write_run(here / "runs" / "demo-2", seconds=(2.0,))
    seen, remove = [], run_removal.shutil.rmtree

    def rmtree(path, ignore_errors):
        seen.append([found.path.name for found in find_runs(RUNS)])
        seen.append([row.name for row in run_rows([])])
        (path / "demo-1" / "recipe.json").unlink()
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(run_removal.shutil, "rmtree", rmtree)
    remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert seen == [["demo-2"], ["demo-2"]]
    assert not folder.path.exists()


def test_what_a_stop_midway_left_is_removed_with_the_next(here):
    write_run(here / "runs" / ".deleted-0123456789abcdef" / "demo-7", seconds=(2.0,))
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert list((here / "runs").iterdir()) == []


def test_nothing_outside_of_runs_is_deleted(here):
    outside = write_run(here / "outside" / "demo-1", seconds=(2.0,))
    (here / "runs" / "link").symlink_to(outside.path)
    bank = outside.path / "bank"
    inside = write_run(here / "runs" / "demo-2")
    inside.bank.symlink_to(bank)
    for path in ("runs/link", "runs/../outside/demo-1", "outside/demo-1", "runs/nothing", "runs/..", str(outside.path)):
        with pytest.raises(UsageError, match=r"no run in runs/|it is a link to"):
            remove_run(RunFolder(Path(path)), queue())
    dialog = asked_to_delete("link")
    dialog.button(key="delete-runs").click().run()
    assert "runs/link: it is a link to" in dialog.error[0].value
    remove_run(RunFolder(Path("runs/demo-2")), queue())
    assert not inside.path.exists()
    assert (bank / "manifest.json").exists()
    assert outside.holds_run


def test_runs_may_themselves_be_a_link_to_a_larger_disk(here):
    (here / "runs").rmdir()
    (here / "disk").mkdir()
    (here / "runs").symlink_to(here / "disk")
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert list((here / "disk").iterdir()) == []


def test_a_run_with_an_open_job_is_not_deleted(here):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,))
    queue().submit(("supsup-eval", "runs/demo-1"), "asked again", Path("runs/demo-1"), "cpu", "token")
    with pytest.raises(UsageError, match=r"job 1 of the queue \(asked again\) works on it, or will; stop or cancel"):
        remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert folder.holds_run
    (job,) = queue().jobs()
    queue().cancel(job.number)
    remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert not folder.path.exists()


def test_deleting_does_not_lie_about_how_a_run_ended(here):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,), ended="stopped")
    queue().submit(("supsup-eval", "runs/demo-1"), "asked again", Path("runs/demo-1"), "cpu", "token")
    before = (folder.path / "lock").read_bytes()
    with pytest.raises(UsageError):
        remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert (folder.path / "lock").read_bytes() == before


@pytest.mark.parametrize("change", ["state = 'running'", "state = 'died'"])
def test_a_run_is_not_deleted_before_its_job_knows_that_the_process_is_gone(here, change):
    """In between, the queue would refuse."""
    write_run(here / "runs" / "demo-1", seconds=(2.0,), ended="")
    job = queue().submit(("supsup-train", "demo"), "demo", Path("runs/demo-1"), "cpu", "token")
    queue().note(job.number, change, "state = 'waiting'")
    job = queue().job(job.number)
    (row,) = run_rows([job])
    assert (row.state, row.job) == ("starting" if job.is_open else "died", job)
    assert row.is_held is job.is_open


def test_a_run_whose_mask_is_watched_is_not_deleted(here):
    folder = write_run(here / "runs" / "demo-1", seconds=(2.0,))
    write_run(here / "runs" / "demo-2", seconds=(2.0,))
    job = watch(Path("runs/demo-1"))
    rows = {row.name: row for row in run_rows(queue().jobs())}
    assert {name: row.is_held for name, row in rows.items()} == {"demo-1": True, "demo-2": False}
    assert rows["demo-1"].job is None, "its log is not that of the training"
    assert opened("demo-1").button(key="ask-to-delete").disabled
    with pytest.raises(UsageError, match=r"job 1 of the queue \(watch task 0\) works on it, or will"):
        remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert folder.holds_run
    queue().cancel(job.number)
    remove_run(RunFolder(Path("runs/demo-1")), queue())
    assert not folder.path.exists()


def test_a_run_of_a_name_that_was_deleted_has_nothing_of_the_other(here):
    path = Path("runs/demo-1")
    write_run(here / path, seconds=(2.0,))
    trained = queue().submit(("supsup-train", "demo", "--out", "runs/demo-1"), "demo", path, "cpu", "one")
    queue().note(trained.number, "state = 'ended', status = 2", "state = 'waiting'")
    watched = watch(path)
    queue().note(watched.number, "state = 'ended', status = 2", "state = 'waiting'")
    other = queue().submit(("supsup-train", "demo"), "demo", Path("runs/demo-10"), "cpu", "other")
    for job in (trained, watched):
        queue().log_path(job.number).write_text("error: accuracy of the run that was deleted\n")
    remove_run(RunFolder(path), queue())
    write_run(here / path, seconds=(2.0,))
    page = opened("demo-1")
    assert "started in a terminal" in "".join(each.value for each in page.info)
    assert not any("was deleted" in each.value for each in page.code)
    assert queue().last_of(watched_path(path, 0)) is None
    assert [job.number for job in queue().jobs()] == [other.number]
    assert not queue().log_path(trained.number).exists()
    assert queue().submit(("supsup-train", "demo"), "demo", path, "cpu", "new").number == other.number + 1


def watch(run):
    """Ask for the mask of the run's first task to be watched, as the page Masks does."""
    command = ("supsup-eval", str(run), "--watch-task", "0")
    return queue().submit(command, "watch task 0", watched_path(run, 0), "cpu", f"watch {run}")

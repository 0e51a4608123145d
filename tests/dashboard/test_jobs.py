"""The queue of jobs: what may be asked for, and what its file tells."""

import json
import sqlite3
import threading
from dataclasses import replace

import pytest
from supsup_dashboard.queueing.database import DATABASE
from supsup_dashboard.queueing.jobs import JobQueue
from supsup_methods.errors import UsageError

from .queue_watch import SAY, states


def test_a_job_is_what_was_asked_for(waiting_queue, tmp_path):
    job = waiting_queue.submit((*SAY, "--out", "a b"), "say it", tmp_path / "a b", "cpu", "t1")
    assert (job.number, job.command, job.about, job.place) == (1, (*SAY, "--out", "a b"), "say it", tmp_path / "a b")
    assert (job.device, job.state, job.status, job.pid) == ("cpu", "waiting", None, None)
    assert waiting_queue.jobs() == [job]
    assert waiting_queue.last_of(tmp_path / "a b") == job
    assert waiting_queue.last_of(tmp_path / "b") is None


def test_an_empty_queue_has_no_file(tmp_path):
    empty = JobQueue(tmp_path / "queue")
    assert empty.jobs() == []
    assert empty.last_of(tmp_path) is None
    assert empty.log_tail(1) == ""
    empty.ensure_runner()
    assert not (tmp_path / "queue").exists()
    (tmp_path / "runs").touch()
    assert JobQueue(tmp_path / "runs" / "queue").jobs() == []
    with pytest.raises(UsageError, match="job 7: it is not in"):
        empty.job(7)


def test_pressing_a_button_twice_adds_one_job(waiting_queue, tmp_path):
    first = waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t1")
    assert waiting_queue.submit(SAY, "say", tmp_path / "b", "cpu", "t1") == first
    assert len(waiting_queue.jobs()) == 1


def test_two_tabs_never_work_on_one_place(waiting_queue, tmp_path):
    waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t1")
    with pytest.raises(UsageError, match="a job for it waits or runs already"):
        waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t2")
    assert waiting_queue.cancel(1)
    assert waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t3").number == 2
    waiting_queue.submit(SAY, "no place", None, "cpu", "t4")
    waiting_queue.submit(SAY, "no place", None, "cpu", "t5")


def test_of_twenty_tabs_at_once_one_gets_the_place(waiting_queue, tmp_path):
    refused, ready = [], threading.Barrier(20)

    def press(number):
        ready.wait()
        try:
            waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", f"t{number}")
        except UsageError as error:
            refused.append(str(error))

    tabs = [threading.Thread(target=press, args=(number,)) for number in range(20)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(waiting_queue.jobs()) == 1
    assert len(refused) == 19


@pytest.mark.parametrize("command", [("rm", "-rf", "/"), ("bash", "-c", "true"), ()])
def test_only_our_commands_run(waiting_queue, command):
    with pytest.raises(UsageError, match="not one that is run here; there are supsup-train, supsup-eval"):
        waiting_queue.submit(command, "no", None, "cpu", "t1")


def test_an_empty_folder_that_is_no_runs_stays(waiting_queue, tmp_path):
    (tmp_path / "records").mkdir()
    waiting_queue.submit(("supsup-reproduce", "table3"), "measure", tmp_path / "records", "cpu", "t1")
    waiting_queue.cancel(1)
    assert (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("state", "status", "outcome", "is_open", "is_failure"),
    [
        ("waiting", None, "waiting", True, False),
        ("running", None, "running", True, False),
        ("cancelled", None, "cancelled", False, False),
        ("ended", 0, "done", False, False),
        ("ended", 130, "stopped", False, False),
        ("ended", 2, "failed", False, True),
        ("ended", None, "ended", False, False),
        ("died", -9, "died", False, True),
        ("died", -2, "stopped", False, False),
        ("died", -15, "stopped", False, False),
    ],
)
def test_how_a_job_stands_is_told_in_one_word(waiting_queue, state, status, outcome, is_open, is_failure):
    job = replace(waiting_queue.submit(SAY, "say", None, "cpu", "t1"), state=state, status=status)
    assert (job.outcome, job.is_open, job.is_failure) == (outcome, is_open, is_failure)


def test_a_job_whose_process_is_gone_does_not_hold_its_place(waiting_queue, tmp_path):
    waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t1")
    assert waiting_queue.note(1, "state = 'running', pid = 1", "state = 'waiting'")  # and then the machine stopped
    assert waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t2").number == 2
    assert states(waiting_queue) == {1: "ended", 2: "waiting"}


def test_a_file_of_an_earlier_version_is_taken_over(waiting_queue):
    waiting_queue.folder.mkdir()
    with sqlite3.connect(waiting_queue.folder / DATABASE) as connection:
        connection.execute(
            "CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT NOT NULL, about TEXT NOT NULL, "
            "place TEXT, device TEXT NOT NULL, token TEXT NOT NULL UNIQUE, state TEXT NOT NULL DEFAULT 'waiting', "
            "status INTEGER, pid INTEGER, asked TEXT NOT NULL)"
        )
        connection.execute(
            "INSERT INTO jobs (command, about, device, token, asked) VALUES (?, 'old', 'cpu', 't1', '2026-11-01T00:00:00+00:00')",
            (json.dumps(SAY),),
        )
    connection.close()
    (old,) = waiting_queue.jobs()
    assert (old.number, old.about, old.visible_devices) == (1, "old", None)
    assert waiting_queue.submit(SAY, "new", None, "cpu", "t2").number == 2


@pytest.mark.parametrize(
    "use", [JobQueue.jobs, JobQueue.open_jobs, lambda damaged: damaged.submit(SAY, "", None, "", "t1")]
)
def test_a_damaged_file_is_told_in_one_line(waiting_queue, use):
    waiting_queue.folder.mkdir()
    (waiting_queue.folder / DATABASE).write_text("this was a database, and is none any more" * 100)
    with pytest.raises(
        UsageError, match=r"queue.db: the queue cannot be read \(file is not a database\); try again"
    ) as told:
        use(waiting_queue)
    assert "\n" not in str(told.value)


def test_a_log_is_read_from_its_end(waiting_queue):
    waiting_queue.folder.mkdir()
    waiting_queue.log_path(1).write_bytes(b"x" * 10_000_000 + b"\n" + b"last \xff\n" * 3)
    assert waiting_queue.log_tail(1, lines=2) == "last �\nlast �"


def test_the_file_is_plain_sqlite(waiting_queue):
    waiting_queue.submit(SAY, "say", None, "cpu", "t1")
    with sqlite3.connect(waiting_queue.folder / "queue.db") as connection:
        ((command,),) = connection.execute("SELECT command FROM jobs").fetchall()
    connection.close()
    assert json.loads(command) == list(SAY)

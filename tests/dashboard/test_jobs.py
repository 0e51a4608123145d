import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from supsup_dashboard.queueing import jobs
from supsup_dashboard.queueing.database import DATABASE, OPEN, transaction
from supsup_dashboard.queueing.jobs import JobQueue, queue
from supsup_dashboard.queueing.runner import QueueRunner
from supsup_methods.errors import UsageError
from supsup_methods.run_folder import RunFolder
from supsup_methods.run_lock import is_held
from supsup_methods.run_states import state_of

SLEEP, SAY, FAIL = ("supsup-train", "sleep"), ("supsup-train", "say"), ("supsup-train", "fail")
PATIENCE = 120


@pytest.fixture
def waiting_queue(tmp_path, monkeypatch):
    """A queue that nobody works on."""
    monkeypatch.setattr(JobQueue, "ensure_runner", lambda self: None)
    return JobQueue(tmp_path / "queue")


@pytest.fixture
def runner(waiting_queue, tmp_path, monkeypatch):
    """Somebody to work on it, step by step, with a command that does as it is told."""
    package = tmp_path / "modules"
    package.mkdir()
    (package / "obedient.py").write_text(
        "import sys, time\n"
        "what, *rest = sys.argv[1:]\n"
        "print('\\x1b[1mbegun\\x1b[0m', what, rest, flush=True)\n"
        "if what == 'sleep': time.sleep(600)\n"
        "if what == 'fail': sys.exit('error: no')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package))
    monkeypatch.setattr("supsup_dashboard.queueing.runner.COMMANDS", {"supsup-train": "obedient"})
    waiting_queue.folder.mkdir()
    work = QueueRunner(waiting_queue.folder)
    with open(waiting_queue.folder / jobs.RUNNER_LOCK, "ab") as file:
        assert jobs.try_lock(file)
        yield work
        for child in work.children.values():
            child.kill()
            child.wait()


def until(true, look=lambda: None):
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come"
        look()
        time.sleep(0.02)


def states(waiting_queue):
    return {job.number: job.state for job in waiting_queue.jobs()}


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


def test_one_job_at_a_time_runs_on_a_device_in_order(runner, waiting_queue):
    for token, device in enumerate(("cpu", "cpu", "cuda:0", "cuda:0,cuda:1", "cuda:1", "")):
        waiting_queue.submit(SLEEP, "sleep", None, device, str(token))
    runner.look()
    assert states(waiting_queue) == {1: "running", 2: "waiting", 3: "running", 4: "waiting", 5: "waiting", 6: "running"}
    assert waiting_queue.stop(3)
    until(lambda: states(waiting_queue)[3] == "died", runner.look)
    assert states(waiting_queue)[4] == "running", "the job for two devices is not overtaken by the one for the second"
    assert states(waiting_queue)[5] == "waiting"
    assert waiting_queue.stop(2)
    assert states(waiting_queue)[2] == "cancelled"
    assert not waiting_queue.stop(2)


def test_the_end_of_a_job_is_seen_with_its_status_and_its_words(runner, waiting_queue):
    waiting_queue.submit((*SAY, "a b", "$(touch x)"), "say", None, "cpu", "t1")
    waiting_queue.submit(FAIL, "fail", None, "cuda:0", "t2")
    until(lambda: not runner.look())
    assert [(job.state, job.status) for job in waiting_queue.jobs()] == [("ended", 1), ("ended", 0)]
    assert waiting_queue.log_tail(1) == "begun say ['a b', '$(touch x)']", (
        "no shell reads it, and colours are taken out"
    )
    assert waiting_queue.log_tail(2, lines=1) == "error: no"


def test_a_run_that_never_began_leaves_no_folder_and_one_that_did_stays(runner, waiting_queue, tmp_path):
    places = [tmp_path / name for name in ("cancelled", "failed", "stopped", "began")]
    for number, place in enumerate(places):
        place.mkdir()
        command = SLEEP if place.name == "stopped" else FAIL
        waiting_queue.submit(command, place.name, place, f"device {number}", place.name)
    (places[-1] / "recipe.json").touch()
    waiting_queue.cancel(1)
    until(lambda: "begun" in waiting_queue.log_tail(3), runner.look)
    waiting_queue.stop(3)
    until(lambda: not any(job.is_open for job in waiting_queue.jobs()), runner.look)
    assert [place.name for place in places if place.exists()] == ["began"]


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


def test_a_killed_job_died(runner, waiting_queue):
    waiting_queue.submit(SLEEP, "sleep", None, "cpu", "t1")
    runner.look()
    assert waiting_queue.is_alive(1)
    os.kill(waiting_queue.job(1).pid, signal.SIGKILL)
    until(lambda: not runner.look())
    assert (waiting_queue.job(1).state, waiting_queue.job(1).status) == ("died", -9)
    assert not waiting_queue.stop(1)


def test_jobs_outlive_their_runner_and_the_next_one_finds_them(runner, waiting_queue):
    waiting_queue.submit(SLEEP, "sleep", None, "cpu", "t1")
    waiting_queue.submit(SAY, "say", None, "cpu", "t2")
    runner.look()
    orphan = runner.children.pop(1)  # as after a kill -9: the next runner knows nothing of it
    runner.look()
    assert states(waiting_queue) == {1: "running", 2: "waiting"}, "the device is taken"
    assert waiting_queue.stop(1)
    orphan.wait(PATIENCE)
    until(lambda: not runner.look())
    assert states(waiting_queue) == {1: "ended", 2: "ended"}
    assert waiting_queue.job(1).status is None, "nobody was there to see it"


def test_a_job_whose_process_is_gone_does_not_hold_its_place(waiting_queue, tmp_path):
    waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t1")
    assert waiting_queue.note(1, "state = 'running', pid = 1", "state = 'waiting'")  # and then the machine stopped
    assert waiting_queue.submit(SAY, "say", tmp_path / "a", "cpu", "t2").number == 2
    assert states(waiting_queue) == {1: "ended", 2: "waiting"}


def test_a_job_that_is_over_can_be_forgotten_and_an_open_one_stays(runner, waiting_queue):
    waiting_queue.submit(SAY, "say", None, "cpu", "t1")
    waiting_queue.submit(SAY, "say", None, "cpu", "t2")
    runner.look()
    for number in (1, 2):
        waiting_queue.forget(number)
    assert states(waiting_queue) == {1: "running", 2: "waiting"}
    until(lambda: not runner.look())
    waiting_queue.forget(1)
    assert states(waiting_queue) == {2: "ended"}
    assert not waiting_queue.log_path(1).exists()
    assert "begun say" in waiting_queue.log_tail(2)
    assert not waiting_queue.stop(1), "a page that was drawn before may still offer it"


def test_the_runner_reads_open_jobs_alone_and_those_once_a_look(runner, waiting_queue, monkeypatch):
    for number in range(30):
        waiting_queue.submit(SAY, "say", None, "cpu", str(number))
        waiting_queue.note(number + 1, "state = 'ended', status = 0", "state = 'waiting'")
    waiting_queue.submit(SLEEP, "sleep", None, "cpu", "t1")
    waiting_queue.submit(SLEEP, "sleep", None, "cpu", "t2")
    runner.look()
    read, made = [], jobs.Job

    def counted(*values):
        read.append(values[0])
        return made(*values)

    monkeypatch.setattr(jobs, "Job", counted)
    assert runner.look()
    assert read == [31, 32]
    asked = f"EXPLAIN QUERY PLAN SELECT * FROM jobs WHERE {OPEN} ORDER BY number"  # noqa: S608
    with transaction(waiting_queue.folder / DATABASE) as connection:
        plan = connection.execute(asked).fetchall()
    assert "USING INDEX open_jobs" in str(plan), "however many are over"


def test_the_runner_is_small():
    """It lives for days, and several may be started at once; torch takes half a GB and seconds."""
    imports = (
        "import sys, supsup_dashboard.queueing.runner; print({'torch', 'pydantic', 'streamlit'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", imports], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert found.stdout == "set()\n"


def test_of_many_who_look_for_a_runner_one_starts_it(tmp_path, monkeypatch):
    started, ready = [], threading.Barrier(10)

    def popen(command, *, pass_fds, **rest):
        started.append(os.dup(pass_fds[0]))  # which keeps the lock, as the process does from its first moment on
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(jobs, "subprocess", SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL))
    looked_at = JobQueue(tmp_path / "queue")
    with monkeypatch.context() as nobody:
        nobody.setattr(JobQueue, "ensure_runner", lambda self: None)
        looked_at.submit(SAY, "say", None, "cpu", "t1")

    def look():
        ready.wait()
        looked_at.ensure_runner()

    tabs = [threading.Thread(target=look) for _ in range(10)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    looked_at.ensure_runner()
    (lock,) = started
    os.close(lock)
    looked_at.ensure_runner()
    assert len(started) == 2, "it is gone, and the job still waits"
    os.close(started[1])


def test_a_job_runs_on_the_gpus_that_were_there_where_it_was_asked_for(runner, waiting_queue, tmp_path, monkeypatch):
    (tmp_path / "modules" / "obedient.py").write_text("import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))")
    for token, visible in (("t1", "3,1"), ("t2", "")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        waiting_queue.submit(SAY, "say", None, "", token)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    waiting_queue.submit(SAY, "say", None, "", "t3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # of the dashboard that started the runner
    until(lambda: not runner.look())
    assert [waiting_queue.log_tail(number) for number in (1, 2, 3)] == ["3,1", "", "None"]


def test_one_gpu_is_one_device_whatever_dashboards_call_it(runner, waiting_queue, monkeypatch):
    for token, visible, device in (
        ("1", "0,1", "cuda:1"),
        ("2", "1", "cuda:0"),
        ("3", "2, 0", "cuda:1"),
        ("4", "1", "cpu"),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        waiting_queue.submit(SLEEP, "sleep", None, device, token)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    waiting_queue.submit(SLEEP, "sleep", None, "cuda:0", "5")
    waiting_queue.submit(SLEEP, "sleep", None, "cuda:2", "6")
    runner.look()
    assert states(waiting_queue) == {1: "running", 2: "waiting", 3: "running", 4: "running", 5: "waiting", 6: "running"}


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


def test_real_runs_survive_whoever_asked_for_them(tmp_path, monkeypatch):
    """A run is asked for by a process that ends at once; a second one waits for it; the first is stopped, the second done."""
    monkeypatch.chdir(tmp_path)
    asks = (
        "import sys; from pathlib import Path; from supsup_dashboard.queueing.jobs import queue\n"
        "for name, batches in (('long', '1000000'), ('short', '2')):\n"
        "    command = ('supsup-train', 'demo', '--tasks', '1', '--method.training.batches', batches, '--device', 'cpu',\n"
        "               '--out', f'runs/{name}')\n"
        "    queue().submit(command, name, Path('runs', name), 'cpu', name)\n"
    )
    subprocess.run([sys.executable, "-c", asks], check=True, timeout=PATIENCE)
    long, short = RunFolder(Path("runs/long")), RunFolder(Path("runs/short"))
    until(lambda: long.holds_run)
    assert states(queue()) == {1: "running", 2: "waiting"}
    assert is_held(queue().folder / jobs.RUNNER_LOCK)
    queue().ensure_runner()  # one is enough
    assert queue().stop(1)
    until(lambda: short.is_done)
    assert state_of(long) == "stopped"
    assert "go on with: supsup-train --resume --out runs/long" in queue().log_tail(1)
    until(lambda: not is_held(queue().folder / jobs.RUNNER_LOCK))
    assert [(job.state, job.status) for job in queue().jobs()] == [("ended", 0), ("ended", 130)]
    queue().submit(
        ("supsup-train", "--resume", "--out", "runs/long", "--device", "cuda:99"), "no", long.path, "cpu", "x"
    )
    until(lambda: queue().job(3).state == "ended")
    assert queue().job(3).status == 2
    assert "--device cuda:99: this machine has" in queue().log_tail(3)


def test_the_file_is_plain_sqlite(waiting_queue):
    waiting_queue.submit(SAY, "say", None, "cpu", "t1")
    with sqlite3.connect(waiting_queue.folder / "queue.db") as connection:
        ((command,),) = connection.execute("SELECT command FROM jobs").fetchall()
    connection.close()
    assert json.loads(command) == list(SAY)

"""Whoever works on the queue: in order, a job at a time on each device, and through any end of anybody."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

from supsup_dashboard.queueing import jobs
from supsup_dashboard.queueing.database import DATABASE, OPEN, transaction
from supsup_dashboard.queueing.jobs import JobQueue, queue
from supsup_methods.run_folder import RunFolder
from supsup_methods.run_lock import is_held
from supsup_methods.run_states import state_of

from .queue_watch import FAIL, PATIENCE, SAY, SLEEP, states, until


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

"""supsup-train with several devices: processes that share the tasks, and are gone whatever ends the run."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from supsup_methods import training
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import open_run

from .processes import COMMAND, UNTRACKED, environment, train

OPTIONS = ("--tasks", "6", "--method.training.batches", "150")
TWO = ("--device", "cpu,cpu", "--snapshot-seconds", "0", "--out", "run", UNTRACKED)
PATIENCE = 120.0  # seconds until something that must happen counts as never happening


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process with as many threads as each of two has."""
    folder = tmp_path_factory.mktemp("alone")
    assert train(*OPTIONS, "--device", "cpu", "--out", "run", cwd=folder).returncode == 0
    return open_run(folder / "run")


def children(parent):
    """Return the processes that train for a run."""
    pids = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(pid) for pid in pids if status(pid)[1:] == (str(parent),) and "spawn_main" in command_line(pid)]


def status(pid):
    """Return the state of a process and its parent; nothing where it is gone."""
    try:
        return tuple(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2])
    except (FileNotFoundError, ProcessLookupError):
        return ()


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def all_gone(pids):
    """Wait until processes have ended; whoever became their parent may not have looked at them yet (Z)."""
    deadline = time.monotonic() + PATIENCE
    while any(status(pid)[:1] not in ((), ("Z",)) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def interrupted(folder, send, lines=1):
    """Start a run of two processes and do something to it after some lines about tasks; return it and their numbers."""
    with subprocess.Popen(
        [*COMMAND, *OPTIONS, *TWO],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a shell gives
    ) as process:
        pids = []
        for line in process.stdout:
            if line.startswith(f"task {lines}/6 learned"):
                pids = children(process.pid)
                send(process, pids)
                break
        _, errors = process.communicate(timeout=PATIENCE)
    assert len(pids) == 2
    return process.returncode, errors, pids


def assert_goes_on_to_the_same_end(folder, alone):
    """Resume with no word about devices."""
    before = (folder / "run" / "environment.json").read_bytes()
    recorded = json.loads(before)
    assert (recorded["device"], recorded["threads"]) == ("cpu,cpu", 1)
    resumed = train("--resume", "--out", "run", cwd=folder)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "on cpu, in 2 processes" in " ".join(resumed.stdout.split())
    assert (folder / "run" / "environment.json").read_bytes() == before
    end = open_run(folder / "run")
    assert torch.equal(end.bank.rows, alone.bank.rows)
    assert end.summary["checkpoints"] == alone.summary["checkpoints"]
    assert not list((folder / "run").glob("in-training*"))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_leaves_no_process_and_goes_on_to_the_same_end(tmp_path, alone, seed):
    moment = random.Random(seed)  # noqa: S311 - no secret

    def kill(process, pids):
        time.sleep(moment.uniform(0, 1))  # anywhere between two tasks
        process.kill()

    code, errors, pids = interrupted(tmp_path, kill, lines=1 + 2 * seed)
    assert (code, errors) == (-signal.SIGKILL, "")
    assert all_gone(pids)
    assert_goes_on_to_the_same_end(tmp_path, alone)


def test_ctrl_c_which_all_processes_get_is_answered_by_one_line(tmp_path, alone):
    code, errors, pids = interrupted(tmp_path, lambda process, _: os.killpg(process.pid, signal.SIGINT))
    assert code == 130
    (line,) = errors.splitlines()
    assert line.startswith("stopped; every finished task is kept in run; go on with: supsup-train --resume --out run")
    assert all_gone(pids)
    assert 1 <= len(open_run(tmp_path / "run").bank) < 6
    assert_goes_on_to_the_same_end(tmp_path, alone)


def test_sigterm_is_answered_as_ctrl_c(tmp_path):
    code, errors, pids = interrupted(tmp_path, lambda process, _: process.terminate())
    assert (code, len(errors.splitlines())) == (130, 1)
    assert all_gone(pids)


def test_a_process_that_is_killed_ends_the_run_in_one_line(tmp_path):
    code, errors, pids = interrupted(tmp_path, lambda _, pids: os.kill(pids[1], signal.SIGKILL))
    assert code == 1
    (line,) = errors.splitlines()
    assert line.startswith(f"error: --device cpu: the process that trains there (PID {pids[1]}) was ended by SIGKILL")
    assert line.endswith("every finished task is kept in run; go on with: supsup-train --resume --out run")
    assert all_gone(pids)


def test_an_error_in_a_process_is_the_line_that_one_process_says(tmp_path):
    deep = (
        "--backbone.hidden",
        *["20"] * 6,
        "--method.training.learning-rate",
        "1e6",
        "--method.training.batches",
        "40",
    )
    ends = [
        train("table3-upper-bound", *deep, "--tasks", "2", "--device", device, cwd=tmp_path)
        for device in ("cpu", "cpu,cpu")
    ]
    assert [end.returncode for end in ends] == [2, 2]
    assert ends[1].stderr.startswith("error: learning_rate=1000000.0: the weights diverged")
    assert ends[0].stderr == ends[1].stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("table3-psp", "--device", "cpu,cpu"),
            "--device: 2 devices, and psp learns a task from what earlier ones left",
        ),
        (("demo", "--device", "cpu,tpu"), "--device tpu: not a device"),
        (("demo", "--device", "cpu,"), "--device : not a device"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, options, message):
    refused = train(*options, "--out", "run", cwd=tmp_path)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (tmp_path / "run").exists()


def test_auto_on_a_cpu_is_as_many_processes_as_pay_and_a_resumed_run_has_those_that_it_had(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "default_processes", lambda recipe, dataset: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    recipe = RECIPES["demo"].shortened(3)

    def planned(**options):
        plan = training.plan_run(recipe, options.pop("out", None), may_share=True, **options)
        assert plan.environment.device == ",".join(map(str, plan.devices))
        return plan.environment.device, plan.environment.threads

    three = ("cpu,cpu,cpu", 2)
    assert planned() == three
    assert planned(device="cpu") == ("cpu", 6)
    assert planned(tasks_at_once=2) == ("cpu", 6)
    RunFolder(tmp_path).begin(recipe, training.plan_run(recipe, None, may_share=True).environment)
    monkeypatch.setattr(training, "default_processes", lambda recipe, dataset: 5)
    assert planned(out=tmp_path, resume=True) == three
    assert training.plan_run(recipe, None).environment.device == "cpu", "Python's own callers have no process started"

"""supsup-train killed in the middle of a task, which is kept after every step, and resumed."""

import signal
import subprocess
import time

import pytest
import torch
from supsup_datasets import embedded_mnist
from supsup_methods.commands.launch import parse_launch
from supsup_methods.errors import UsageError
from supsup_methods.recipes import RECIPES
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.snapshots import snapshot_path
from supsup_methods.state_files import read_tensors, write_tensors
from supsup_methods.training import plan_run

from ..methods.test_running import Watcher
from .processes import COMMAND, UNTRACKED, environment, train

CPU = torch.device("cpu")
BATCHES = 1500  # of which the process is far from the last when somebody sees that it is past the third
OPTIONS = (
    *("--tasks", "1", "--out", "run", "--backbone.hidden", "16", "--evaluation.scenario", "GG"),
    *("--method.training.batches", str(BATCHES), "--method.training.batch-size", "16"),
    *("--method.training.optimizer", "adam", "--method.training.schedule.shape", "cosine", UNTRACKED),
)


def kill_within_the_task(folder):
    """Start a run that keeps its task after each step, and kill it once some steps are kept."""
    path = snapshot_path(folder / "run", 0)
    with subprocess.Popen(
        [*COMMAND, *OPTIONS, "--snapshot-seconds", "0"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        while process.poll() is None and not (path.exists() and read_tensors(path, CPU)[1] >= 3):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    return path


def bank_files(run):
    return {path.name: path.read_bytes() for path in run.bank.iterdir()}


def test_a_run_killed_within_a_task_goes_on_from_there_to_the_same_files(tmp_path):
    path, run = kill_within_the_task(tmp_path), RunFolder(tmp_path / "run")
    kept, step = read_tensors(path, CPU)
    assert 3 <= step < BATCHES
    assert run.tasks_saved == 0
    kept["seconds in training"] += 1e6  # whoever goes on from here has trained so long
    write_tensors(path, kept, step)
    resumed = train("--resume", "--out", "run", cwd=tmp_path)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "note:" not in resumed.stdout
    assert not path.exists()
    assert run.progress().train_seconds[0] >= 1e6, "the task was not begun again"
    whole = RunFolder(tmp_path / "whole")
    whole.path.mkdir()
    whole.begin(run.recipe(), describe_environment(CPU, embedded_mnist(), None))
    summary = execute(whole, run.recipe(), embedded_mnist(), CPU, Watcher())
    assert bank_files(run) == bank_files(whole)
    assert run.summary()["accuracy_per_task"] == summary["accuracy_per_task"]


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_a_time_between_snapshots_that_is_none_is_refused(seconds):
    with pytest.raises(UsageError) as refused:
        plan_run(RECIPES["demo"], None, snapshot_seconds=float(seconds))
    assert str(refused.value) == (f"--snapshot-seconds {float(seconds)}: it should be 0 or more; choose another value")


def test_a_task_is_kept_every_five_minutes_unless_told_otherwise():
    assert parse_launch([]).snapshot_seconds == 300.0
    assert parse_launch(["--snapshot-seconds", "0"]).snapshot_seconds == 0.0

"""supsup-train from start to end, and stopped in the middle, as real processes."""

import json
import os
import pty
import resource
import shlex
import shutil
import signal
import sqlite3
import subprocess

import pytest
import torch
from supsup_methods.runs import open_run
from supsup_methods.tracking import RUN_ID

from .processes import COMMAND, SMALL, UNTRACKED, environment, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that went through: its working folder and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    own_store = environment(MLFLOW_TRACKING_URI="")
    return folder, train(*SMALL, "--summary", "result.json", cwd=folder, tracked=True, env=own_store)


def test_it_ends_well_and_says_what_came_out(finished):
    folder, process = finished
    assert (process.returncode, process.stderr) == (0, "")
    summary = json.loads((folder / "result.json").read_text())
    assert summary == json.loads((folder / "runs" / "demo-1" / "summary.json").read_text())
    accuracy = summary["checkpoints"][-1]["accuracy"]
    for text in (
        "3 permuted tasks of MNIST-5k",
        "task 3/3 learned",
        f"{accuracy:.2%}",
        "103,200 for 3 tasks",
        "3,302,400",
    ):
        assert text in process.stdout
    assert "Saved in runs/demo-1" in process.stdout


def test_the_tracking_store_has_the_run(finished):
    folder, _ = finished
    with sqlite3.connect(folder / "runs" / "mlflow.db") as store:
        assert store.execute("select name, status from runs").fetchall() == [("demo-1", "FINISHED")]
        metrics = dict(store.execute("select key, value from metrics where step = 3").fetchall())
        (mode,) = store.execute("pragma journal_mode").fetchone()
    store.close()
    summary = json.loads((folder / "result.json").read_text())
    assert metrics["accuracy"] == summary["checkpoints"][-1]["accuracy"]
    assert mode == "wal"


def test_a_run_that_is_not_tracked_leaves_no_store(tmp_path):
    done = train(*SMALL, "--no-tracking", cwd=tmp_path, env=environment(MLFLOW_TRACKING_URI=""))
    assert (done.returncode, done.stderr) == (0, "")
    assert "accuracy, mean over tasks" in done.stdout
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"demo-1"}
    assert (tmp_path / "runs" / "demo-1" / "summary.json").exists()
    assert not (tmp_path / "runs" / "demo-1" / RUN_ID).exists()


@pytest.mark.parametrize("damaged", ["bank", "progress.json"])
def test_a_run_that_is_done_and_was_damaged_since_is_mended(finished, tmp_path, damaged):
    folder, _ = finished
    shutil.copytree(folder / "runs" / "demo-1", tmp_path / "copy")
    expected = open_run(tmp_path / "copy").bank.rows.clone()
    if damaged == "bank":
        last = max((tmp_path / "copy" / "bank").glob("masks-*"))
        content = bytearray(last.read_bytes())
        content[-9] ^= 1
        last.write_bytes(content)
    else:
        (tmp_path / "copy" / "progress.json").write_text("{")
    again = train("--resume", "--out", "copy", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "damaged-1" in again.stdout
    assert torch.equal(open_run(tmp_path / "copy").bank.rows, expected)
    summary = json.loads((tmp_path / "copy" / "summary.json").read_text())
    assert summary["checkpoints"] == json.loads((folder / "result.json").read_text())["checkpoints"]


def test_a_second_run_gets_a_folder_of_its_own(finished):
    folder, _ = finished
    before = (folder / "runs" / "demo-1" / "summary.json").read_bytes()
    again = train(*SMALL, "--seed", "1", cwd=folder)
    assert again.returncode == 0
    assert (folder / "runs" / "demo-2" / "summary.json").exists()
    assert (folder / "runs" / "demo-1" / "summary.json").read_bytes() == before


def interrupt_after_first_task(folder, how):
    options = ("--tasks", "6", "--method.training.batches", "150", "--out", "run")
    with subprocess.Popen(
        [*COMMAND, *options], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("task 1/6 learned"):
                process.send_signal(how)
                break
        _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train("--tasks", "6", "--method.training.batches", "150", "--out", "run", cwd=folder).returncode == 0
    return open_run(folder / "run")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_asked_to_stop_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, uninterrupted, how):
    status, errors = interrupt_after_first_task(tmp_path, how)
    assert status == 130
    (line,) = errors.splitlines()
    assert line.startswith("stopped; every finished task is kept in run; go on with: supsup-train ")
    kept = open_run(tmp_path / "run")
    assert 1 <= len(kept.bank) < 6
    assert kept.summary is None
    _, *options = shlex.split(line.split("go on with: ")[1])
    resumed = train(*options, cwd=tmp_path)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "task 1/6 learned" not in resumed.stdout
    assert_same_end(tmp_path / "run", uninterrupted)


def test_a_killed_run_goes_on_to_the_same_end(tmp_path, uninterrupted):
    status, _ = interrupt_after_first_task(tmp_path, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert train("--resume", "--out", "run", cwd=tmp_path).returncode == 0
    assert_same_end(tmp_path / "run", uninterrupted)


def assert_same_end(path, uninterrupted):
    resumed = open_run(path)
    assert torch.equal(resumed.bank.rows, uninterrupted.bank.rows)
    assert resumed.summary["checkpoints"] == uninterrupted.summary["checkpoints"]


def test_a_finished_run_is_shown_again(finished):
    folder, first = finished
    again = train("--resume", "--out", "runs/demo-1", "--summary", "result.json", cwd=folder)
    assert again.returncode == 0
    assert first.stdout[first.stdout.index("All 3 tasks") :] in again.stdout


def test_ctrl_c_while_libraries_are_imported_is_answered_like_any_other(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise KeyboardInterrupt")
    process = train(*SMALL, cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)))
    assert process.returncode == 130
    assert process.stderr == "stopped before the run began\n"


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # a task's mask takes 34,400 bytes

    process = train(*SMALL, "--out", "run", cwd=tmp_path, preexec_fn=small_files_only)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: run/bank/masks-00000000-000001.safetensors: ")
    assert "File too large; free space, check permissions, or choose another place" in line
    assert not list((tmp_path / "run" / "bank").glob("*.partial"))
    assert train("--resume", "--out", "run", cwd=tmp_path).returncode == 0


def test_a_disk_that_is_full_from_the_beginning_is_one_line_that_names_a_file(tmp_path):
    def hardly_a_file():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the note in a lock takes 1,024 bytes

    process = train(*SMALL, "--out", "run", cwd=tmp_path, preexec_fn=hardly_a_file)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: run/lock: File too large; free space, check permissions, or choose another place")


def test_a_store_that_is_out_of_reach_does_not_stop_the_run(tmp_path):
    unreachable = environment(MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    process = train(*SMALL, cwd=tmp_path, tracked=True, env=unreachable)
    assert process.returncode == 0
    assert "not in the tracking store: MlflowException" in process.stdout
    assert (tmp_path / "runs" / "demo-1" / "summary.json").exists()


def test_two_processes_never_work_on_one_run(tmp_path):
    options = ("--tasks", "50", "--method.training.batches", "150", "--out", "run", UNTRACKED)
    with subprocess.Popen(
        [*COMMAND, *options], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("task 1/50"):
                break
        second = train("--resume", "--out", "run", cwd=tmp_path)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert second.returncode == 2
    assert "another process works on this run" in second.stderr


def test_a_terminal_sees_live_progress(tmp_path):
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *SMALL, UNTRACKED],
        cwd=tmp_path,
        env=environment(TERM="xterm-256color", COLUMNS="120"),
        stdout=follower,
        stderr=follower,
    ) as process:
        os.close(follower)
        screen = b""
        while True:
            try:
                chunk = os.read(leader, 65536)
            except OSError:
                break
            if not chunk:
                break
            screen += chunk
        os.close(leader)
    assert process.returncode == 0
    text = screen.decode()
    for expected in ("learning task 1/3", "learning task 3/3", "steps/s", "left", "accuracy, mean over tasks"):
        assert expected in text


@pytest.mark.parametrize("options", [("--help",), ("demo", "--help")])
def test_help_is_help(tmp_path, options):
    process = train(*options, cwd=tmp_path)
    assert process.returncode == 0
    for text in ("--tasks", "--data-root", "--device", "--resume", "--summary", "(default: demo)"):
        assert text in process.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_closed_takes_nothing_from_the_run(tmp_path):
    done = train(*SMALL, "--out", "run", cwd=tmp_path, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path):
    with subprocess.Popen(
        [*COMMAND, *SMALL, UNTRACKED],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("demo: 3 permuted tasks")
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 1

"""supsup-eval: other searches asked of a run that has learned."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from supsup_datasets import embedded_mnist
from supsup_methods.commands import questions
from supsup_methods.commands.evaluate import main
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.mask_training import MaskTraining
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.supsup import SupSupSettings

from ..methods.test_running import Watcher

CPU = torch.device("cpu")


def learned(path, recipe):
    folder = RunFolder(path)
    path.mkdir()
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None))
    execute(folder, recipe, embedded_mnist(), CPU, Watcher())
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    method = SupSupSettings(training=MaskTraining(batches=150, learning_rate=1e-3))
    recipe = Recipe("small", 3, backbone=FullyConnected(hidden=(50,), outputs=60), method=method)
    return learned(tmp_path_factory.mktemp("runs") / "small", recipe)


def evaluated(monkeypatch, capsys, *options):
    monkeypatch.setattr("sys.argv", ["supsup-eval", *map(str, options)])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


def test_searches_are_compared_on_what_a_run_learned(monkeypatch, capsys, run, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    code, out, _ = evaluated(monkeypatch, capsys, run.path, "--summary", tmp_path / "answers.json", "--steps", "3")
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before, "the run is only read"
    answers = json.loads((tmp_path / "answers.json").read_text())["searches"]
    assert list(answers) == ["one-shot-h", "gamma-h", "every-h", "every-m", "every-max-logit", "descent-h"]
    for name, answer in answers.items():
        assert name in out
        assert answer["guesses"] == 24
        assert 0 <= answer["accuracy"] <= answer["task_inference_accuracy"] <= 1
        assert answer["seconds_per_guess"] > 0
        assert 0 <= answer["calibrated_error"] <= 1
    # By chance a third of the 24 guesses is right; trying every mask does better on digits that were learned.
    assert answers["every-h"]["task_inference_accuracy"] > 2 / 3
    trained = run.summary()["checkpoints"][-1]
    assert answers["one-shot-h"]["accuracy"] == pytest.approx(trained["accuracy"])
    assert answers["one-shot-h"]["task_inference_accuracy"] == trained["task_inference_accuracy"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gamma", "1.5"), "--gamma 1.5: a share of the tasks lies between 0 and 1"),
        (("--images-per-guess", "0"), "--images-per-guess 0: it should be 1 or more"),
        (("--tasks", "4"), "--tasks 4: the run has learned 3; choose fewer"),
        (("--searches", "two-shot"), "two-shot: it should be one of descent-g, descent-h, every-h,"),
        (("--steps", "10001"), "--steps 10001: each is kept; choose 10000 or fewer"),
        (("--unknown-tasks", "10001"), "--unknown-tasks 10001: it should be from 0 to 10000"),
        (("--unknown-tasks", "-1"), "--unknown-tasks -1: it should be from 0 to 10000"),
        (("--device", "cuda:77"), "--device cuda:77: this machine has"),
    ],
)
def test_bad_questions_are_refused_in_one_line(monkeypatch, capsys, run, options, message):
    code, _, err = evaluated(monkeypatch, capsys, run.path, *options)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_without_a_run_is_refused(monkeypatch, capsys, tmp_path):
    code, _, err = evaluated(monkeypatch, capsys, tmp_path)
    assert code == 2
    assert "no run here" in err


def test_answers_are_not_put_among_the_runs_own_files(monkeypatch, capsys, tmp_path, run):
    (run.path / "summary.json").rename(tmp_path / "summary.json")
    place = run.path / "summary.json"
    try:
        code, _, err = evaluated(monkeypatch, capsys, run.path, "--summary", place)
        assert (code, place.exists()) == (2, False)
    finally:
        (tmp_path / "summary.json").rename(place)
    assert "the run's own files are there; choose a place outside of it" in err


def test_a_stop_says_what_was_written_before(monkeypatch, capsys, run, tmp_path):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(questions, "ask_to_watch", stopped)
    bank = tmp_path / "merged"
    options = ("--merge", "--merged-bank", bank, "--watch-task", "0")
    code, _, err = evaluated(monkeypatch, capsys, run.path, *options)
    assert (code, err.strip()) == (130, f"stopped; --merged-bank {bank} was written")
    assert (bank / "manifest.json").exists()
    code, _, err = evaluated(monkeypatch, capsys, run.path, "--watch-task", "0")
    assert (code, err.strip()) == (130, "stopped; nothing was written")


def test_a_real_process_answers_sigterm_as_ctrl_c(run):
    command = [
        sys.executable,
        "-P",
        "-m",
        "supsup_methods.commands.evaluate",
        str(run.path),
        "--calibration-guesses",
        "4000",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while signal.SIGTERM not in caught_by(process.pid):
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.strip() in ("stopped before the run began", "stopped; nothing was written")


def caught_by(pid):
    """Return the signals that a process has handlers for."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    mask = int(fields["SigCgt"], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def test_a_summary_is_not_overwritten(monkeypatch, capsys, run, tmp_path):
    (tmp_path / "mine.json").write_text("mine")
    code, _, err = evaluated(monkeypatch, capsys, run.path, "--summary", tmp_path / "mine.json")
    assert code == 2
    assert "is not overwritten" in err
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_a_method_that_must_be_told_the_task_is_refused(monkeypatch, capsys, tmp_path):
    recipe = Recipe(
        "told",
        1,
        backbone=FullyConnected(hidden=(20,), outputs=10),
        method=LowerBoundSettings(),
        evaluation=Evaluation(scenario="GG"),
    )
    folder = RunFolder(tmp_path / "told")
    folder.path.mkdir()
    folder.begin(recipe, describe_environment(CPU, embedded_mnist(), None))
    code, _, err = evaluated(monkeypatch, capsys, folder.path)
    assert code == 2
    assert "lower-bound searches no contexts for the task" in err

"""supsup-eval --watch-task: one mask trained again, and what is kept of it."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from supsup_methods.commands.watch_questions import ask_to_watch, device_to_watch_on
from supsup_methods.errors import UsageError
from supsup_methods.experiment import FullyConnected, Recipe
from supsup_methods.mask_training import MaskTraining
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import open_run
from supsup_methods.supsup import SupSupSettings
from supsup_methods.watched_records import read_watched

from ..contracts.settings import SMALL
from .test_byte_questions import brief, recipe_of
from .test_eval import CPU, evaluated, learned

METHOD = SupSupSettings(training=MaskTraining(batches=30, batch_size=20))


@pytest.fixture
def run(tmp_path):
    return learned(
        tmp_path / "small", Recipe("small", 2, backbone=FullyConnected(hidden=(30,), outputs=12), method=METHOD)
    )


def files_of(path):
    return {each: each.stat().st_mtime_ns for each in path.rglob("*")}


def test_a_mask_is_trained_again_and_what_was_seen_is_kept(monkeypatch, capsys, run, tmp_path):
    before = files_of(run.path)
    code, out, err = evaluated(
        monkeypatch, capsys, run.path, "--watch-task", "1", "--summary", tmp_path / "answers.json"
    )
    assert (code, err) == (0, "")
    after = files_of(run.path)
    new = run.path / "watched-000001.json"
    assert after.pop(new)
    assert {path: time for path, time in after.items() if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }, "the run is only read"
    watched = read_watched(run.path, 1)
    assert watched.as_run
    assert watched.moments == (0, 1, 2, 3, 5, 7, 10, 15, 20, 30)
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    assert len(lines) == len(watched.moments)
    assert lines[0].startswith(f"step 0 of 30 · loss {watched.loss[0]:.4f} nats · ")
    assert lines[0].endswith("ones · 0.00% of bits turned")
    assert lines[-1].startswith(f"step 30 of 30 · loss {watched.loss[-1]:.4f} nats · ")
    assert "the mask of task 1 is the run's, bit for bit" in out
    assert f"written to {new}" in out
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert set(answers) == {"run", "machine", "watched"}, "no search was asked for"
    expected = {"task": 1, "steps": 30, "bits_unlike_run": 0, "statistics_as_run": True, "unlike_run": []}
    assert expected.items() <= answers["watched"].items()


def test_watching_twice_writes_the_same_but_for_the_seconds(monkeypatch, capsys, run):
    records = []
    for _ in range(2):
        assert evaluated(monkeypatch, capsys, run.path, "--watch-task", "0")[0] == 0
        records.append(replace(read_watched(run.path, 0), seconds=0.0))
    assert records[0] == records[1]


def test_a_mask_that_differs_is_told_with_what_was_different(run):
    opened = open_run(run.path)
    masks = opened.bank.masks(0)
    next(iter(masks.values()))[0, :5] ^= True
    opened.bank.replace(0, masks)
    environment = run.environment()
    run.begin(run.recipe(), replace(environment, tasks_at_once=2))
    console = Console(file=io.StringIO(), width=200)
    answer = ask_to_watch(console, opened, 0)
    bits = opened.network.num_bits
    share = f"{5 / bits:.3%}"
    assert (
        f"differs from the run's in {share} of bits (5 of {bits:,}): tasks at once: 2 then, 1 now"
        in console.file.getvalue()
    )
    assert (answer["bits_unlike_run"], answer["unlike_run"]) == (5, ["tasks at once: 2 then, 1 now"])


def test_a_terminal_shows_the_same_lines_above_a_bar(run):
    console = Console(file=io.StringIO(), width=120, force_terminal=True, highlight=False)
    ask_to_watch(console, open_run(run.path), 0)
    said = console.file.getvalue()
    assert "step 30 of 30" in said
    assert "100%" in said


def test_searches_and_bytes_are_answered_beside_it_where_they_are_asked_for(monkeypatch, capsys, run, tmp_path):
    code, _, err = evaluated(
        monkeypatch, capsys, run.path, "--watch-task", "0", "--bytes", "--searches", "one-shot-h",
        "--summary", tmp_path / "answers.json",
    )  # fmt: skip
    assert code == 0, err
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert set(answers) == {"run", "machine", "bytes", "searches", "watched"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--watch-task", "99"), "--watch-task 99: {run} has learned tasks 0 to 1; choose one of them"),
        (("--watch-task", "-1"), "--watch-task -1: {run} has learned tasks 0 to 1; choose one of them"),
        (("--watch-task", "one"), "--watch-task one: it should be a whole number; choose another value"),
        (("--watch-task", "0", "--bytes", "--tasks", "9"), "--tasks 9: the run has learned 2; choose fewer"),
        (("--watch-task", "5", "--bytes"), "--watch-task 5: {run} has learned tasks 0 to 1"),
        (("--watch-task", "0", "--device", "cuda:77"), "--device cuda:77: this machine has"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_one_line(monkeypatch, capsys, run, options, message):
    before = files_of(run.path)
    code, out, err = evaluated(monkeypatch, capsys, run.path, *options)
    assert code == 2
    assert message.format(run=run.path) in err
    assert len(err.strip().splitlines()) == 1
    assert out == "", "nothing is answered before"
    assert files_of(run.path) == before


@pytest.mark.parametrize("name", ["psp", "hopsupsup", "supsup-unknown-tasks", "batch-ensemble"])
def test_methods_without_a_mask_for_each_task_are_refused(monkeypatch, capsys, tmp_path, name):
    folder = learned(tmp_path / "run", recipe_of(brief(SMALL[name])))
    code, out, err = evaluated(monkeypatch, capsys, folder.path, "--watch-task", "0")
    assert code == 2
    assert f"{folder.path}: {name} trains no mask for each task that could be trained again by itself" in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_a_run_that_is_not_there_is_refused(monkeypatch, capsys, tmp_path):
    code, _, err = evaluated(monkeypatch, capsys, tmp_path / "nowhere", "--watch-task", "0")
    assert code == 2
    assert "no run here" in err


def test_auto_is_the_device_of_the_run(run, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert device_to_watch_on(run.path, "auto") == CPU
    assert str(device_to_watch_on(run.path, "cuda")) == "cuda:0"
    RunFolder(run.path).begin(run.recipe(), replace(run.environment(), device="cuda:3,cuda:4"))
    assert str(device_to_watch_on(run.path, "auto")) == "cuda:0"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert device_to_watch_on(run.path, "auto") == CPU
    with pytest.raises(UsageError, match="--device tpu: not a device"):
        device_to_watch_on(run.path, "tpu")

"""supsup-eval: unknown tasks, and masks that serve one task."""

import json
from dataclasses import replace

import pytest
from supsup_core import MaskBank
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe, RecurringPermutedMnist, RotatedMnist
from supsup_methods.mask_training import MaskTraining
from supsup_methods.runs import open_run
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import Allocation, UnknownTasksSettings
from supsup_methods.training_length import StreamTraining

from .test_eval import evaluated, learned

TRAINING = MaskTraining(batches=60, batch_size=64, learning_rate=1e-3)
BACKBONE = FullyConnected(hidden=(100, 50), outputs=50)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two tasks that come back, under masks that are too many: with this ε each decision allocates one."""
    method = UnknownTasksSettings(
        training=StreamTraining(batches=60, batch_size=64, learning_rate=1e-3),
        allocation=Allocation(every=30, epsilon=3.0),
    )
    recipe = Recipe(
        "stream",
        3,
        stream=RecurringPermutedMnist(distinct=2),
        backbone=BACKBONE,
        method=method,
        evaluation=Evaluation(scenario="NNs"),
    )
    return learned(tmp_path_factory.mktemp("runs") / "stream", recipe)


def test_the_summary_keeps_the_books(run):
    books = run.summary()["allocation"]
    assert books["masks"] == 6
    assert books["tasks"] == 2
    assert books["duplicates"] == 4
    assert books["purity"] == 1.0
    assert run.summary()["checkpoints"][-1]["task_inference_accuracy"] > 0.9, "a mask of the task, whichever, is right"


def test_masks_that_serve_one_task_are_merged(monkeypatch, capsys, run, tmp_path):
    code, out, _ = evaluated(
        monkeypatch, capsys, run.path, "--merge", "--merged-bank", tmp_path / "bank", "--summary", tmp_path / "a.json"
    )
    assert code == 0
    merged = json.loads((tmp_path / "a.json").read_text())["merged"]
    assert merged["masks"] == {"before": 6, "after": 2}
    assert len(merged["dropped"]) == 4
    assert abs(merged["accuracy"]["after"] - merged["accuracy"]["before"]) < 0.2
    assert f"{merged['accuracy']['after']:.2%}" in out
    assert len(MaskBank.open(tmp_path / "bank", open_run(run.path).network)) == 2


def test_unknown_tasks_are_shown_at_several_thresholds(monkeypatch, capsys, run, tmp_path):
    options = ("--unknown-tasks", "3", "--images-per-guess", "64", "--summary", tmp_path / "answers.json")
    code, out, _ = evaluated(monkeypatch, capsys, run.path, *options)
    assert code == 0
    rates = json.loads((tmp_path / "answers.json").read_text())["unknown_tasks"]
    assert [rate["epsilon"] for rate in rates] == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    # Two learned tasks and three others, 1,000 test images each in 8 batches.
    assert {(rate["known_guesses"], rate["unknown_guesses"]) for rate in rates} == {(16, 24)}
    assert "false alarms" in out


def test_a_run_that_was_told_its_tasks_can_be_asked_as_well(monkeypatch, capsys, tmp_path):
    folder = learned(tmp_path / "told", Recipe("told", 2, backbone=BACKBONE, method=SupSupSettings(training=TRAINING)))
    code, out, _ = evaluated(
        monkeypatch, capsys, folder.path, "--unknown-tasks", "2", "--merge", "--searches", "one-shot-h"
    )
    assert code == 0
    assert "one-shot-h" in out
    assert "false alarms" in out
    assert "Masks that serve one task" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "are no tasks, and searches for one cannot be compared; ask for --unknown-tasks N or --merge"),
        (("--unknown-tasks", "-1"), "--unknown-tasks -1: it should be from 0 to 10000"),
        (("--merge", "--epsilon", "-1"), "--epsilon -1.0: it should be 0 or more"),
        (("--merge", "--epsilon", "nan"), "--epsilon nan: it should be 0 or more"),
        (("--merged-bank", "bank"), "--merged-bank bank: nothing is merged; add --merge"),
        (("--merge", "--merged-bank", "taken"), "--merged-bank taken: it exists and is not overwritten"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, capsys, run, tmp_path, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    code, _, err = evaluated(monkeypatch, capsys, run.path, *options)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_stream_without_further_tasks_is_refused(monkeypatch, capsys, tmp_path):
    recipe = Recipe("turned", 2, stream=RotatedMnist(), backbone=BACKBONE, method=SupSupSettings(training=TRAINING))
    folder = learned(tmp_path / "turned", replace(recipe, evaluation=Evaluation()))
    code, out, err = evaluated(
        monkeypatch,
        capsys,
        folder.path,
        "--unknown-tasks",
        "2",
        "--searches",
        "one-shot-h",
        "--calibration-guesses",
        "2",
    )
    assert (code, out) == (2, ""), "before anything is searched"
    assert "--unknown-tasks 2: rotated-mnist has only so many tasks; choose a run of permuted-mnist" in err

"""The tables that end a run, read as a person would: what is kept, what was found, and what cannot be told."""

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.experiment import Evaluation, NormalisedFullyConnected, Recipe, SplitMnist
from supsup_methods.hopsupsup import HopfieldRecovery, HopSupSupSettings, UnitMaskTraining
from supsup_methods.recovery_scoring import RecoveryTrace
from supsup_methods.reporting.run_report import print_results
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import Progress, RunFolder
from supsup_methods.running import execute
from supsup_methods.supsup import SupSupSettings

from .problems import dataset
from .test_running import Watcher

CPU = torch.device("cpu")
RECIPE = Recipe(
    "small",
    3,
    backbone=NormalisedFullyConnected(hidden=(64, 32)),
    method=HopSupSupSettings(
        training=UnitMaskTraining(epochs=4, batch_size=20), recovery=HopfieldRecovery(batch_size=9), witness=True
    ),
    evaluation=Evaluation(scenario="GNs", batch_size=9),
)
FOUND = RecoveryTrace((0.5,) * 4, (-1.0,) * 4, (0.0,) * 4, {"a": (2, 0, 0, 0), "b": (1, 3, 0, 0)}, 0.8125)
LOST = RecoveryTrace((0.5,) * 4, (-1.0,) * 4, (0.0,) * 4, {"a": (2, 0, 0, 12), "b": (1, 3, 0, 30)}, 0.9)
UNTOLD = RecoveryTrace((0.5,) * 4, (-1.0,) * 4, (0.0,) * 4)


def begun(path, recipe):
    folder = RunFolder(path)
    path.mkdir()
    folder.begin(recipe, describe_environment(CPU, dataset(), None))
    return folder


def printed(folder, summary):
    """Return the cells of each row of both tables, and the lines below."""
    told = io.StringIO()
    print_results(Console(file=told, width=200), folder, summary)
    lines = told.getvalue().splitlines()
    rows = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines if "│" in line]
    header = next(line for line in lines if "┃" in line)
    return [[cell.strip() for cell in header.strip("┃").split("┃")], *rows], lines[-2:]


def told(path, recipe, *scores):
    """Return what is told of a run with these scores."""
    folder = begun(path, recipe)
    checkpoint = Checkpoint(len(scores), scores, 0.5)
    folder.write_progress(Progress({}, [checkpoint]))
    accuracies = {
        "tasks_learned": len(scores),
        "accuracy": checkpoint.accuracy,
        "task_inference_accuracy": checkpoint.task_inference_accuracy,
        "forgetting": None,
        "backward_transfer": None,
    }
    summary = {
        "recipe": recipe.name,
        "method": recipe.method.kind,
        "tasks": len(scores),
        "checkpoints": [accuracies],
        "seconds": {"train": 1.0, "infer": 2.0},
        "bytes": {"contexts": 0, "shared": 12_345, "buffers": 0},
    }
    return printed(folder, summary)


def test_a_recovered_mask_is_told_by_the_step_from_which_on_it_was_right_or_by_how_far_it_is_off(tmp_path):
    scores = [
        TaskScore(0, 16, 13, 1, 1, {0: 1}, FOUND),
        TaskScore(1, 16, 4, 1, 0, {0: 1}, LOST),
        TaskScore(2, 16, 0, 1, 0, {1: 1}, replace(FOUND, distances={"a": (0, 0, 0, 0), "b": (0, 0, 0, 1)})),
    ]
    rows, _ = told(tmp_path / "run", RECIPE, *scores)
    assert rows == [
        ["task", "accuracy", "with the right mask", "recovered"],
        ["0", "81.25%", "81.25%", "after 3 of 4 steps"],
        ["1", "25.00%", "90.00%", "no, 42 units off"],
        ["2", "0.00%", "81.25%", "no, 1 units off"],
        ["accuracy, mean over tasks", "35.42%"],
        ["masks recovered to the last unit", "33.33%"],
        ["seconds", "1.0 training, 2.0 testing"],
        ["bytes of the reservoir", "12,345, for 3 tasks or more"],
    ]


def test_without_a_witness_nothing_is_told_of_right_masks(tmp_path):
    recipe = replace(RECIPE, method=replace(RECIPE.method, witness=False))
    rows, _ = told(tmp_path / "run", recipe, *(TaskScore(task, 16, 4, 0, 0, {}, UNTOLD) for task in range(2)))
    assert rows[0] == ["task", "accuracy", "with the right mask", "recovered"]
    assert rows[1:3] == [[str(task), "25.00%", "not kept", "cannot be told"] for task in range(2)]
    assert ["masks recovered to the last unit", "cannot be told"] in rows


def test_a_method_that_recovers_no_mask_has_the_table_it_had(tmp_path):
    recipe = replace(RECIPE, method=SupSupSettings())
    rows, _ = told(tmp_path / "run", recipe, TaskScore(0, 16, 4, 4, 3), TaskScore(1, 16, 4, 0, 0))
    assert rows[:3] == [
        ["task", "accuracy", "test batches given to the right task"],
        ["0", "25.00%", "3 of 4"],
        ["1", "25.00%", "task given"],
    ]
    assert ["tasks inferred right", "75.00%"] in rows


def test_of_many_tasks_the_first_are_shown(tmp_path):
    rows, _ = told(tmp_path / "run", RECIPE, *(TaskScore(task, 16, 4, 1, 0, {0: 1}, LOST) for task in range(23)))
    assert [row[0] for row in rows[1:21]] == [str(task) for task in range(20)]
    assert rows[21] == ["...", "", "3 more in progress.json", ""]


@pytest.mark.parametrize(("stream", "hint"), [(SplitMnist(), "--seed 1"), (RECIPE.stream, "--tasks 50")])
def test_what_to_try_next_can_be_tried(stream, hint, tmp_path):
    """There are no more than five pairs of digits, and nothing to search tasks by in a reservoir."""
    _, (saved, hints) = told(tmp_path / "run", replace(RECIPE, stream=stream), TaskScore(0, 16, 4, 1, 0, {0: 1}, LOST))
    assert saved.startswith(f"Saved in {tmp_path / 'run'}: ")
    assert hints.startswith(f"Next: supsup-train small {hint} · ")
    assert "supsup-eval" not in hints


@pytest.mark.parametrize("witness", [True, False])
def test_a_run_tells_what_its_files_say(witness, tmp_path):
    recipe = replace(RECIPE, method=replace(RECIPE.method, witness=witness))
    folder = begun(tmp_path / "run", recipe)
    summary = execute(folder, recipe, dataset(), CPU, Watcher())
    rows, _ = printed(folder, summary)
    scores = folder.progress().checkpoints[-1].scores
    assert len(scores) == 3
    for row, score in zip(rows[1:4], scores, strict=True):
        assert row[:2] == [str(score.task), f"{score.images_right / 63:.2%}"]
        assert (score.recovery.distances is None) == (not witness)
        if witness:
            assert row[2] == f"{score.recovery.right_mask_accuracy:.2%}"
            off = sum(way[-1] for way in score.recovery.distances.values())
            assert row[3].startswith("after ") if score.guesses_right else row[3] == f"no, {off} units off"
        else:
            assert row[2:] == ["not kept", "cannot be told"]
    assert ["bytes of the reservoir", f"{4 * (64 * 65 // 2 + 64 + 32 * 33 // 2 + 32):,}, for 3 tasks or more"] in rows
    assert any(row[0] == "forgetting, mean over earlier tasks" for row in rows)

"""Several searches asked of one run at once, against each of them asked alone."""

import shutil

import pytest
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe
from supsup_methods.reproduction import asked_together
from supsup_methods.reproduction.asked_again import Asked, accuracies_under
from supsup_methods.reproduction.asked_together import accuracies_together, ask_together
from supsup_methods.run_folder import RunFolder
from supsup_methods.task_guessing import EveryTask
from supsup_methods.training_length import TaskTraining

from .test_share_curve import CPU, DATA, NAMELESS, carried_out

TINY = Recipe(
    "tiny-abatche",
    4,
    backbone=FullyConnected(hidden=(40,), outputs=20),
    method=BatchESettings(
        training=TaskTraining(batches=30, batch_size=64), inference=EveryTask(objective="H", images_per_guess=4)
    ),
    evaluation=Evaluation(scenario="GG", batch_size=20, checkpoints=(2,)),
)
WAYS = [EveryTask(objective=objective, images_per_guess=images) for objective in ("H", "M") for images in (1, 4, 16)]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    return carried_out(TINY, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def copies(learned, tmp_path):
    """Two copies of a run that nobody has asked anything."""
    return [RunFolder(shutil.copytree(learned.path, tmp_path / name)) for name in ("together", "alone")]


@pytest.fixture
def tested(monkeypatch):
    """The tasks that are tested, in turn."""
    calls, real = [], asked_together.evaluate_searches

    def evaluate_searches(method, task, *rest, **named):
        calls.append(task.index)
        return real(method, task, *rest, **named)

    monkeypatch.setattr(asked_together, "evaluate_searches", evaluate_searches)
    return calls


def scores_of(run, learned=4):
    return [Asked(run, way).scores(learned) for way in WAYS]


def test_together_they_find_what_each_finds_alone(bench, copies, tested):
    bench, _, said = bench
    together, alone = copies
    found = accuracies_together(bench, together, WAYS)
    assert tested == [0, 1, 0, 1, 2, 3], "once for all of them"
    assert len(said) == 2
    assert found == [accuracies_under(bench, alone, way) for way in WAYS]
    assert scores_of(together) == scores_of(alone)
    assert len({each[-1]["accuracy"] for each in found}) == len(WAYS)
    assert accuracies_together(bench, together, WAYS) == found
    assert len(tested) == 6, "nothing is tested twice"


def test_what_one_of_them_knows_stays_and_the_others_are_asked(bench, copies, tested):
    bench, _, _ = bench
    together, alone = copies
    accuracies_under(bench, together, WAYS[2])
    kept = Asked(together, WAYS[2]).path.read_bytes()
    found = accuracies_together(bench, together, WAYS)
    assert found == [accuracies_under(bench, alone, way) for way in WAYS]
    assert Asked(together, WAYS[2]).path.read_bytes() == kept


def test_a_stop_keeps_what_was_tested_by_all(bench, copies, monkeypatch):
    bench, _, _ = bench
    together, alone = copies
    real = asked_together.evaluate_searches

    def stopped(method, task, *rest, **named):
        if task.index == 2:
            raise KeyboardInterrupt
        return real(method, task, *rest, **named)

    monkeypatch.setattr(asked_together, "evaluate_searches", stopped)
    with pytest.raises(KeyboardInterrupt):
        accuracies_together(bench, together, WAYS)
    assert [len(scores) for scores in scores_of(together)] == [2] * len(WAYS)
    tested = []
    monkeypatch.setattr(
        asked_together,
        "evaluate_searches",
        lambda method, task, *rest, **named: tested.append(task.index) or real(method, task, *rest, **named),
    )
    found = accuracies_together(bench, together, WAYS)
    assert tested == [2, 3]
    assert found == [accuracies_under(bench, alone, way) for way in WAYS]


def test_masks_that_are_no_tasks_are_right_for_their_owners(bench, tmp_path):
    bench, _, _ = bench
    run = carried_out(NAMELESS, tmp_path / "nns")
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    found = accuracies_together(bench, run, WAYS)
    assert found == [accuracies_under(bench, copy, way) for way in WAYS]
    assert all(each[-1]["task_inference_accuracy"] > 0.5 for each in found)


def test_more_tasks_than_were_learned_are_refused(copies):
    with pytest.raises(UsageError, match="4 tasks are learned, and 5 are asked for; choose fewer"):
        ask_together(copies[0], WAYS, DATA, 5, CPU)
    assert not list(copies[0].path.glob("asked-*"))

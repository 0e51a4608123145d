"""Accuracy against γ, point by point: what another run would have found, kept at a stop, and measured once."""

import json
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from supsup_datasets import embedded_mnist
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe, RecurringPermutedMnist
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.reproduction import asked_again
from supsup_methods.reproduction.asked_again import Asked, accuracies_under
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.share_curve import SHARES, CurveProgress, ShareQuestion, known_curve, measure_curve
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import Allocation, UnknownTasksSettings
from supsup_methods.task_guessing import Gamma, OneShot
from supsup_methods.training_length import StreamTraining

from .test_running import Watcher

CPU = torch.device("cpu")
DATA = embedded_mnist()
TINY = Recipe(
    "tiny-curve",
    5,
    backbone=FullyConnected(hidden=(40,), outputs=20),
    method=SupSupSettings(training=MaskTraining(batches=40, batch_size=64, learning_rate=3e-3)),
    evaluation=Evaluation(scenario="GNu", batch_size=20, checkpoints=(3,)),
)
NAMELESS = replace(
    TINY,
    name="tiny-nns",
    tasks=4,
    stream=RecurringPermutedMnist(distinct=2),
    method=UnknownTasksSettings(
        training=StreamTraining(batches=40, batch_size=64, learning_rate=3e-3), allocation=Allocation(every=20)
    ),
    evaluation=Evaluation(scenario="NNs", batch_size=200),
)
FIVE = ShareQuestion(tasks_learned=5, tasks_tested=5, contexts=5)


def carried_out(recipe, path):
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.begin(recipe, describe_environment(CPU, DATA, None))
    execute(folder, recipe, DATA, CPU, Watcher())
    return folder


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    return carried_out(TINY, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def run(learned, tmp_path):
    """A copy of a run of five tasks, which nobody has asked anything."""
    return RunFolder(shutil.copytree(learned.path, tmp_path / "tiny"))


@pytest.fixture
def tested(monkeypatch):
    """The tasks that are tested, in turn."""
    calls, real = [], asked_again.evaluate_task

    def evaluate_task(method, task, *rest, **named):
        calls.append(task.index)
        return real(method, task, *rest, **named)

    monkeypatch.setattr(asked_again, "evaluate_task", evaluate_task)
    return calls


def whole_curve(run, question=FIVE):
    steps = list(measure_curve(run, DATA, question))
    return known_curve(run, question), steps


@pytest.mark.parametrize(
    ("contexts", "shares"),
    [(1, []), (2, []), (3, [0.4, 0.5]), (5, [0.3, 0.4, 0.5]), (20, [0.1, 0.2, 0.3, 0.4, 0.5]), (36, list(SHARES))],
)
def test_the_curve_goes_from_one_shot_up(contexts, shares):
    one_shot, *gammas = ShareQuestion(1, 1, contexts, "G", 7).searches
    assert one_shot == (1 / contexts, OneShot(objective="G", images_per_guess=7))
    assert gammas == [(share, Gamma(share=share, objective="G", images_per_guess=7)) for share in shares]


@pytest.mark.parametrize("tasks", [0, 6])
def test_only_tasks_that_were_learned_are_tested(tasks):
    with pytest.raises(UsageError, match=f"tasks_tested={tasks}: 5 tasks are learned; choose from 1 to that"):
        ShareQuestion(tasks_learned=5, tasks_tested=tasks, contexts=5)


def test_a_point_is_what_a_run_with_that_search_finds(run, tmp_path):
    known, steps = whole_curve(run, replace(FIVE, objective="G", images_per_guess=3))
    assert known["search"].tolist() == ["One-Shot", "γ = 0.3", "γ = 0.4", "Binary"]
    assert known["share"].tolist() == [1 / 5, 0.3, 0.4, 0.5]
    for row, inference in (
        (0, OneShot(objective="G", images_per_guess=3)),
        (3, Gamma(objective="G", images_per_guess=3)),
    ):
        recipe = replace(TINY, method=replace(TINY.method, inference=inference))
        (*_, expected) = carried_out(recipe, tmp_path / inference.kind).summary()["checkpoints"]
        assert known.loc[row, "accuracy"] == expected["accuracy"]
        assert known.loc[row, "task inferred right"] == expected["task_inference_accuracy"]
    assert known["accuracy"].nunique() > 1
    expected_steps = [(point, tasks) for point in (1, 2, 3, 4) for tasks in range(6)]
    assert [(step.point, step.tasks) for step in steps] == expected_steps
    assert steps[-1] == CurveProgress(0.5, 4, 4, 5, 5)
    assert steps[-1].fraction == 1.0
    assert steps[8].fraction == pytest.approx((1 + 2 / 5) / 4)


def test_nothing_is_known_before_it_is_asked(run):
    known = known_curve(run, FIVE)
    assert known["tasks"].tolist() == [0, 0, 0, 0]
    assert known["accuracy"].isna().all()


def test_a_stop_keeps_what_was_measured_and_the_rest_is_measured_later(run, tested):
    with closing(measure_curve(run, DATA, FIVE)) as measuring:
        for step in measuring:
            if (step.point, step.tasks) == (2, 2):
                break
    known = known_curve(run, FIVE)
    assert known["tasks"].tolist() == [5, 2, 0, 0]
    assert known["accuracy"].notna().tolist() == [True, False, False, False]
    assert tested == [0, 1, 2, 3, 4, 0, 1]
    tested.clear()
    whole, steps = whole_curve(run)
    assert (steps[0].point, steps[0].tasks) == (2, 2)
    assert tested == [2, 3, 4, *range(5), *range(5)]
    assert whole["accuracy"].notna().all()
    tested.clear()
    again, steps = whole_curve(run)
    assert (tested, steps) == ([], [])
    assert again.equals(whole)


def test_a_stopped_curve_ends_as_one_that_was_not(run, tmp_path):
    other = RunFolder(shutil.copytree(run.path, tmp_path / "other"))
    for _ in range(30):  # stopped at every second step, as by a reader who comes and goes
        with closing(measure_curve(run, DATA, FIVE)) as measuring:
            if next(measuring, None) is None:
                break
            next(measuring, None)
    assert known_curve(run, FIVE).equals(whole_curve(other)[0])


def test_fewer_tasks_are_a_part_of_more(run, tested):
    few, _ = whole_curve(run, replace(FIVE, tasks_tested=2))
    assert tested == [0, 1] * 4
    whole_curve(run)
    assert tested == [0, 1] * 4 + [2, 3, 4] * 4
    scores = Asked(run, OneShot()).scores(5)
    assert few.loc[0, "accuracy"] == (scores[0].accuracy + scores[1].accuracy) / 2
    assert known_curve(run, replace(FIVE, tasks_tested=2)).equals(few)


def test_answers_are_written_while_it_measures(run, monkeypatch):
    """A process that is killed, and so cannot write at its end, loses a moment's work."""
    monkeypatch.setattr(asked_again, "_KEEP_SECONDS", 0.0)
    asking = Asked(run, OneShot()).ask(DATA, 5, 5)
    for _ in range(3):
        next(asking)
    assert len(Asked(run, OneShot()).scores(5)) == 3
    asking.close()


def test_of_two_that_measure_at_once_neither_takes_back_what_the_other_found(run):
    slow, fast = (Asked(run, OneShot()).ask(DATA, 5, 5) for _ in range(2))
    next(slow)
    assert len(list(fast)) == 5
    slow.close()
    assert len(Asked(run, OneShot()).scores(5)) == 5


def test_the_table_of_a_reproduction_and_the_curve_share_their_answers(bench, run, tested):
    bench, _, said = bench
    asked = Gamma(share=0.4)
    found = accuracies_under(bench, run, asked)
    assert [each["tasks_learned"] for each in found] == [3, 5]
    assert len(said) == 2
    assert tested == [0, 1, 2, 0, 1, 2, 3, 4]
    known = known_curve(run, FIVE).set_index("share")
    assert known.loc[0.4, "accuracy"] == found[-1]["accuracy"]
    whole_curve(run)
    tested.clear()
    (three, five) = accuracies_under(bench, run, OneShot())
    assert tested == [], "the run itself is a One-Shot run"
    assert five["accuracy"] == known_curve(run, FIVE).loc[0, "accuracy"]
    assert three["accuracy"] == run.summary()["checkpoints"][0]["accuracy"]


def test_answers_of_earlier_versions_are_read(bench, run, tested):
    checkpoints = [
        {
            "tasks_learned": tasks,
            "accuracy": 0.25 * tasks / 5,
            "task_inference_accuracy": 0.5,
            "forgetting": None,
            "backward_transfer": None,
        }
        for tasks in (3, 5)
    ]
    search = Gamma(share=0.4)
    asked = Asked(run, search)
    asked.path.write_text(json.dumps({"inference": {"kind": "gamma", "share": 0.4}, "checkpoints": checkpoints}))
    assert accuracies_under(bench[0], run, search) == checkpoints
    known = known_curve(run, FIVE).set_index("share")
    assert (known.loc[0.4, "accuracy"], known.loc[0.4, "tasks"]) == (0.25, 5)
    assert tested == []
    whole_curve(run, replace(FIVE, tasks_tested=1))
    assert accuracies_under(bench[0], run, search) == checkpoints, "what is known of one task adds to them"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"inference": {}, "checkpoints": [{}]}'])
def test_damaged_answers_say_what_to_do(run, content):
    Asked(run, OneShot()).path.write_bytes(content)
    with pytest.raises(UsageError, match=r"asked-\w+\.json: .*; delete it, and what it held is measured again"):
        known_curve(run, FIVE)


def test_a_run_whose_task_is_given_is_asked_as_if_it_were_not(tmp_path):
    recipe = replace(TINY, tasks=3, evaluation=Evaluation(scenario="GG", batch_size=200))
    question = ShareQuestion(3, 3, 3)
    given = carried_out(recipe, tmp_path / "given")
    inferred = carried_out(
        replace(recipe, evaluation=replace(recipe.evaluation, scenario="GNu")), tmp_path / "inferred"
    )
    found = whole_curve(given, question)[0]
    assert found.equals(whole_curve(inferred, question)[0])
    assert found["task inferred right"].notna().all()


def test_masks_that_are_no_tasks_are_right_for_their_owners(tmp_path):
    run = carried_out(NAMELESS, tmp_path / "nns")
    (*_, expected) = run.summary()["checkpoints"]
    known, _ = whole_curve(run, ShareQuestion(tasks_learned=4, tasks_tested=4, contexts=2))
    assert known["search"].tolist() == ["One-Shot"]
    assert known.loc[0, "accuracy"] == expected["accuracy"]
    assert known.loc[0, "task inferred right"] == expected["task_inference_accuracy"]
    assert expected["task_inference_accuracy"] > 0.5


def test_a_method_that_searches_nothing_is_refused(tmp_path):
    psp = PspSettings()
    method = replace(psp, training=replace(psp.training, batches=2))
    run = carried_out(replace(TINY, tasks=1, method=method, evaluation=Evaluation(scenario="GG")), tmp_path / "psp")
    with pytest.raises(UsageError, match="psp searches no contexts for tasks"):
        whole_curve(run, ShareQuestion(1, 1, 1))
    assert not list(run.path.glob("asked-*"))


def test_more_tasks_than_there_are_cannot_be_asked_about(run):
    with pytest.raises(UsageError, match="5 tasks are learned, and 6 are asked for"):
        whole_curve(run, ShareQuestion(6, 6, 6))

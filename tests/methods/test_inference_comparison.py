"""A comparison of searches against `evaluate_task`, and against each search asked by hand."""

import dataclasses

import pytest
import torch
from supsup_core import MaskBank, expected_calibration_error
from supsup_datasets import Scenario
from supsup_methods import inference_comparison
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import evaluate_task, evaluation_batches
from supsup_methods.inference_comparison import compare
from supsup_methods.task_guessing import Descent, EveryTask, Gamma, OneShot, infer_by

from .learned_tasks import LABELS, learned_bank, permuted_tasks

SETTINGS = (
    OneShot(),
    OneShot(objective="G", images_per_guess=3),
    Gamma(),
    EveryTask(objective="max-logit", images_per_guess=100),
    Descent(steps=2),
)


def tasks():
    return [permuted_tasks()[index] for index in range(4)]


def compared(settings=SETTINGS, shown=None, **changes):
    net, bank = learned_bank()
    arguments = {"batch_size": 10, "calibration_guesses_per_task": 8, **changes}
    return compare(net, bank, LABELS, tasks() if shown is None else shown, settings, **arguments)


class Inferring:
    """As much of a method as evaluation asks for."""

    def __init__(self, settings):
        self.net, self.bank = learned_bank()
        self.infer_each = infer_by(settings, self.net, self.bank, LABELS)

    def logits(self, images, task):
        return self.net(images, self.bank.weights(task))


def test_it_counts_what_an_evaluation_under_gnu_counts():
    results = compared()
    assert [result.settings for result in results] == list(SETTINGS)
    for result in results:
        scores = [evaluate_task(Inferring(result.settings), task, Scenario.GNu, 10) for task in tasks()]
        assert list(result.scores) == scores
        assert result.guesses == 4 * 7
        assert result.accuracy == pytest.approx(sum(score.images_right / 63 for score in scores) / 4)
        assert result.task_inference_accuracy == sum(score.guesses_right for score in scores) / 28
        assert result.median_seconds_per_guess > 0
    assert len({result.task_inference_accuracy for result in results}) > 1, "the searches are not all alike"


@pytest.mark.parametrize("batches_a_window", [7, 1])
@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_errors_of_calibration_are_those_of_its_confidences(monkeypatch, number, batches_a_window):
    if batches_a_window == 1:
        monkeypatch.setattr(inference_comparison, "_WINDOW_FLOATS", 1)
    (result,) = compared(SETTINGS[number : number + 1])
    for temperature, error in ((1.0, result.calibration_error), (result.temperature, result.calibrated_error)):
        infer_each = infer_by(result.settings, *learned_bank(), LABELS, temperature)
        sure, right = [], []
        for task in tasks():
            images = [batch.images for batch in evaluation_batches(task, 10)]
            # The same windows: otherwise rounding may put a confidence near an edge into the next bin.
            for first in range(0, len(images), batches_a_window):
                guesses = infer_each(images[first : first + batches_a_window])
                sure += [guess.confidence for guess in guesses]
                right += [guess.task == task.index for guess in guesses]
        assert error == expected_calibration_error(torch.tensor(sure), torch.tensor(right))


def changed(task, part, **changes):
    """Return a task with other labels or images in its training or test set."""
    images = getattr(task, part)
    base = dataclasses.replace(
        images.base, **{name: change(getattr(images.base, name)) for name, change in changes.items()}
    )
    return dataclasses.replace(task, **{part: dataclasses.replace(images, base=base)})


def answers(results):
    """All that a comparison says but for labels' part in it and the time."""
    return [
        (
            result.temperature,
            result.calibration_error,
            result.calibrated_error,
            [score.guessed for score in result.scores],
        )
        for result in results
    ]


def test_no_label_enters_a_guess_or_a_temperature():
    relabelled = [changed(task, "test", labels=lambda labels: labels.roll(1)) for task in tasks()]
    relabelled = [changed(task, "train", labels=lambda labels: labels.roll(1)) for task in relabelled]
    honest, misled = compared(), compared(shown=relabelled)
    assert answers(honest) == answers(misled)
    assert all(one.accuracy > other.accuracy for one, other in zip(honest, misled, strict=True))


def test_no_test_image_enters_a_temperature():
    inverted = [changed(task, "test", images=lambda images: 255 - images) for task in tasks()]
    honest, misled = compared(), compared(shown=inverted)
    assert [result.temperature for result in honest] == [result.temperature for result in misled]
    assert [result.scores for result in honest] != [result.scores for result in misled]
    retrained = [changed(task, "train", images=lambda images: images // 2) for task in tasks()]
    assert [result.temperature for result in compared(shown=retrained)] != [result.temperature for result in honest]


def test_the_seed_and_the_number_choose_the_training_images():
    first, again = compared(SETTINGS[:1]), compared(SETTINGS[:1])
    assert first[0].temperature == again[0].temperature
    assert compared(SETTINGS[:1], seed=1)[0].temperature != first[0].temperature
    assert compared(SETTINGS[:1], calibration_guesses_per_task=9)[0].temperature != first[0].temperature


@pytest.mark.parametrize("floats", [1, 130])
def test_windows_change_nothing(monkeypatch, floats):
    whole = compared()
    monkeypatch.setattr(inference_comparison, "_WINDOW_FLOATS", floats)
    for one, other in zip(whole, compared(), strict=True):
        assert one.scores == other.scores
        assert one.temperature == other.temperature


def test_the_true_task_may_be_ruled_out_while_calibrating():
    """A share that keeps one task leaves no second one: nothing to fit where the answer is wrong, and none to doubt it."""
    (result,) = compared([Gamma(share=0.3)])
    assert 0 < result.temperature < torch.inf
    net, bank = learned_bank()
    twins = MaskBank(net)
    for _ in range(4):
        twins.append(bank.masks(0))
    (lost,) = compare(net, twins, LABELS, [tasks()[3]], [Gamma()], 10, 4)
    assert lost.temperature == 1.0, "of equal tasks the lowest stay, so task 3 was always out"


def test_some_of_the_tasks_and_no_search():
    assert compared(()) == []
    (result,) = compared(SETTINGS[:1], shown=tasks()[2:3])
    assert [score.task for score in result.scores] == [2]


def test_what_cannot_be_compared_is_refused():
    for changes, message in (
        ({"shown": []}, "tasks: none to compare searches on"),
        ({"shown": [permuted_tasks(5)[4]]}, "tasks: task 4 is not among the 4 learned"),
        ({"batch_size": 0}, "batch_size=0: ask for at least 1"),
        ({"calibration_guesses_per_task": 0}, "calibration_guesses_per_task=0: ask for at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            compared(**changes)

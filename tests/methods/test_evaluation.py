import itertools
from functools import cache

import pytest
import torch
from supsup_core import Guess
from supsup_datasets import RecurringStream, Scenario
from supsup_methods import evaluation
from supsup_methods.continual_method import TaskGuess
from supsup_methods.evaluation import Checkpoint, TaskScore, evaluate_task, evaluation_batches

from .problems import stream


@cache
def label_of():
    """The label of every test image of every task, by the image's bytes."""
    batches = [batch for index in range(4) for batch in stream()[index].test.in_order(9)]
    pairs = (
        (image, label) for batch in batches for image, label in zip(batch.images, batch.labels.tolist(), strict=True)
    )
    return {image.numpy().tobytes(): label for image, label in pairs}


class Scripted:
    """Answers with tasks from a list, and with right labels for those image indices that it is told."""

    def __init__(self, tasks, right_every):
        self.tasks_learned = 4
        self.tasks = iter(tasks)
        self.right_every = right_every
        self.shown = []
        self.asked = []

    def learn(self, task, on_batch):
        raise AssertionError("evaluation does not train")

    def infer(self, images):
        self.shown.append(images)
        return Guess(next(self.tasks), (), ())

    def infer_each(self, batches):
        return [TaskGuess(self.infer(images).task, 1.0) for images in batches]

    def logits(self, images, task):
        self.asked.append(task)
        labels = torch.tensor([label_of()[image.numpy().tobytes()] for image in images])
        wrong = torch.arange(len(images)) % self.right_every != 0
        labels = torch.where(wrong, (labels + 1) % 3, labels)
        return torch.nn.functional.one_hot(labels, 5).float()


def test_gnu_counts_a_wrong_tasks_batch_as_wrong():
    method = Scripted([1, 0, 1, 1, 2, 1, 1], right_every=1)
    score = evaluate_task(method, stream()[1], Scenario.GNu, batch_size=9)
    assert score == TaskScore(
        task=1, images=63, images_right=45, guesses=7, guesses_right=5, guessed={0: 1, 1: 5, 2: 1}
    )
    assert method.asked == [0, 1, 2], "batches of one task go through the network together"


def test_gns_counts_only_the_label():
    method = Scripted([1, 0, 1, 1, 2, 1, 1], right_every=3)
    score = evaluate_task(method, stream()[1], Scenario.GNs, batch_size=9)
    assert score == TaskScore(
        task=1, images=63, images_right=21, guesses=7, guesses_right=5, guessed={0: 1, 1: 5, 2: 1}
    )


def test_gg_never_asks_for_a_guess():
    method = Scripted([], right_every=1)
    score = evaluate_task(method, stream()[2], Scenario.GG, batch_size=9)
    assert score == TaskScore(task=2, images=63, images_right=63, guesses=0, guesses_right=0)
    assert method.asked == [2]


def test_a_mask_that_belongs_to_a_task_is_right_whenever_the_task_comes_back():
    tasks = RecurringStream(stream(), 8, 1)
    task = tasks[7]
    assert task.identity != 7
    for owner, right in ((task.identity, 7), (task.index, 0)):
        score = evaluate_task(Scripted([2] * 7, right_every=1), task, Scenario.NNs, 9, owners={2: owner})
        assert (score.guesses, score.guesses_right) == (7, right)


def test_a_last_smaller_batch_counts_as_one_guess():
    method = Scripted([1, 1], right_every=1)
    score = evaluate_task(method, stream()[1], Scenario.GNu, batch_size=60)
    assert (score.guesses, score.images) == (2, 63)
    assert [len(images) for images in method.shown] == [60, 3]


@pytest.mark.parametrize("window_floats", [1, 200, 10**6])
def test_windows_of_batches_change_nothing(monkeypatch, window_floats):
    monkeypatch.setattr(evaluation, "_WINDOW_FLOATS", window_floats)
    method = Scripted([1, 0, 1, 1, 2, 1, 1], right_every=2)
    done = []
    score = evaluate_task(method, stream()[1], Scenario.GNu, batch_size=9, on_batch=lambda: done.append(1))
    assert (score.images, score.guesses, score.guesses_right, len(done)) == (63, 7, 5, 7)
    assert [len(images) for images in method.shown] == [9] * 7


def test_averages_are_over_tasks_and_over_guesses():
    scores = (TaskScore(0, 10, 5, 1, 1), TaskScore(1, 100, 100, 3, 0))
    checkpoint = Checkpoint(2, scores, seconds=1.0)
    assert checkpoint.accuracy == pytest.approx((0.5 + 1.0) / 2)
    assert checkpoint.task_inference_accuracy == pytest.approx(1 / 4)
    assert Checkpoint(1, (TaskScore(0, 10, 5, 0, 0),), 1.0).task_inference_accuracy is None


def test_every_task_shows_its_test_images_in_an_order_of_its_own_that_stays():
    first, again, other = (
        [batch.labels.tolist() for batch in evaluation_batches(stream()[task], 9)] for task in (1, 1, 2)
    )
    in_order = [batch.labels.tolist() for batch in stream()[1].test.in_order(9)]
    assert first == again
    assert first not in (other, in_order)
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*in_order))

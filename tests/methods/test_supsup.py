import inspect

import pytest
import torch
from supsup_datasets import Scenario
from supsup_methods.evaluation import evaluate_task
from supsup_methods.supsup import SupSup

from .problems import labelled, learner, stream, taught


@pytest.mark.parametrize("objective", ["H", "G"])
def test_it_learns_tasks_and_tells_them_apart(objective):
    method = taught(4, objective=objective, images_per_guess=7)
    scores = [evaluate_task(method, stream()[index], Scenario.GNu, batch_size=7) for index in range(4)]
    # 36 guesses among four tasks: by chance 9 right, with a standard deviation of 2.6.
    assert sum(score.guesses for score in scores) == 36
    assert sum(score.guesses_right for score in scores) > 9 + 5 * 2.6
    given = [evaluate_task(method, stream()[index], Scenario.GG, batch_size=7).accuracy for index in range(4)]
    assert min(given) > 0.8  # chance is 1/3


def test_learning_a_task_changes_no_earlier_answer():
    method = learner()
    images = stream()[0].test.batch(torch.arange(10)).images
    method.learn(stream()[0], lambda: None)
    before = method.logits(images, 0)
    for index in (1, 2):
        method.learn(stream()[index], lambda: None)
        assert torch.equal(method.logits(images, 0), before)


def test_the_same_seed_learns_the_same_bits():
    assert torch.equal(taught(2).bank.rows, taught(2).bank.rows)
    assert not torch.equal(taught(2, seed=1).bank.rows, taught(2).bank.rows)


def test_a_guess_reads_only_the_images_it_may():
    method = taught(3, images_per_guess=2)
    images = stream()[1].test.batch(torch.arange(8)).images
    changed = images.clone()
    changed[2:] = 0.0
    assert torch.equal(method.infer(images).slopes[0], method.infer(changed).slopes[0])


def test_a_guess_cannot_see_labels_or_the_task():
    assert list(inspect.signature(SupSup.infer).parameters) == ["self", "images"]
    method = taught(3)
    shuffled = stream()[1].test
    relabelled = labelled(63, 1).labels.roll(1)
    guesses = [method.infer(batch.images).task for batch in shuffled.in_order(9)]
    object.__setattr__(shuffled.base, "labels", relabelled)
    assert [method.infer(batch.images).task for batch in shuffled.in_order(9)] == guesses

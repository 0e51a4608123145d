"""Forgetting and backward transfer, against hand counts."""

import pytest
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.metrics import backward_transfer, forgetting


def score(task, right, guessed=None):
    return TaskScore(task, 100, right, 0, 0, guessed or {})


def checkpoint(*rights):
    return Checkpoint(len(rights), tuple(score(task, right) for task, right in enumerate(rights)), seconds=1.0)


FIRST = {task: score(task, right) for task, right in enumerate((90, 80, 70))}


def test_forgetting_counts_from_the_best_test_so_far():
    checkpoints = [checkpoint(95, 80), checkpoint(60, 85, 70)]
    # Task 0 was best at the checkpoint of two tasks: 95 - 60; task 1 is better now than ever: 80 - 85. The last has no past.
    assert forgetting(checkpoints, FIRST, checkpoints[1]) == pytest.approx((0.35 - 0.05) / 2)
    assert forgetting(checkpoints, FIRST, checkpoints[0]) == pytest.approx(-0.05), "later tests do not count"


def test_backward_transfer_counts_from_the_first_test():
    last = checkpoint(60, 85, 70)
    assert backward_transfer(FIRST, last) == pytest.approx((-0.30 + 0.05) / 2)


def test_a_single_task_has_neither():
    assert forgetting([checkpoint(90)], FIRST, checkpoint(90)) is None
    assert backward_transfer(FIRST, checkpoint(90)) is None


def test_without_first_tests_nothing_is_made_up():
    last = checkpoint(60, 85, 70)
    assert forgetting([last], {0: FIRST[0]}, last) is None
    assert backward_transfer({0: FIRST[0]}, last) is None

"""What every method must do whose tasks can be learned without each other, and that it is these."""

import pytest
import torch
from supsup_core import InvalidArgument
from supsup_methods.continual_method import LearnsApart
from supsup_methods.registry import kind_of

from .settings import VARIANTS
from .test_methods import TASKS, answers, fresh, learn, same, stream

APART_FROM = {name: kind_of(settings).apart_from(settings) for name, settings in VARIANTS.items()}
AFTER_A_FIRST = sorted(name for name, first in APART_FROM.items() if first == 1)


def test_these_are_independent_and_no_others():
    assert {name: first for name, first in APART_FROM.items() if first is not None} == {
        "supsup": 0,
        "upper-bound": 0,
        "batch-ensemble": 1,
        "batch-ensemble with heads": 1,
        "batch-ensemble over random weights": 0,
        "separate-heads": 1,
        "separate-heads over random weights": 0,
    }


@pytest.mark.parametrize("name", sorted(name for name, first in APART_FROM.items() if first is not None))
def test_tasks_learned_apart_in_any_order_are_those_learned_in_turn(name, tmp_path):
    tasks = [stream(name)[index] for index in range(TASKS)]
    elsewhere, here = fresh(name, tmp_path / "none"), fresh(name, tmp_path / "none")
    assert isinstance(elsewhere, LearnsApart)
    seen, own = [], {}
    for task in tasks[: APART_FROM[name]]:
        (own[task.index],) = elsewhere.learn_apart([task], lambda: seen.append(1))
        elsewhere.adopt(task, own[task.index])
    for task in reversed(tasks[APART_FROM[name] :]):
        (own[task.index],) = elsewhere.learn_apart([task], lambda: seen.append(1))
    assert elsewhere.tasks_learned == APART_FROM[name]
    assert len(seen) == sum(VARIANTS[name].training.steps(len(task.train)) for task in tasks)
    with pytest.raises(InvalidArgument, match="they are learned in turn"):
        here.adopt(tasks[1], own[1])
    for task in tasks:
        here.adopt(task, {name: torch.clone(tensor) for name, tensor in own[task.index].items()})
    in_turn = learn(fresh(name, tmp_path / "none"), name, range(TASKS))
    assert same(answers(here, name), answers(in_turn, name))
    assert here.bytes == in_turn.bytes


@pytest.mark.parametrize("name", AFTER_A_FIRST)
def test_the_task_that_trains_what_all_share_is_learned_first_and_once(name, tmp_path):
    method, tasks = fresh(name, tmp_path / "none"), stream(name)
    with pytest.raises(
        InvalidArgument, match="task 1: the trunk, which task 0 trains, is not trained yet; learn task 0"
    ):
        method.learn_apart([tasks[1]], lambda: None)
    learn(method, name, [0])
    before = answers(method, name)
    with pytest.raises(InvalidArgument, match="task 0: the trunk, which task 0 trains, is trained already"):
        method.learn_apart([tasks[0]], lambda: None)
    assert same(answers(method, name), before)

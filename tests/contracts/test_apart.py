"""What every method must do whose tasks can be learned without each other, and that it is these."""

import pytest
import torch
from supsup_core import InvalidArgument
from supsup_methods.continual_method import LearnsApart
from supsup_methods.registry import kind_of

from .settings import VARIANTS
from .test_methods import SMALL, TASKS, answers, fresh, learn, same, stream

APART = sorted(name for name, settings in VARIANTS.items() if kind_of(settings).apart(settings))


def test_these_are_independent_and_no_others():
    assert APART == ["supsup", "upper-bound"]


@pytest.mark.parametrize("kind", APART)
def test_tasks_learned_apart_in_any_order_are_those_learned_in_turn(kind, tmp_path):
    assert kind in SMALL
    tasks = [stream(kind)[index] for index in range(TASKS)]
    elsewhere, here = fresh(kind, tmp_path / "none"), fresh(kind, tmp_path / "none")
    assert isinstance(elsewhere, LearnsApart)
    seen, own = [], {}
    for task in reversed(tasks):
        (own[task.index],) = elsewhere.learn_apart([task], lambda: seen.append(1))
    assert elsewhere.tasks_learned == 0
    assert len(seen) == sum(SMALL[kind].training.steps(len(task.train)) for task in tasks)
    with pytest.raises(InvalidArgument, match="they are learned in turn"):
        here.adopt(tasks[1], own[1])
    for task in tasks:
        here.adopt(task, {name: torch.clone(tensor) for name, tensor in own[task.index].items()})
    in_turn = learn(fresh(kind, tmp_path / "none"), kind, range(TASKS))
    assert same(answers(here, kind), answers(in_turn, kind))
    assert here.bytes == in_turn.bytes

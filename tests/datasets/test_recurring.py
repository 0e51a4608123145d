import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import DatasetError, PermutedStream, RecurringStream, recurring

from .streams import small_dataset


def stream(distinct=3, stretches=8, seed=0):
    return RecurringStream(PermutedStream(small_dataset(1), distinct, 0), stretches, seed)


@given(distinct=st.integers(1, 5), rounds=st.integers(1, 3), seed=st.integers(0, 20))
def test_each_round_shows_every_task_once(distinct, rounds, seed):
    tasks = stream(distinct, distinct * rounds, seed)
    for lap in range(rounds):
        shown = [tasks[index].identity for index in range(lap * distinct, (lap + 1) * distinct)]
        assert sorted(shown) == list(range(distinct))
    for index in range(distinct * rounds):
        assert tasks.identity(index) == tasks[index].identity


def test_a_stretch_is_the_task_that_it_shows_under_an_index_of_its_own():
    tasks = stream()
    for index in range(8):
        task = tasks[index]
        assert task.index == index
        assert torch.equal(next(task.test.in_order(5)).images, next(tasks.base[task.identity].test.in_order(5)).images)
    assert PermutedStream(small_dataset(1), 3, 0)[2].identity == 2


def test_orders_differ_from_round_to_round_and_from_seed_to_seed():
    orders = [
        tuple(stream(6, 18, seed)[index].identity for index in range(6 * lap, 6 * lap + 6))
        for seed in range(3)
        for lap in range(3)
    ]
    assert len(set(orders)) == 9


def test_a_round_is_drawn_once(monkeypatch):
    drawn, draw = [], recurring.permutation
    monkeypatch.setattr(recurring, "permutation", lambda *key: drawn.append(key) or draw(*key))
    tasks = stream(5, 20, seed=123)
    for learned in range(20):  # as a run without task boundaries goes through them
        assert [tasks.identity(index) for index in range(learned)] == [
            tasks[index].identity for index in range(learned)
        ]
    assert len(drawn) == len(set(drawn)) == 4


def test_it_refuses_what_is_no_stream():
    with pytest.raises(DatasetError, match="tasks=0"):
        stream(stretches=0)
    with pytest.raises(DatasetError, match="seed=-1"):
        stream(seed=-1)
    with pytest.raises(IndexError, match="task 8"):
        stream()[8]

"""Rows in blocks, against the same rows in one matrix."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from supsup_core import task_rows
from supsup_core.task_rows import TaskRows

WIDTH = 3


class BlocksAreAMatrix(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.rows = TaskRows(WIDTH, torch.int64, torch.device("cpu"))
        self.expected = torch.empty((0, WIDTH), dtype=torch.int64)
        self.next = 0

    def fresh(self, count):
        rows = torch.arange(self.next, self.next + count * WIDTH).view(count, WIDTH)
        self.next += count * WIDTH
        return rows

    @rule(count=st.integers(0, 5))
    def append(self, count):
        rows = self.fresh(count)
        self.rows.append(rows)
        self.expected = torch.cat([self.expected, rows])

    @rule(count=st.integers(0, 5))
    def adopt(self, count):
        rows = self.fresh(count)
        self.rows.adopt(rows.clone())
        self.expected = torch.cat([self.expected, rows])

    @precondition(lambda self: len(self.expected))
    @rule(data=st.data())
    def remove(self, data):
        task = data.draw(st.integers(0, len(self.expected) - 1))
        self.rows.remove(task)
        self.expected = torch.cat([self.expected[:task], self.expected[task + 1 :]])

    @precondition(lambda self: len(self.expected))
    @rule(data=st.data())
    def set_one(self, data):
        task = data.draw(st.integers(0, len(self.expected) - 1))
        row = self.fresh(1)[0]
        self.rows[task] = row
        self.expected[task] = row

    @rule(data=st.data())
    def look_between(self, data):
        first = data.draw(st.integers(0, len(self.expected)))
        last = data.draw(st.integers(first, len(self.expected)))
        assert torch.equal(self.rows.between(first, last), self.expected[first:last])

    @invariant()
    def the_same_rows(self):
        assert len(self.rows) == len(self.expected)
        assert self.rows.bytes == self.expected.nbytes
        assert torch.equal(self.rows.rows, self.expected)
        assert all(len(block) for block in self.rows.blocks)
        assert all(torch.equal(self.rows[task], row) for task, row in enumerate(self.expected))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(task_rows, "_SMALLEST_BLOCK_BYTES", 4 * 8 * WIDTH)
    monkeypatch.setattr(task_rows, "_LARGEST_BLOCK_BYTES", 7 * 8 * WIDTH)


def test_blocks_are_a_matrix():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        BlocksAreAMatrix, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )


def test_a_row_stays_where_it_was_put():
    rows = TaskRows(WIDTH, torch.int64, torch.device("cpu"))
    rows.append(torch.zeros(1, WIDTH, dtype=torch.int64))
    first = rows[0]
    for _ in range(100):
        rows.append(torch.ones(1, WIDTH, dtype=torch.int64))
    first += 5
    assert rows[0].tolist() == [5] * WIDTH


def test_rows_of_no_width_are_counted():
    rows = TaskRows(0, torch.float32, torch.device("cpu"))
    rows.append(torch.empty(3, 0))
    rows.adopt(torch.empty(2, 0))
    assert (len(rows), rows.bytes, rows.rows.shape) == (5, 0, (5, 0))

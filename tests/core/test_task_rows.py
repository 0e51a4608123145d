"""Rows in blocks, against the same rows in one matrix."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from supsup_core import FrozenNetwork, InvalidArgument, task_rows
from supsup_core.task_rows import TaskRows, TaskStatistics
from torch import nn

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
    monkeypatch.setattr(task_rows, "_SMALL_PIECE_BYTES", 3 * 8 * WIDTH)


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


def statistics(dtype):
    """The place for running statistics of two layers, and some for one task."""
    layers = nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False)
    )
    net = FrozenNetwork(layers, seed=0)
    return TaskStatistics(net, dtype), net.fresh_buffers()


@pytest.mark.parametrize("name", ["1.running_mean", "1.running_var", "3.running_mean", "3.running_var"])
def test_a_statistic_that_does_not_survive_rounding_is_refused_by_name(name):
    kept, buffers = statistics(torch.float16)
    kept.flatten(buffers)
    buffers[name][1] = -65_504.0
    assert float(kept.flatten(buffers).min()) == -65_504
    buffers[name][1] = -65_520.0  # the first that rounds to infinity
    line = rf"buffers\['{name}'\]: -65520, and torch.float16 holds numbers up to 65504; keep running statistics in torch.float32"
    with pytest.raises(InvalidArgument, match=line):
        kept.flatten(buffers)
    rows = torch.stack([torch.zeros(10), torch.cat([value.flatten() for value in buffers.values()])])
    with pytest.raises(InvalidArgument, match=line):
        kept.checked(rows, 2)
    wider, _ = statistics(torch.float32)
    assert torch.equal(wider.checked(rows, 2), rows)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_statistic_that_is_no_finite_number_is_refused(value):
    kept, buffers = statistics(torch.float32)
    buffers["3.running_var"][0] = value
    with pytest.raises(
        InvalidArgument, match=rf"'3.running_var'\]: {value}, where a running statistic is a finite number"
    ):
        kept.flatten(buffers)


@pytest.mark.parametrize("width", [0, 10])
def test_many_removals_leave_few_blocks(width, monkeypatch):
    monkeypatch.setattr(task_rows, "_SMALL_PIECE_BYTES", 8_000)
    rows = torch.arange(10_000 * width).view(10_000, width)
    table = TaskRows(width, torch.int64, torch.device("cpu"))
    table.adopt(rows[:7_000])
    table.adopt(rows[7_000:])
    for place in range(2_500):
        table.remove(3 * place)
    left = torch.ones(10_000, dtype=torch.bool)
    left[::4] = False
    assert torch.equal(table.rows, rows[left])
    assert len(table.blocks) <= 2 + 2 * table.bytes // 8_000


def test_a_large_block_is_not_copied_when_a_row_goes():
    rows = torch.zeros(30, WIDTH, dtype=torch.int64)
    table = TaskRows(WIDTH, torch.int64, torch.device("cpu"))
    table.adopt(rows)
    table.remove(15)
    assert [block.data_ptr() for block in table.blocks] == [rows.data_ptr(), rows[16:].data_ptr()]


@pytest.mark.parametrize(("width", "reserved"), [(3, 64), (2**20, 4)])
def test_a_first_row_reserves_room_for_few(monkeypatch, width, reserved):
    monkeypatch.undo()
    rows = TaskRows(width, torch.uint8, torch.device("cpu"))
    rows.append(torch.zeros(1, width, dtype=torch.uint8))
    assert rows.blocks[0].untyped_storage().nbytes() == reserved * width

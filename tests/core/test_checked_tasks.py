from pathlib import Path

import pytest
import torch
from supsup_core.checked_tasks import CheckedTasks, StoredTasks
from supsup_core.packed_bits import checksum
from supsup_core.task_rows import TaskRows

STORED = StoredTasks(Path("file"), torch.arange(32, dtype=torch.uint8).view(4, 8), torch.zeros(4, 2), (0, 0, 0, 0))


def tables(device):
    return TaskRows(8, torch.uint8, torch.device(device)), TaskRows(2, torch.float32, torch.device(device))


def test_on_the_cpu_stored_tasks_are_taken_as_they_lie():
    rows, statistics = tables("cpu")
    CheckedTasks(rows, statistics).adopt(STORED)
    assert rows.blocks[0].data_ptr() == STORED.rows.data_ptr()
    assert statistics.blocks[0].data_ptr() == STORED.buffers.data_ptr()


def test_on_another_device_stored_tasks_are_copied_there():
    rows, statistics = tables("meta")
    tasks = CheckedTasks(rows, statistics)
    tasks.adopt(STORED)
    assert len(tasks) == len(rows) == len(statistics) == 4
    assert rows.blocks[0].device.type == statistics.blocks[0].device.type == "meta"


def test_blocks_start_anywhere_and_are_as_small_as_asked():
    rows, statistics = tables("cpu")
    tasks = CheckedTasks(rows, statistics)
    content = torch.arange(80, dtype=torch.uint8).view(10, 8)
    for part in content.split(4):
        sums = tuple(checksum(row, torch.zeros(2)) for row in part)
        tasks.adopt(StoredTasks(Path("file"), part, torch.zeros(len(part), 2), sums))
    for first in range(11):
        for size in (1, 3, 100):
            blocks = list(tasks.blocks(first, size))
            assert all(0 < len(block) <= size for block in blocks)
            assert torch.equal(torch.cat([content[:0], *blocks]), content[first:])


@pytest.mark.parametrize("cut_in", ["_rows", "_statistics"])
def test_an_append_that_is_interrupted_adds_nothing(monkeypatch, cut_in):
    rows, statistics = tables("cpu")
    tasks, content = CheckedTasks(rows, statistics), torch.arange(40, dtype=torch.uint8).view(5, 8)
    tasks.append(content[:2], torch.zeros(2, 2))
    table = getattr(tasks, cut_in)
    append = table.append

    def interrupted(new):
        append(new)
        raise KeyboardInterrupt

    for again in (
        lambda: tasks.append(content[2:4], torch.ones(2, 2)),
        lambda: tasks.adopt(StoredTasks(Path("file"), content[2:3], torch.zeros(1, 2), (7,))),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(table, "append", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tasks.append(content[3:], torch.full((2, 2), 9.0))
        before = len(tasks)
        again()
        assert len(tasks) == len(rows) == len(statistics) > before
    assert torch.equal(rows.rows, content[[0, 1, 2, 3, 2]])
    assert torch.equal(statistics.rows, torch.tensor([[0.0, 0], [0, 0], [1, 1], [1, 1], [0, 0]]))
    assert torch.equal(tasks.row(3), content[3])

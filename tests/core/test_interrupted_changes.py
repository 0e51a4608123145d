"""A bank whose change was cut short, by Ctrl-C or for lack of memory: it is as it was, or as it should be."""

import pytest
import torch
from supsup_core import InvalidArgument, MaskBank, RankOneBank, task_rows
from supsup_core.checked_tasks import CheckedTasks
from supsup_core.mask_counts import MaskCounts
from supsup_core.task_rows import TaskRows

from .networks import filled_bank, random_masks, small_network

UNIFORM = torch.full((3,), 1 / 3, dtype=torch.float64)


class Cut(BaseException):
    pass


def cut(*_, **__):
    raise Cut


def cut_after(function):
    def wrapped(*arguments, **keywords):
        function(*arguments, **keywords)
        raise Cut

    return wrapped


def appended(bank, net, seed, name):
    return bank.append(random_masks(net, seed), name=name)


@pytest.mark.parametrize("moment", ["before the tasks", "after the tasks"])
def test_names_stay_with_their_tasks_where_an_append_was_cut_short(tmp_path, monkeypatch, moment):
    net = small_network()
    bank = MaskBank(net)
    appended(bank, net, 0, "a")
    with monkeypatch.context() as patch:
        patch.setattr(CheckedTasks, "append", cut if moment == "before the tasks" else cut_after(CheckedTasks.append))
        with pytest.raises(Cut):
            appended(bank, net, 1, "b")
    expected = ["a"] if moment == "before the tasks" else ["a", "b"]
    assert list(bank.names) == expected
    assert appended(bank, net, 2, "c") == len(expected)
    assert bank.names.index("c") == len(expected)
    if moment == "before the tasks":
        assert appended(bank, net, 1, "b") == 2, "the name is free"
    bank.save(tmp_path)
    assert list(MaskBank.open(tmp_path, net).names) == list(bank.names)


@pytest.mark.parametrize("moment", ["before the tasks", "after the tasks"])
def test_names_stay_with_their_tasks_where_a_removal_was_cut_short(monkeypatch, moment):
    net = small_network()
    bank = MaskBank(net)
    for seed, name in enumerate(("a", None, "c")):
        appended(bank, net, seed, name)
    with monkeypatch.context() as patch:
        patch.setattr(CheckedTasks, "remove", cut if moment == "before the tasks" else cut_after(CheckedTasks.remove))
        with pytest.raises(Cut):
            bank.remove(0)
    expected = ["a", None, "c"] if moment == "before the tasks" else [None, "c"]
    assert list(bank.names) == expected
    assert appended(bank, net, 3, "d") == len(expected)
    assert torch.equal(bank.masks(bank.names.index("c"))["0.weight"], random_masks(net, 2)["0.weight"])
    bank.remove(0)
    assert list(bank.names) == [*expected[1:], "d"]


@pytest.mark.parametrize("of_rows", [True, False])
def test_without_memory_for_a_removal_the_bank_is_as_it_was(monkeypatch, of_rows):
    net = small_network()
    bank = filled_bank(net, 3)
    rows, blend = bank.rows.clone(), net.flatten(bank.blend(UNIFORM))
    without, failing = TaskRows.without, bank._rows if of_rows else bank._statistics.table

    def short_of_memory(self, task):
        if self is failing:
            raise MemoryError
        return without(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(TaskRows, "without", short_of_memory)
        with pytest.raises(MemoryError):
            bank.remove(0)
    assert torch.equal(bank.rows, rows)
    assert torch.equal(net.flatten(bank.blend(UNIFORM)), blend)
    bank.remove(0)
    assert torch.equal(bank.rows, rows[1:])
    assert torch.equal(
        bank.mean_mask(), net.flatten(bank.blend(torch.full((2,), 0.5, dtype=torch.float64))) / net.flatten(net.frozen)
    )


@pytest.mark.parametrize("change", ["replace", "remove"])
def test_counts_that_may_be_wrong_are_counted_again(monkeypatch, change):
    net = small_network()
    bank = filled_bank(net, 3)
    bank.mean_mask()
    with monkeypatch.context() as patch:
        patch.setattr(CheckedTasks, change, cut_after(getattr(CheckedTasks, change)))
        with pytest.raises(Cut):
            bank.replace(0, random_masks(net, 9)) if change == "replace" else bank.remove(0)
    fresh = MaskBank(net)
    fresh.append_rows(bank.rows)
    assert torch.equal(bank.mean_mask(), fresh.mean_mask())


def test_counts_go_on_from_what_is_known_where_nothing_happened(monkeypatch):
    net = small_network()
    bank = filled_bank(net, 3)
    bank.mean_mask()
    bank.replace(1, random_masks(net, 9))
    bank.remove(0)
    monkeypatch.setattr("supsup_core.mask_counts.count_ones", lambda *_: pytest.fail("counted again"))
    counts: MaskCounts = bank._counts
    assert counts.all().sum() == sum(int(mask.sum()) for task in range(2) for mask in bank.masks(task).values())


@pytest.mark.parametrize("cut_at", range(5))
def test_rank_one_contexts_stay_together_where_an_append_was_cut_short(monkeypatch, cut_at):
    net = small_network()
    bank = RankOneBank(net)

    def factors(value):
        return {
            entry.name: tuple(torch.full((entry.shape[axis],), value, dtype=torch.float64) for axis in (1, 0))
            for entry in net.maskable
        }

    bank.append(factors(1.0))
    calls, append = 0, TaskRows.append

    def cut_late(self, rows):
        nonlocal calls
        calls += 1
        if calls > cut_at:
            raise Cut
        append(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(TaskRows, "append", cut_late)
        with pytest.raises(Cut):
            bank.append(factors(7.0))
    assert len(bank) == 1
    assert bank.append(factors(2.0)) == 1
    for r, s in bank.factors(1).values():
        assert set(r.tolist()) | set(s.tolist()) == {2.0}
    assert all(len(table) == 2 for table in (*bank._inputs.values(), *bank._outputs.values()))


def test_rank_one_contexts_that_are_not_finite_are_refused(monkeypatch):
    net = small_network()
    bank = RankOneBank(net)
    factors = {entry.name: (torch.ones(entry.shape[1]), torch.ones(entry.shape[0])) for entry in net.maskable}
    factors["2.weight"][1][3] = torch.nan
    with pytest.raises(InvalidArgument, match=r"factors\['2.weight'\]: some are not finite"):
        bank.append(factors)
    assert len(bank) == 0
    factors["2.weight"][1][3] = 1.0
    bank.append(factors)
    assert bank.blend(torch.ones(1, dtype=torch.float32))["2.weight"].dtype == net.dtype


def test_removing_from_the_open_block_of_a_large_bank_copies_little(monkeypatch):
    monkeypatch.setattr(task_rows, "_SMALL_PIECE_BYTES", 64)
    rows = TaskRows(8, torch.uint8, torch.device("cpu"))
    content = torch.arange(400, dtype=torch.int64).to(torch.uint8).view(50, 8)
    rows.append(content)
    place = rows.blocks[0].data_ptr()
    rows.remove(20)
    assert [block.data_ptr() - place for block in rows.blocks] == [0, 21 * 8], "two views"
    rows.append(content[20:21])
    assert torch.equal(rows.rows, content[[*range(20), *range(21, 50), 20]])
    assert rows.blocks[-1].data_ptr() == place + 21 * 8, "the room for more is used"
    rows.remove(len(rows) - 1)
    assert torch.equal(rows.rows, content[[*range(20), *range(21, 50)]])


def test_whoever_removes_and_appends_for_ever_has_little_more_memory_than_rows(monkeypatch):
    monkeypatch.setattr(task_rows, "_SMALL_PIECE_BYTES", 64)
    rows, generator = TaskRows(4096, torch.uint8, torch.device("cpu")), torch.Generator().manual_seed(0)
    expected = list(range(60))
    rows.append(torch.tensor(expected, dtype=torch.uint8).view(-1, 1).expand(-1, 4096))
    for number in range(60, 160):
        gone = int(torch.randint(len(rows), (1,), generator=generator))
        rows.remove(gone)
        del expected[gone]
        rows.append(torch.full((1, 4096), number, dtype=torch.uint8))
        expected.append(number)
    assert rows.rows[:, 0].tolist() == expected
    held = {block.untyped_storage().data_ptr(): block.untyped_storage().nbytes() for block in rows.blocks}
    assert sum(held.values()) < 6 * rows.bytes

"""Counts of ones and of what masks have in common, beside counting bit by bit."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_core import CorruptBank, FrozenNetwork, MaskBank
from supsup_core.packed_bits import pack
from supsup_methods import mask_statistics as module
from supsup_methods.errors import UsageError
from supsup_methods.mask_statistics import common_ones, evenly_chosen, mask_statistics, ones_by_layer
from torch import nn


def bank_of(tasks, density=0.5, seed=0):
    """Return layers of 15, 35 and 14 bits, whose ends are no ends of bytes, under masks of that density."""
    net = FrozenNetwork(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7), nn.Linear(7, 2)), seed=0)
    bank, drawn = MaskBank(net), torch.Generator().manual_seed(seed)
    for _ in range(tasks):
        bank.append({entry.name: torch.rand(entry.shape, generator=drawn) < density for entry in net.maskable})
    return net, bank


def bits_of(net, bank, tasks):
    return [net.flatten(bank.masks(task)).tolist() for task in tasks]


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("tasks", [(0,), (0, 1, 2, 3, 4), (4, 1), (3, 0, 2)])
def test_they_are_as_counted_bit_by_bit(tasks, density):
    net, bank = bank_of(5, density)
    found = mask_statistics(net, bank, tasks)
    masks = bits_of(net, bank, tasks)
    assert found.tasks == tasks
    assert (found.layers, found.weights) == (("0.weight", "1.weight", "2.weight"), (15, 35, 14))
    for row, one in enumerate(masks):
        parts = (one[:15], one[15:50], one[50:])
        assert found.ones[row].tolist() == [sum(part) for part in parts]
        assert found.density[row].tolist() == [sum(part) / len(part) for part in parts]
        for column, other in enumerate(masks):
            both = sum(a and b for a, b in zip(one, other, strict=True))
            either = sum(a or b for a, b in zip(one, other, strict=True))
            equal = sum(a == b for a, b in zip(one, other, strict=True))
            assert int(found.common[row, column]) == both
            assert float(found.equal[row, column]) == pytest.approx(equal / 64, rel=1e-15)
            assert float(found.intersection_over_union[row, column]) == (both / either if either else 1.0)


def test_by_hand():
    net = FrozenNetwork(nn.Linear(2, 4), seed=0)
    bank = MaskBank(net)
    for bits in ([1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 1], [0] * 8):
        bank.append({"weight": torch.tensor(bits, dtype=torch.bool).view(4, 2)})
    found = mask_statistics(net, bank, (0, 1, 2))
    assert found.common.tolist() == [[4, 2, 0], [2, 3, 0], [0, 0, 0]]
    assert found.equal.tolist() == [[1, 5 / 8, 4 / 8], [5 / 8, 1, 5 / 8], [4 / 8, 5 / 8, 1]]
    assert found.intersection_over_union.tolist() == [[1, 2 / 5, 0], [2 / 5, 1, 0], [0, 0, 1]]
    assert found.density.tolist() == [[0.5], [3 / 8], [0]]


def test_many_masks_are_counted_in_parts_that_fit_together(monkeypatch):
    net, bank = bank_of(23)
    whole = mask_statistics(net, bank, range(23))
    monkeypatch.setattr(module, "_MASKS_AT_ONCE", 5)
    monkeypatch.setattr(module, "_CHUNK_FLOATS", 1)
    parts = mask_statistics(net, bank, range(23))
    assert torch.equal(parts.common, whole.common)
    assert torch.equal(parts.ones, whole.ones)
    assert torch.equal(whole.common, whole.common.T)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 4), st.integers(0, 2**31), st.floats(0.0, 1.0)
)
def test_layers_may_end_anywhere(sizes, tasks, seed, density):
    bits = torch.rand(tasks, sum(sizes), generator=torch.Generator().manual_seed(seed)) < density
    rows = pack(bits)
    assert torch.equal(ones_by_layer(rows, sizes), torch.stack([part.sum(1) for part in bits.split(sizes, 1)], 1))
    assert torch.equal(common_ones(rows), bits.long() @ bits.long().T)


def test_unrelated_masks_agree_as_the_module_says():
    p, q, bits = 0.3, 0.6, 200_000
    drawn = torch.Generator().manual_seed(0)
    rows = pack(torch.stack([torch.rand(bits, generator=drawn) < share for share in (p, q)]))
    common = common_ones(rows)
    found = module.MaskStatistics((0, 1), ("w",), (bits,), ones_by_layer(rows, [bits]), common)
    # A mean of 200,000 independent bits: five standard deviations.
    assert float(found.equal[0, 1]) == pytest.approx(p * q + (1 - p) * (1 - q), abs=5 * (0.25 / bits) ** 0.5)


@pytest.mark.parametrize(
    ("first", "last", "most", "expected"),
    [
        (0, 3, 100, (0, 1, 2, 3)),
        (7, 7, 2, (7,)),
        (0, 4, 5, (0, 1, 2, 3, 4)),
        (0, 100, 5, (0, 25, 50, 75, 100)),
        (10, 20, 2, (10, 20)),
    ],
)
def test_tasks_are_chosen_evenly_with_both_ends(first, last, most, expected):
    assert evenly_chosen(first, last, most) == expected


def test_a_hundred_of_2500_are_all_different():
    chosen = evenly_chosen(0, 2499, 100)
    assert len(set(chosen)) == 100
    assert (chosen[0], chosen[-1]) == (0, 2499)
    assert {after - before for before, after in itertools.pairwise(chosen)} == {25, 26}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: evenly_chosen(3, 2, 10), "tasks 3 to 2, at most 10: name them upwards"),
        (lambda: evenly_chosen(0, 2, 1), "choose two or more"),
        (lambda: mask_statistics(*bank_of(3), (0, 3)), "tasks 3: the bank holds tasks 0 to 2; choose some of them"),
        (lambda: mask_statistics(*bank_of(3), ()), "tasks none: the bank holds tasks 0 to 2"),
        (lambda: mask_statistics(*bank_of(0), (0,)), "tasks 0: the bank holds no task"),
    ],
)
def test_what_cannot_be_counted_is_refused(ask, message):
    with pytest.raises(UsageError, match=message):
        ask()


def test_a_damaged_mask_is_told(tmp_path):
    net, bank = bank_of(3)
    bank.save(tmp_path / "bank")
    (shard,) = (tmp_path / "bank").glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    place = content.rindex(bytes(bank.rows[1].tolist()))
    content[place] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptBank, match="task 1"):
        mask_statistics(net, MaskBank.open(tmp_path / "bank", net), (0, 1, 2))

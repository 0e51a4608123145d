import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_core import (
    FrozenNetwork,
    InvalidArgument,
    MaskBank,
    NetworkMismatch,
    belief_slopes,
    entropy,
    mask_coverage,
    one_shot,
    packed_bits,
    task_rows,
)
from supsup_core.packed_bits import pack
from torch import nn

from .networks import filled_bank, inputs, random_masks, small_network

EPS64 = torch.finfo(torch.float64).eps


def float_masks(bank):
    return torch.stack(
        [torch.cat([m.flatten() for m in bank.masks(task).values()]) for task in range(len(bank))]
    ).double()


@settings(max_examples=25)
@given(st.integers(1, 12))
def test_masks_and_weights_come_back_as_they_went_in(tasks):
    net = small_network()
    bank = filled_bank(net, tasks)
    assert len(bank) == tasks
    for task in range(tasks):
        expected = random_masks(net, task)
        for name, mask in bank.masks(task).items():
            assert torch.equal(mask, expected[name])
            assert torch.equal(bank.weights(task)[name], net.frozen[name] * expected[name])


def test_appending_changes_no_earlier_bit():
    net = small_network()
    bank = filled_bank(net, 3)
    before = bank.rows.clone()
    filled = bank.append(random_masks(net, 99))
    assert filled == 3
    assert torch.equal(bank.rows[:3], before)


def test_appending_reads_no_earlier_task(monkeypatch):
    net = small_network()
    bank = filled_bank(net, 3)
    monkeypatch.setattr(task_rows.TaskRows, "between", lambda *_: pytest.fail("earlier rows were gathered"))
    monkeypatch.setattr(task_rows.TaskRows, "__getitem__", lambda *_: pytest.fail("an earlier row was read"))
    bank.append(random_masks(net, 9))
    assert len(bank) == 4


@pytest.mark.parametrize("chunk_floats", [1, 200, 10**6])
def test_a_blend_is_the_weighted_sum_of_masks(monkeypatch, chunk_floats):
    monkeypatch.setattr(mask_coverage, "_CHUNK_FLOATS", chunk_floats)
    net = small_network()
    bank = filled_bank(net, 9)
    beliefs = torch.rand(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beliefs[2] = 0.0
    beliefs /= beliefs.sum()
    expected = beliefs @ float_masks(bank)
    blended = net.flatten(bank.blend(beliefs)) / net.flatten(dict(net.frozen))
    # Nine non-negative terms that sum to at most 1, a product and a quotient: 12 roundings of values up to 1.
    assert (blended - expected).abs().max() <= 12 * EPS64


def test_the_uniform_blend_from_counts_equals_the_sum_over_tasks():
    net = small_network()
    bank = filled_bank(net, 10)
    uniform = torch.full((10,), 0.1, dtype=torch.float64)
    by_counts = net.flatten(bank.blend(uniform)) / net.flatten(dict(net.frozen))
    assert (by_counts - uniform @ float_masks(bank)).abs().max() <= 12 * EPS64


def test_threads_that_ask_at_once_count_no_task_twice(monkeypatch):
    net, threads = small_network(), 4
    bank = filled_bank(net, 10)
    met = threading.Barrier(threads)

    def counted_together(rows, num_bits):
        met.wait(timeout=60)
        return packed_bits.count_ones(rows, num_bits)

    monkeypatch.setattr("supsup_core.mask_counts.count_ones", counted_together)
    with ThreadPoolExecutor(threads) as pool:
        asked = list(pool.map(lambda _: bank.mean_mask(), range(threads)))
    for mean in (*asked, bank.mean_mask()):
        assert (mean - float_masks(bank).mean(dim=0)).abs().max() <= 10 * EPS64


@pytest.mark.parametrize("tasks", [1, 3, 10])
def test_the_mean_mask_is_the_share_of_masks_with_each_weight_however_tasks_came_and_went(tasks, tmp_path):
    net = small_network()
    bank = MaskBank(net)
    for task in range(tasks):
        bank.append(random_masks(net, task))
        # One count and one quotient, rounded once.
        assert torch.equal(bank.mean_mask(), float_masks(bank).sum(dim=0) / (task + 1))
    bank.save(tmp_path)
    opened = MaskBank.open(tmp_path, net)
    assert torch.equal(opened.mean_mask(), bank.mean_mask())
    opened.append(random_masks(net, 99))
    opened.replace(0, random_masks(net, 98))
    assert torch.equal(opened.mean_mask(), float_masks(opened).sum(dim=0) / (tasks + 1))
    opened.remove(0)
    assert torch.equal(opened.mean_mask(), float_masks(opened).sum(dim=0) / tasks)


def test_the_mean_mask_of_no_task_is_nothing_in_the_networks_type():
    for dtype in (torch.float32, torch.float64):
        bank = MaskBank(small_network(dtype=dtype))
        assert bank.mean_mask().dtype == dtype
        assert bank.mean_mask().tolist() == [0.0] * 65


def test_what_is_done_to_a_mean_mask_changes_no_bank():
    bank = filled_bank(small_network(), 3)
    before = bank.mean_mask()
    bank.mean_mask().zero_()
    assert torch.equal(bank.mean_mask(), before)


@pytest.mark.parametrize("tasks", [1, 2, 7])
def test_one_hot_beliefs_are_exactly_the_task(tasks):
    bank = filled_bank(small_network(), tasks)
    for task in range(tasks):
        blended = bank.blend(torch.eye(tasks, dtype=torch.float64)[task])
        assert all(torch.equal(blended[name], value) for name, value in bank.weights(task).items())


@pytest.mark.parametrize("chunk_floats", [1, 200, 10**6])
def test_slopes_are_inner_products_with_each_tasks_weights(monkeypatch, chunk_floats):
    monkeypatch.setattr(packed_bits, "_CACHED_FLOATS", chunk_floats)
    net = small_network()
    bank = filled_bank(net, 9)
    generator = torch.Generator().manual_seed(0)
    gradients = {name: torch.randn(w.shape, generator=generator, dtype=w.dtype) for name, w in net.frozen.items()}
    flat = net.flatten({name: gradients[name] * w for name, w in net.frozen.items()})
    expected = torch.stack([(flat * row).sum() for row in float_masks(bank)])
    # Two summation orders of the same numbers differ by at most n eps times the sum of magnitudes, each.
    assert (bank.slopes(gradients) - expected).abs().max() <= 2 * net.num_bits * EPS64 * flat.abs().sum()


def test_memory_is_one_bit_a_weight_and_task():
    bank = filled_bank(small_network(), 4)
    assert bank.row_bytes == 16  # 35 + 30 bits, in whole 64-bit words
    assert bank.context_bytes == 64


def test_rows_can_be_appended_packed():
    net = small_network()
    bank, again = filled_bank(net, 5), MaskBank(net)
    assert again.append_rows(bank.rows[:2]) == 0
    assert again.append_rows(bank.rows[2:]) == 2
    assert torch.equal(again.rows, bank.rows)
    assert again.checksums == bank.checksums
    uniform = torch.full((5,), 0.2, dtype=torch.float64)
    assert torch.equal(net.flatten(again.blend(uniform)), net.flatten(bank.blend(uniform)))


def bad_masks(net):
    good = random_masks(net, 0)
    yield {"0.weight": good["0.weight"]}, "masks: none for '2.weight'"
    yield {**good, "extra": good["0.weight"]}, r"masks: \['extra'\] are not maskable; known: 0.weight, 2.weight"
    yield {**good, "0.weight": good["0.weight"].T}, r"masks\['0.weight'\]: torch.bool of shape \(7, 5\)"
    yield {**good, "0.weight": good["0.weight"].int()}, r"masks\['0.weight'\]: torch.int32"


def test_wrong_masks_are_refused_and_change_nothing():
    net = small_network()
    bank = filled_bank(net, 2)
    for masks, message in bad_masks(net):
        with pytest.raises(InvalidArgument, match=message):
            bank.append(masks)
    assert len(bank) == 2


def test_rows_of_another_network_are_refused():
    bank = filled_bank(small_network(), 1)
    with pytest.raises(InvalidArgument, match="rows of 16 bytes"):
        bank.append_rows(torch.zeros(1, 8, dtype=torch.uint8))
    with pytest.raises(InvalidArgument, match="bits set beyond the network's 65 maskable weights"):
        bank.append_rows(pack(torch.ones(1, 66, dtype=torch.bool)))


def test_nothing_cannot_be_blended():
    with pytest.raises(InvalidArgument, match="the bank holds no task to blend"):
        MaskBank(small_network()).blend(torch.ones(0, dtype=torch.float64))


@pytest.mark.parametrize("task", [-1, 2])
def test_an_unknown_task_is_refused(task):
    with pytest.raises(InvalidArgument, match=f"task={task}: the bank holds tasks 0 to 1"):
        filled_bank(small_network(), 2).weights(task)


def test_beliefs_of_the_wrong_length_are_refused():
    with pytest.raises(InvalidArgument, match=r"beliefs: shape \(3,\) for 2 tasks"):
        filled_bank(small_network(), 2).blend(torch.ones(3, dtype=torch.float64))


def test_what_a_bank_hands_out_is_a_copy_that_training_may_change():
    layers = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6))
    net = FrozenNetwork(layers, seed=0)
    bank = MaskBank(net)
    for task in range(3):
        bank.append(random_masks(net, task), net.fresh_buffers())
    before = bank.weights(1)
    net.in_training(torch.randn(8, 7), bank.weights(1))
    assert all(torch.equal(value, before[name]) for name, value in bank.weights(1).items())


@pytest.mark.parametrize("number", [torch.tensor(4), np.int64(4), 4])
def test_a_task_may_be_called_by_any_whole_number(number):
    net = small_network()
    bank = filled_bank(net, 6)
    bank.mean_mask()
    assert torch.equal(bank.weights(number)["0.weight"], bank.weights(4)["0.weight"])
    bank.replace(number, random_masks(net, 44))
    bank.remove(number)
    bank.append(random_masks(net, 7))
    assert len(bank) == 6
    assert (bank.mean_mask() - float_masks(bank).mean(dim=0)).abs().max() <= 6 * EPS64


@pytest.mark.parametrize("ask", ["weights", "masks", "remove"])
@pytest.mark.parametrize("number", [1.0, torch.tensor(1.5), "1", None])
@pytest.mark.usefixtures("as_users_call")
def test_a_task_that_is_no_whole_number_is_refused(ask, number):
    bank = filled_bank(small_network(), 3)
    with pytest.raises(InvalidArgument, match="a task is called by a whole number; pass one"):
        getattr(bank, ask)(number)
    assert len(bank) == 3


@pytest.mark.parametrize("start", [[0.25] * 4, [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.4, 0.3, 0.2, 0.1]])
def test_the_gradient_of_beliefs_through_a_blend_is_that_of_the_whole_sum(start):
    net = small_network()
    bank, x = filled_bank(net, 4), inputs(3)
    beliefs = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(net(x, bank.blend(beliefs))).mean(), beliefs)
    # Some 65 products of numbers of order 1, added up in another order.
    assert (gradient - belief_slopes(entropy, net, bank, x, beliefs)).abs().max() <= 1000 * EPS64


@pytest.mark.usefixtures("as_users_call")
def test_beliefs_that_are_no_fractions_are_refused():
    with pytest.raises(InvalidArgument, match=r"beliefs: torch.int64; beliefs are fractions"):
        filled_bank(small_network(), 2).blend(torch.tensor([0, 1]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.bfloat16])
def test_statistics_are_kept_as_what_a_file_can_hold(dtype):
    with pytest.raises(InvalidArgument, match=f"buffer_dtype={dtype}: running statistics are kept as torch.float16"):
        MaskBank(small_network(), dtype)


def test_a_bank_follows_its_network_to_another_dtype():
    net = small_network()
    bank = filled_bank(net, 300)
    narrow = net.to(dtype=torch.bfloat16)
    moved = bank.to(narrow)
    assert torch.equal(moved.rows, bank.rows)
    assert moved.weights(7)["0.weight"].dtype == torch.bfloat16
    assert narrow(inputs(2, torch.bfloat16), moved.weights(7)).dtype == torch.bfloat16
    assert one_shot(entropy, narrow, moved, inputs(2, torch.bfloat16)).slopes[0].shape == (300,)
    with pytest.raises(NetworkMismatch, match=r"another network than the bank's; pass what its FrozenNetwork.to"):
        bank.to(small_network(seed=1))


def test_a_network_in_half_precision_has_more_tasks_than_its_numbers_count_to():
    net = FrozenNetwork(nn.Linear(8, 8, bias=False), seed=0).to(dtype=torch.float16)
    bank, tasks = MaskBank(net), 70_000
    bank.append_rows(torch.full((tasks, bank.row_bytes), 255, dtype=torch.uint8))
    assert torch.equal(bank.mean_mask(), torch.ones(64, dtype=torch.float16))
    blended = bank.blend(torch.full((tasks,), 1 / tasks, dtype=torch.float16))
    assert (blended["weight"] - net.frozen["weight"]).abs().max() <= 2**-7, "of 1/70,000 float16 holds nine bits"


def test_beliefs_of_another_precision_blend_in_that_of_the_network():
    net = small_network(dtype=torch.float32)
    bank = filled_bank(net, 3)
    beliefs = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64, requires_grad=True)
    blended = bank.blend(beliefs)
    expected = bank.blend(beliefs.detach().float())
    assert all(torch.equal(blended[name], expected[name]) for name in expected)
    (slopes,) = torch.autograd.grad(sum(weight.sum() for weight in blended.values()), beliefs)
    assert slopes.dtype == torch.float64


@pytest.mark.parametrize(("dtype", "tasks"), [(torch.float16, 3000), (torch.bfloat16, 1000)])
def test_half_precision_loses_no_sum_over_many_tasks(monkeypatch, dtype, tasks):
    monkeypatch.setattr("supsup_core.mask_coverage._CHUNK_FLOATS", 7 * 65)  # seven tasks a block, as for LeNet
    net = small_network(dtype=dtype)
    bank = filled_bank(net, tasks)
    exact = torch.stack([net.flatten(bank.masks(task)) for task in range(tasks)]).double().mean(dim=0)
    uniform = torch.full((tasks,), 1 / tasks, dtype=torch.float64).to(dtype)
    uneven = uniform.clone()
    uneven[0] *= 1.25  # so that bits are not counted
    nearest = 2 * torch.finfo(dtype).eps
    for beliefs in (uniform, uneven, torch.stack([uniform, uneven])):
        expected = exact * float(uniform[0]) * tasks
        found = (
            net.flatten(bank.blend(beliefs[0] if beliefs.ndim > 1 else beliefs)) / net.flatten(net.frozen)
        ).double()
        assert float((found - expected).abs().max()) < nearest + 0.3 / tasks
    both = bank.blend(torch.stack([uniform, uneven]))
    together = torch.cat([both[entry.name].flatten(1) for entry in net.maskable], dim=1).double()
    assert float((together / net.flatten(net.frozen).double() - expected).abs().max()) < 2 * nearest + 0.3 / tasks

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank, entropy, one_shot_each, recognise_each
from supsup_core.novelty import Recognitions, WithFreshMask
from torch import nn

EPS = torch.finfo(torch.float64).eps


def network():
    return FrozenNetwork(nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False)).double(), 0)


def mask(net, seed):
    generator = torch.Generator().manual_seed(seed)
    return {entry.name: torch.rand(entry.shape, generator=generator) < 0.5 for entry in net.maskable}


def known(net, tasks):
    bank = MaskBank(net)
    for task in range(tasks):
        bank.append(mask(net, task))
    return bank


def images(count):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@given(tasks=st.integers(1, 5), groups=st.integers(1, 3), size=st.integers(1, 3), seed=st.integers(100, 200))
def test_it_is_one_shot_over_a_bank_that_holds_the_fresh_mask_too(tasks, groups, size, seed):
    net = network()
    bank, fresh = known(net, tasks), mask(net, seed)
    found = recognise_each(entropy, net, bank, fresh, images(groups * size), size)
    assert len(bank) == tasks, "the bank is as it was"
    bank.append(fresh)
    expected = one_shot_each(entropy, net, bank, images(groups * size), size)
    slopes = expected.slopes[0]
    nu = torch.softmax(-slopes, dim=1)
    torch.testing.assert_close(found.ratios, (tasks + 1) * nu.amax(dim=1), rtol=1e-12, atol=0)
    assert torch.equal(found.fresh_leads.bool(), expected.tasks == tasks)
    assert torch.equal(found.nearest, slopes[:, :-1].argmin(dim=1))


@given(tasks=st.integers(1, 4), rows=st.integers(1, 3), seed=st.integers(0, 100))
def test_the_store_answers_as_a_bank_with_one_mask_more(tasks, rows, seed):
    net = network()
    bank, fresh = known(net, tasks), mask(net, 50)
    store = WithFreshMask(net, bank, fresh)
    whole = known(net, tasks)
    whole.append(fresh)
    assert len(store) == len(whole)
    generator = torch.Generator().manual_seed(seed)
    beliefs = torch.softmax(torch.randn(rows, tasks + 1, generator=generator, dtype=torch.float64), dim=1)
    gradients = {
        entry.name: torch.randn(rows, *entry.shape, generator=generator, dtype=torch.float64) for entry in net.maskable
    }
    for name in net.frozen:
        for task in range(tasks + 1):
            assert torch.equal(store.weights(task)[name], whole.weights(task)[name])
        torch.testing.assert_close(store.blend(beliefs)[name], whole.blend(beliefs)[name], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(store.blend(beliefs[0])[name], whole.blend(beliefs[0])[name], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(store.slopes(gradients), whole.slopes(gradients), rtol=1e-12, atol=1e-12)
    products = {
        entry.name: tuple(
            torch.randn(rows, size, generator=generator, dtype=torch.float64) for size in entry.shape[::-1]
        )
        for entry in net.maskable
    }
    torch.testing.assert_close(store.outer_slopes(products), whole.outer_slopes(products), rtol=1e-12, atol=1e-12)


def test_what_stands_out_is_known_and_what_does_not_is_new():
    found = Recognitions(torch.tensor([3, 1, 2, 0]), torch.tensor([1.5, 1.1, 1.125, 9.0]), torch.tensor([0, 0, 0, 1]))
    assert found.tasks(1 / 8) == [3, None, 2, None]
    assert found.tasks(0.05) == [3, 1, 2, None]
    assert found.tasks(0.0) == [3, 1, 2, None], "the fresh mask leads: nothing known suits better than chance"
    for epsilon in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InvalidArgument, match="it is added to 1, the ratio of uniform"):
            found.tasks(epsilon)


def test_without_a_known_mask_there_is_nothing_to_recognise():
    net = network()
    with pytest.raises(InvalidArgument, match="known: it holds no mask"):
        recognise_each(entropy, net, MaskBank(net), mask(net, 0), images(1))


@pytest.mark.parametrize("fresh", [{}, {"0.weight": torch.ones(())}, {"other": torch.ones(3, dtype=torch.bool)}])
@pytest.mark.usefixtures("as_users_call")
def test_a_fresh_mask_that_is_none_of_the_network_is_refused(fresh):
    net = network()
    with pytest.raises(InvalidArgument, match=r"^masks"):
        recognise_each(entropy, net, known(net, 2), fresh, images(2))

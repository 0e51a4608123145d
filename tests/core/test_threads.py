"""Threads that call one network and ask one bank at once."""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from supsup_core import FrozenNetwork, MaskBank, entropy, one_shot_each
from supsup_core.over_groups import over_groups
from torch import nn

ENTERED, LEAVE = threading.Semaphore(0), threading.Event()
WAITING = threading.local()


class Halting(nn.Module):
    """Stands in the middle of a forward pass, of those threads that are told to, until it may go on."""

    def forward(self, x):
        if getattr(WAITING, "here", False):
            ENTERED.release()
            assert LEAVE.wait(60)
        return x


def network() -> FrozenNetwork:
    return FrozenNetwork(
        nn.Sequential(nn.Linear(6, 20), nn.BatchNorm1d(20, affine=False), Halting(), nn.ReLU(), nn.Linear(20, 5)), 0
    )


def learned(net: FrozenNetwork, tasks: int = 4) -> MaskBank:
    generator, bank = torch.Generator().manual_seed(1), MaskBank(net)
    for _ in range(tasks):
        masks = {entry.name: torch.rand(entry.shape, generator=generator) < 0.5 for entry in net.maskable}
        bank.append(masks, {name: torch.rand_like(value) + 0.5 for name, value in net.fresh_buffers().items()})
    return bank


@contextmanager
def halfway(*calls) -> Iterator[list]:
    """Hold each call, in a thread of its own, in the middle of its forward pass; fill in what they return."""
    returned = [None] * len(calls)

    def call(place):
        WAITING.here = True
        returned[place] = calls[place]()

    LEAVE.clear()
    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
        assert ENTERED.acquire(timeout=60)
    try:
        yield returned
    finally:
        LEAVE.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def x():
    return torch.randn(30, 6, generator=torch.Generator().manual_seed(2))


def answers(net: FrozenNetwork, bank: MaskBank, x) -> list[torch.Tensor]:
    """Return one answer of each way to call a network."""
    guesses = one_shot_each(entropy, net, bank, x, images_per_guess=10)
    training = net.in_training(x, bank.weights(2))
    return [net(x), net(x, bank.weights(1)), net.on_batch_statistics(x, bank.weights(1)), training, *guesses.slopes]


@pytest.mark.parametrize("way", ["__call__", "on_batch_statistics", "in_training"])
def test_a_call_meets_nothing_of_one_that_is_halfway_in_another_thread(x, way):
    net = network()
    bank = learned(net)
    expected = answers(net, bank, x)
    alone = getattr(net, way)(x, bank.weights(0))
    with halfway(*[lambda: getattr(net, way)(x, bank.weights(0))] * 2) as returned:
        for ours, theirs in zip(answers(net, bank, x), expected, strict=True):
            assert torch.equal(ours, theirs)
    assert all(torch.equal(each, alone) for each in returned)


def test_a_network_in_use_is_copied_saved_and_looked_at_as_it_is(x, tmp_path):
    net, same = network(), network()
    bank = learned(net)
    with halfway(lambda: net(x, bank.weights(0))):
        copied = copy.deepcopy(net)
        bank.save(tmp_path / "bank")
        moved = net.to(dtype=torch.float64)
        assert all(torch.equal(net.frozen[name], weight) for name, weight in same.frozen.items())
    for each in (copied, moved):
        assert each.fingerprint == net.fingerprint == same.fingerprint
    opened = MaskBank.open(tmp_path / "bank", same)
    assert torch.equal(same(x, opened.weights(3)), net(x, bank.weights(3)))
    assert torch.equal(copied(x, bank.weights(3)), net(x, bank.weights(3)))


def test_a_call_that_fails_leaves_the_network_as_it_was(x):
    net = network()
    bank = learned(net)
    expected = net(x, bank.weights(0))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        net(x[:, :5], bank.weights(1))
    assert torch.equal(net(x, bank.weights(0)), expected)


def test_which_attention_torch_takes_is_as_it_was_when_all_threads_are_done():
    cuda = torch.backends.cuda

    def chosen():
        return cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()

    before, inside = chosen(), []
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first(x):
        if not first_in.is_set():
            first_in.set()
            assert second_in.wait(60)
        return 2 * x

    def second(x):
        if not second_in.is_set():
            second_in.set()
            assert first_out.wait(60)
            inside.append(chosen())
        return 2 * x

    def leaving():
        over_groups(first, torch.ones(3))
        first_out.set()

    threads = [threading.Thread(target=leaving)]
    threads[0].start()
    assert first_in.wait(60)
    threads.append(threading.Thread(target=over_groups, args=(second, torch.ones(3))))
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert inside == [(False, False, True)], "it stays so while one needs it"
    assert chosen() == before

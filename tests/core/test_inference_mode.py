"""Whatever mode the caller is in, answers are the same."""

import pytest
import torch
from supsup_core import (
    FrozenNetwork,
    MaskBank,
    belief_descent_each,
    binary_each,
    entropy,
    every_task_each,
    gamma,
    one_shot,
    one_shot_each,
    recognise_each,
)
from supsup_core.hopfield import Reservoir
from supsup_core.hopfield_recovery import Recovery
from torch import nn

from .networks import random_masks


def convolutional():
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    return FrozenNetwork(layers, seed=0)


def linear():
    return FrozenNetwork(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)), seed=0)


def filled(net, tasks=5):
    bank = MaskBank(net)
    for task in range(tasks):
        bank.append(random_masks(net, task), net.fresh_buffers())
    return bank


SEARCHES = {
    "one_shot": lambda net, bank, x: one_shot(entropy, net, bank, x).slopes[0],
    "gamma": lambda net, bank, x: gamma(entropy, net, bank, x, 0.4).slopes[-1],
    "one_shot_each": lambda net, bank, x: one_shot_each(entropy, net, bank, x).slopes[0],
    "two images a guess": lambda net, bank, x: one_shot_each(entropy, net, bank, x, 2).slopes[0],
    "binary_each": lambda net, bank, x: binary_each(entropy, net, bank, x).slopes[-1],
    "belief_descent_each": lambda net, bank, x: (
        belief_descent_each(entropy, net, bank, x, steps=3, learning_rate=1.0).values
    ),
    "every_task_each": lambda net, bank, x: every_task_each(entropy, net, bank, x).values,
    "recognise_each": lambda net, bank, x: recognise_each(entropy, net, bank, random_masks(net, 99), x).ratios,
}


@pytest.mark.parametrize("network", [convolutional, linear])
@pytest.mark.parametrize("name", SEARCHES)
def test_searches_answer_alike_in_every_mode(name, network):
    net = network()
    bank = filled(net)
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = SEARCHES[name](net, bank, x)
    assert bool((expected != expected.flatten()[0]).any())
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert torch.equal(SEARCHES[name](net, bank, x.clone()), expected)


def test_what_is_made_in_inference_mode_can_be_used_and_changed_outside():
    with torch.inference_mode():
        net = convolutional()
        bank = filled(net, 3)
    bank.append(random_masks(net, 3), net.fresh_buffers())
    outside = filled(convolutional(), 4)
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bank.rows, outside.rows)
    assert torch.equal(one_shot(entropy, net, bank, x).slopes[0], one_shot(entropy, net, outside, x).slopes[0])


def test_a_mask_is_recovered_alike_in_inference_mode():
    stored = Reservoir.empty({"bn": 6}).store({"bn": torch.tensor([True, False, True, True, False, False])})

    def entropy_of(masks):
        return (masks["bn"] * torch.arange(6.0)).sum()

    def recovered():
        recovery = Recovery(stored, 4)
        return [recovery.step(entropy_of).objective for _ in range(4)], recovery.masks["bn"].tolist()

    expected = recovered()
    with torch.inference_mode():
        assert recovered() == expected


def test_copies_and_banks_that_are_made_in_inference_mode_serve_outside(tmp_path):
    net = convolutional()
    filled(net, 3).save(tmp_path)
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = one_shot(entropy, net, filled(net, 3), x).slopes[0]
    with torch.inference_mode():
        copied, opened = net.to("cpu"), MaskBank.open(tmp_path, net)
        one_shot(entropy, copied, opened, x)
        moved = opened.to(copied)
    for bank in (opened, moved):
        assert torch.equal(one_shot(entropy, copied, bank, x).slopes[0], expected)
        assert copied.in_training(x, bank.weights(0)).shape == (6, 5)
        bank.replace(0, bank.masks(1), net.fresh_buffers())
        bank.remove(1)
        assert torch.equal(bank.rows, filled(net, 3).rows[[1, 2]])

"""Slopes of images whose gradients are outer products, against gradients that are formed."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_core import (
    FrozenNetwork,
    MaskBank,
    RankOneBank,
    entropy,
    every_task_each,
    group_slopes,
    keep_weights,
    one_shot_each,
    superfluous_logsumexp,
)
from supsup_core.context_stores import OuterProductStore
from supsup_core.linear_chain import LinearChain
from torch import nn

from .networks import random_masks

EPS64 = torch.finfo(torch.float64).eps


def chain(*layers, **keywords):
    return FrozenNetwork(nn.Sequential(*layers), seed=0, **keywords).to(dtype=torch.float64)


def lenet():
    return chain(nn.Flatten(), nn.Sequential(nn.Linear(12, 9, bias=False), nn.ReLU()), nn.Linear(9, 7, bias=False))


def with_biases():
    net = FrozenNetwork(nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 7)), 0, init=keep_weights)
    return net.to(dtype=torch.float64)


def masked(net, tasks):
    bank = MaskBank(net)
    for task in range(tasks):
        bank.append(random_masks(net, task))
    return bank


def rank_one(net, tasks):
    bank = RankOneBank(net)
    generator = torch.Generator().manual_seed(0)
    for _ in range(tasks):
        draw = {
            entry.name: tuple(torch.randn(size, generator=generator, dtype=net.dtype) for size in entry.shape[::-1])
            for entry in net.maskable
        }
        bank.append(draw)
    return bank


class Formed:
    """A store that has no answer for outer products."""

    def __init__(self, bank):
        self.weights, self.blend, self.slopes = bank.weights, bank.blend, bank.slopes
        self._bank = bank

    def __len__(self):
        return len(self._bank)


@pytest.mark.parametrize("network", [lenet, with_biases])
@pytest.mark.parametrize("store", [masked, rank_one])
@pytest.mark.parametrize("objective", [entropy, superfluous_logsumexp(3)])
@settings(max_examples=10)
@given(tasks=st.integers(1, 12), groups=st.integers(1, 5), shown=st.integers(1, 3), seed=st.integers(0, 1000))
def test_slopes_without_gradients_are_those_with_them(network, store, objective, tasks, groups, shown, seed):
    net = network()
    bank = store(net, tasks)
    assert isinstance(bank, OuterProductStore)
    assert not isinstance(Formed(bank), OuterProductStore)
    x = torch.randn(groups, shown, 1, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    beliefs = torch.full((groups, tasks), 1 / tasks, dtype=torch.float64)
    fast = group_slopes(objective, net, bank, x, beliefs)
    slow = group_slopes(objective, net, Formed(bank), x, beliefs)
    # The same sums in another order: at most some thousand terms, each a few roundings of numbers below a hundred.
    assert (fast - slow).abs().max() <= 1e5 * EPS64 * max(1.0, float(slow.abs().max()))


@pytest.mark.parametrize("floats", [1, 40, 10**6])
def test_parts_and_blocks_change_nothing(monkeypatch, floats):
    for place in (
        "mask_slopes._GRADIENT_FLOATS",
        "mask_slopes._FLOATS_OF_PRODUCTS",
        "rank_one_bank._PRODUCT_FLOATS",
        "task_inference._ACTIVATION_FLOATS",
    ):
        monkeypatch.setattr(f"supsup_core.{place}", floats)
    net = lenet()
    x = torch.randn(4, 2, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beliefs = torch.full((4, 11), 1 / 11, dtype=torch.float64)
    for bank in (masked(net, 11), rank_one(net, 11)):
        slow = group_slopes(entropy, net, Formed(bank), x, beliefs)
        assert (group_slopes(entropy, net, bank, x, beliefs) - slow).abs().max() <= 1e5 * EPS64


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, x):
        return self.layer(x - x.mean(dim=0))


class Subclass(nn.ReLU):
    def forward(self, x):
        return x - x.mean(dim=0)


def shared():
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    "module",
    [
        Own(),
        nn.Sequential(Own()),
        nn.Sequential(nn.Linear(5, 4), Subclass()),
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        nn.Sequential(nn.Flatten(0), nn.Linear(5, 4)),
        nn.Sequential(nn.Conv1d(5, 4, 1), nn.Flatten(), nn.Linear(4, 3)),
        nn.Linear(5, 4),
        shared(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_whatever_may_let_images_see_each_other_is_no_chain(module):
    assert LinearChain.of(FrozenNetwork(module, seed=0)) is None


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.ReLU6(), nn.Mish(), nn.Hardtanh(), nn.LayerNorm(9)], ids=repr
)
def test_layers_that_act_on_each_image_alone_take_the_short_way(layer):
    net = chain(nn.Flatten(), nn.Linear(12, 9, bias=False), layer, nn.ReLU(), nn.Linear(9, 7, bias=False))
    bank = masked(net, 5)
    assert LinearChain.of(net) is not None
    drops = isinstance(layer, nn.Dropout | nn.AlphaDropout)
    assert (LinearChain.of(net, training=True) is None) is drops, "in training it does something else"
    x = torch.randn(6, 1, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beliefs = torch.full((6, 5), 1 / 5, dtype=torch.float64)
    slow = group_slopes(entropy, net, Formed(bank), x, beliefs)
    assert (group_slopes(entropy, net, bank, x, beliefs) - slow).abs().max() <= 1e5 * EPS64


@pytest.mark.parametrize("images", [1, 8, 64])
@pytest.mark.parametrize("store", [masked, rank_one])
def test_under_autocast_tasks_are_inferred_too(store, images):
    net = lenet().to(dtype=torch.float32)
    bank = store(net, 6)
    x = torch.randn(images, 12, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(one_shot_each(entropy, net, bank, x).slopes)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.stack(one_shot_each(entropy, net, bank, x).slopes)
    # Factors of bfloat16, eight bits, in some thousand products of both signs.
    assert (found - expected).abs().max() <= 2**-4 * expected.abs().max()


def test_masks_on_biases_are_no_chain():
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    everything = FrozenNetwork(module, seed=0, init=keep_weights, select=lambda layer, name: 5.0)
    assert LinearChain.of(everything) is None


def test_a_linear_layer_at_many_positions_has_no_single_outer_product():
    net = chain(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(15, 6, bias=False))
    bank = masked(net, 3)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = LinearChain.of(net)
    assert found is not None
    assert found.outer_products(entropy, bank.weights(0), x) is None
    beliefs = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    slow = group_slopes(entropy, net, Formed(bank), x.unsqueeze(1), beliefs)
    assert torch.equal(group_slopes(entropy, net, bank, x.unsqueeze(1), beliefs), slow)


def test_beliefs_that_differ_form_their_gradients():
    net = lenet()
    bank = masked(net, 3)
    x = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beliefs = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]], dtype=torch.float64)
    slow = group_slopes(entropy, net, Formed(bank), x, beliefs)
    assert torch.equal(group_slopes(entropy, net, bank, x, beliefs), slow)


def tied():
    layers = [nn.Linear(12, 12, bias=False), nn.ReLU(), nn.Linear(12, 12, bias=False)]
    layers[2].weight = layers[0].weight
    return chain(nn.Flatten(), *layers)


def hooked(register, on):
    layers = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(12, 9, bias=False), nn.ReLU()), nn.Linear(9, 7, bias=False)
    )
    layer = {"layer": layers[2], "inner chain": layers[1], "chain": layers}[on]
    if register == "forward":
        layer.register_forward_hook(lambda layer, args, out: 3 * out - 1)
    else:
        layer.register_forward_pre_hook(lambda layer, args: (3 * args[0] - 1,))
    return FrozenNetwork(layers, seed=0).to(dtype=torch.float64)


HOOKS = [(kind, on) for kind in ("forward", "pre") for on in ("layer", "inner chain", "chain")]
NO_CHAINS = {"tied": tied, **{f"{kind}, {on}": partial(hooked, kind, on) for kind, on in HOOKS}}


@pytest.mark.parametrize("name", NO_CHAINS)
def test_layers_that_share_a_weight_or_do_more_than_their_class_says_are_no_chain(name):
    net = NO_CHAINS[name]()
    assert LinearChain.of(net) is None
    bank = masked(net, 4)
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beliefs = torch.full((3, 4), 0.25, dtype=torch.float64)
    alpha = beliefs[0].clone().requires_grad_()
    expected = [torch.autograd.grad(entropy(net(image[None], bank.blend(alpha))).mean(), alpha)[0] for image in x]
    found = group_slopes(entropy, net, bank, x.unsqueeze(1), beliefs)
    # Some 300 products of numbers of order 1 after three layers.
    assert (found - torch.stack(expected)).abs().max() <= 3000 * EPS64


@pytest.mark.parametrize("store", [masked, rank_one])
@pytest.mark.parametrize("shown", [1, 4])
def test_layers_that_work_in_place_are_those_that_do_not(store, shown):
    def net(inplace):
        return chain(
            *(nn.ReLU(inplace), nn.Linear(12, 9), nn.LeakyReLU(0.1, inplace), nn.Linear(9, 7), nn.SiLU(inplace)),
            nn.Linear(7, 5),
        )

    x = torch.randn(6, shown, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before, beliefs = x.clone(), torch.full((6, 5), 0.2, dtype=torch.float64)
    expected = group_slopes(entropy, net(False), store(net(False), 5), x, beliefs)
    assert torch.equal(group_slopes(entropy, net(True), store(net(True), 5), x, beliefs), expected)
    tried = every_task_each(entropy, net(True), store(net(True), 5), x.flatten(0, 1)).values
    assert torch.equal(x, before)
    assert torch.equal(every_task_each(entropy, net(False), store(net(False), 5), x.flatten(0, 1)).values, tried)


def test_a_layer_whose_forward_somebody_has_wrapped_is_asked_as_it_is():
    plain, wrapped = lenet(), lenet()
    layer = wrapped.module[2]
    inner = layer.forward
    layer.forward = lambda x: 3 * inner(x).tanh()
    assert LinearChain.of(plain) is not None
    assert LinearChain.of(wrapped) is None

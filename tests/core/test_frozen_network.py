import copy
import math
import pickle

import numpy as np
import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank, belief_slopes, entropy, keep_weights
from torch import nn

from .networks import filled_bank, inputs, small_network


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 300, bias=False),
        nn.ReLU(),
        nn.Linear(300, 100, bias=False),
        nn.ReLU(),
        nn.Linear(100, 100, bias=False),
    )


def test_weights_are_plus_or_minus_the_kaiming_constant():
    net = FrozenNetwork(lenet(), seed=3)
    for name, fan_in in (("1.weight", 784), ("3.weight", 300), ("5.weight", 100)):
        constant = torch.tensor(math.sqrt(2 / fan_in), dtype=torch.float32)
        assert torch.equal(net.frozen[name].abs(), constant.expand_as(net.frozen[name]))


def test_the_golden_fingerprint_never_changes():
    # Made by `FrozenNetwork(lenet(), seed=0).fingerprint`: banks written by any release must keep opening.
    assert (
        FrozenNetwork(lenet(), seed=0).fingerprint == "79be104b04092d27f6ae14d4f4a1928f970275b360f0045fb13db722f45b1587"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_draws_the_same_bits():
    with torch.device("cuda"):
        assert FrozenNetwork(lenet(), seed=0).fingerprint == FrozenNetwork(lenet().cpu(), seed=0).fingerprint


def test_weights_depend_on_seed_and_layer_only():
    torch.manual_seed(1)
    first = FrozenNetwork(lenet(), seed=5)
    torch.manual_seed(2)
    again, other = FrozenNetwork(lenet(), seed=5), FrozenNetwork(lenet(), seed=6)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_two_layers_of_one_shape_differ():
    net = FrozenNetwork(nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20)), seed=0)
    assert not torch.equal(net.frozen["0.weight"], net.frozen["1.weight"])


def test_biases_become_zero_and_normalisation_stays():
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    net = FrozenNetwork(module, seed=0)
    own = dict(net.module.named_parameters())
    assert not own["0.bias"].any()
    assert torch.equal(own["1.weight"], module[1].weight)
    assert torch.equal(net(torch.zeros(2, 4)), module[1].bias.expand(2, 4))
    assert [entry.name for entry in net.maskable] == ["0.weight"]


def test_keep_weights_changes_nothing():
    module = nn.Linear(4, 3)
    net = FrozenNetwork(module, seed=0, init=keep_weights)
    x = torch.randn(5, 4)
    assert torch.equal(net(x), module(x))


def test_the_module_given_is_left_alone():
    module = lenet()
    before = copy.deepcopy(module.state_dict())
    net = FrozenNetwork(module, seed=0)
    net(torch.randn(2, 784), {name: 0 * value for name, value in net.frozen.items()})
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_the_call_is_the_module_with_the_weights_given():
    net = small_network()
    weights = {name: torch.randn_like(value) for name, value in net.frozen.items()}
    x = inputs(3)
    by_hand = torch.relu(x @ weights["0.weight"].T) @ weights["2.weight"].T
    assert torch.equal(net(x, weights), by_hand)


def test_flatten_and_unflatten_are_inverse():
    net = small_network()
    parts = net.unflatten(torch.arange(net.num_bits))
    assert [tuple(part.shape) for part in parts.values()] == [(5, 7), (6, 5)]
    assert torch.equal(net.flatten(parts), torch.arange(net.num_bits))


@pytest.mark.parametrize(
    ("layer", "shape", "fan_in"),
    [
        (nn.Linear(6, 4), (4, 6), 6),
        (nn.Conv2d(6, 4, 3), (4, 6, 3, 3), 54),
        (nn.Conv2d(6, 4, 3, groups=2), (4, 3, 3, 3), 27),
        (nn.ConvTranspose2d(6, 4, 4, stride=2), (6, 4, 4, 4), 24),
        (nn.Embedding(10, 4), (10, 4), 1),
    ],
)
def test_fan_in_of_each_kind_of_layer(layer, shape, fan_in):
    net = FrozenNetwork(layer, seed=0)
    (entry,) = net.maskable
    assert (entry.shape, entry.fan_in) == (shape, fan_in)
    assert net.frozen["weight"].abs().unique().item() == pytest.approx(math.sqrt(2 / fan_in), rel=2**-23)


def test_a_network_survives_copying_and_pickling():
    net = small_network()
    x = inputs(2)
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301 - our own object
        assert torch.equal(again(x), net(x))
        assert again.fingerprint == net.fingerprint


def test_the_fingerprint_is_the_same_in_double_precision():
    net = FrozenNetwork(lenet(), seed=0)
    assert net.to(dtype=torch.float64).fingerprint == net.fingerprint


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"nope": torch.zeros(1)}, r"weights\['nope'\]: the module has no such parameter; known: 0.weight, 2.weight"),
        ({"0.weight": torch.zeros(7, 5)}, r"weights\['0.weight'\]: shape \(7, 5\) where the module has \(5, 7\)"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(InvalidArgument, match=message):
        small_network()(inputs(1), weights)


def test_a_module_without_maskable_weights_is_refused():
    with pytest.raises(InvalidArgument, match="module=ReLU: it has no maskable parameter"):
        FrozenNetwork(nn.ReLU(), seed=0)


def test_a_negative_seed_is_refused():
    with pytest.raises(InvalidArgument, match="seed=-1"):
        FrozenNetwork(lenet(), seed=-1)


def test_no_buffer_of_the_networks_own_changes_in_training():
    net = FrozenNetwork(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), seed=0)
    before = {name: value.clone() for name, value in net.module.named_buffers()}
    own = net.fresh_buffers()
    net.in_training(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), {**net.frozen, **own})
    assert all(torch.equal(value, before[name]) for name, value in net.module.named_buffers())
    assert not torch.equal(own["1.running_mean"], before["1.running_mean"])


def test_statistics_that_count_the_batches_of_all_tasks_are_refused():
    net = FrozenNetwork(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, momentum=None)), seed=0)
    with pytest.raises(InvalidArgument, match="momentum=None counts the batches of all tasks; give it a momentum"):
        net.in_training(torch.zeros(8, 5), {**net.frozen, **net.fresh_buffers()})


class WithConstant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.register_buffer("projection", torch.full((4, 4), value))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("average", torch.zeros(4))
        self.layer, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        if self.training:
            self.steps += 1
            self.average.mul_(0.9).add_(x.mean(dim=0), alpha=0.1)
        return self.norm(self.layer(x @ self.projection - self.average))


def test_constants_of_the_module_are_part_of_the_fingerprint_and_running_statistics_are_not():
    net, other = (FrozenNetwork(WithConstant(value), 0) for value in (1.0, 2.0))
    assert net.fingerprint != other.fingerprint
    module = WithConstant(1.0)
    module.norm.running_mean += 1
    assert FrozenNetwork(module, 0).fingerprint == net.fingerprint


def test_training_changes_no_buffer_but_the_statistics_it_is_given():
    net, x = FrozenNetwork(WithConstant(1.0), 0), torch.randn(8, 4)
    statistics = net.fresh_buffers()
    answer = net(x, statistics)
    trained = net.fresh_buffers()
    net.in_training(x, net.frozen | trained)
    assert torch.equal(net(x, statistics), answer)
    assert not torch.equal(trained["norm.running_mean"], statistics["norm.running_mean"])
    assert int(net.module.steps) == 0


@pytest.mark.parametrize("seed", [np.int64(3), torch.tensor(3), 3])
def test_a_seed_may_be_any_whole_number(seed, tmp_path):
    net = FrozenNetwork(nn.Linear(4, 3), seed)
    assert (net.seed, type(net.seed)) == (3, int)
    MaskBank(net).save(tmp_path)


@pytest.mark.parametrize("seed", [-1, 1.5, "3", None])
@pytest.mark.usefixtures("as_users_call")
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(InvalidArgument, match=rf"seed={seed}: a seed is a whole number from 0 up"):
        FrozenNetwork(nn.Linear(4, 3), seed)


@pytest.mark.parametrize("fan_in", [True, False, 0, -1.0, float("nan")])
@pytest.mark.usefixtures("as_users_call")
def test_a_selector_that_returns_no_fan_in_is_refused(fan_in):
    with pytest.raises(
        InvalidArgument, match=rf"select: it returns {fan_in} for 'weight' of Linear; return the fan-in"
    ):
        FrozenNetwork(nn.Linear(4, 3), 0, select=lambda layer, name: fan_in)


def test_weights_of_several_dtypes_are_refused():
    layers = nn.Sequential(nn.Linear(4, 3).half(), nn.Linear(3, 2))
    with pytest.raises(InvalidArgument, match=r"maskable weights are torch.float16 and torch.float32; bring it to one"):
        FrozenNetwork(layers, 0)


def test_too_few_images_for_a_mean_and_a_variance_are_refused():
    net = FrozenNetwork(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), 0)
    with pytest.raises(InvalidArgument, match=r"x: normalisation takes the mean and variance .* show two or more"):
        net.on_batch_statistics(torch.randn(1, 4), {})
    with pytest.raises(InvalidArgument, match="show two or more"):
        net.in_training(torch.randn(1, 4), net.fresh_buffers())


class Remembering(nn.Module):
    """Adds the mean of the batch before to a batch, as a cache or a stream does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 6)
        self.register_buffer("last", torch.zeros(8))

    def forward(self, x):
        output = self.layer(x + self.last)
        self.last.copy_(x.mean(0).detach())
        return output


def test_a_call_leaves_nothing_behind():
    net = FrozenNetwork(Remembering(), seed=0)
    x = torch.ones(2, 8)
    first = net(x)
    assert torch.equal(net(x), first)
    assert torch.equal(net.on_batch_statistics(x, {}), first)
    assert not net.module.last.any()
    assert net.fingerprint == FrozenNetwork(Remembering(), seed=0).fingerprint


def test_weights_that_move_when_they_are_used_are_refused():
    with pytest.raises(
        InvalidArgument, match=r"module: '0' has max_norm=1.0, and scales its weights .*; set max_norm=None"
    ):
        FrozenNetwork(nn.Sequential(nn.Embedding(10, 4, max_norm=1.0), nn.Linear(4, 3)), seed=0)


class Words(nn.Module):
    """The sum of some words' rows, through two layers."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding(20, 16, padding_idx=2)
        self.layers = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 6))

    def forward(self, words):
        return self.layers(self.rows(words).sum(dim=1))


def test_padding_adds_nothing_and_its_slopes_are_those_of_the_function():
    net = FrozenNetwork(Words(), seed=0).to(dtype=torch.float64)
    short, padded = torch.tensor([[3, 4, 5]]), torch.tensor([[3, 2, 4, 5, 2]])
    assert torch.equal(net(short), net(padded))
    bank = filled_bank(net, 3)
    alpha = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)

    def value(beliefs):
        return float(entropy(net(padded, bank.blend(beliefs))).mean())

    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    differences = torch.tensor([(value(alpha + each) - value(alpha - each)) / 2e-6 for each in step])
    assert (belief_slopes(entropy, net, bank, padded, alpha) - differences).abs().max() < 1e-6
    kept = FrozenNetwork(Words(), seed=0, init=keep_weights, select=lambda _, name: 1.0 if name == "weight" else None)
    assert not kept.frozen["rows.weight"][2].any()
    others = FrozenNetwork(Words(), seed=0, select=lambda layer, _: 16.0 if isinstance(layer, nn.Linear) else None)
    assert set(others.frozen) == {"layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"}
    assert "rows.weight" in others.unseeded


def test_an_init_that_returns_another_shape_is_refused():
    with pytest.raises(InvalidArgument, match=r"init: shape \(\) for 'weight'; return one of \(3, 4\)"):
        FrozenNetwork(nn.Linear(4, 3), seed=0, init=lambda *_: torch.tensor(0.5))

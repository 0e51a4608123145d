import pytest
import torch
from supsup_core import (
    ContextStore,
    FrozenNetwork,
    InvalidArgument,
    MaskBank,
    RankOneBank,
    belief_slopes,
    binary_each,
    entropy,
    one_shot,
    task_rows,
)
from torch import nn

from .networks import inputs, small_network

EPS = torch.finfo(torch.float64).eps


def random_factors(net, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        entry.name: tuple(torch.randn(entry.shape[axis], generator=generator, dtype=torch.float64) for axis in (1, 0))
        for entry in net.maskable
    }


def filled(net, tasks):
    bank = RankOneBank(net)
    for task in range(tasks):
        assert bank.append(random_factors(net, task), net.fresh_buffers()) == task
    return bank


def convolutional():
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(12, 6)
    )
    return FrozenNetwork(layers, seed=0).to(dtype=torch.float64)


NETWORKS = {"linear": (small_network, (7,)), "convolutional": (convolutional, (2, 4, 4))}


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_answers_the_three_questions_as_their_definitions_do(kind):
    build, shape = NETWORKS[kind]
    net = build()
    bank = filled(net, 4)
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    explicit = []
    for task in range(4):
        weights = {}
        for name, (r, s) in random_factors(net, task).items():
            weight = net.frozen[name].clone()
            for o in range(weight.shape[0]):
                for i in range(weight.shape[1]):
                    weight[o, i] *= s[o] * r[i]
            weights[name] = weight
            assert (bank.weights(task)[name] - weight).abs().max() <= 8 * EPS * weight.abs().max()
        explicit.append(weights)
    alpha = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    blended = {name: sum(alpha[task] * explicit[task][name] for task in range(4)) for name in net.frozen}
    for name, value in bank.blend(alpha.detach()).items():
        assert (value - blended[name]).abs().max() <= 64 * EPS * (1 + value.abs().max())
    (expected,) = torch.autograd.grad(entropy(net.on_batch_statistics(x, blended)).mean(), alpha)
    slopes = belief_slopes(entropy, net, bank, x, alpha.detach())
    assert (slopes - expected).abs().max() <= 1e5 * EPS * (1 + expected.abs().max())


@pytest.mark.parametrize("kind", NETWORKS)
def test_searches_work_on_it_as_on_masks(kind):
    build, shape = NETWORKS[kind]
    net = build()
    bank = filled(net, 5)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    guesses = binary_each(entropy, net, bank, x)
    assert guesses.tasks.shape == (3,)
    alone = one_shot(entropy, net, bank, x[:1])
    assert (guesses.slopes[0][0] - alone.slopes[0]).abs().max() <= 1e5 * EPS * (1 + alone.slopes[0].abs().max())


def test_both_banks_are_context_stores():
    net = small_network()
    assert isinstance(filled(net, 1), ContextStore)
    assert isinstance(MaskBank(net), ContextStore)


def test_binary_factors_are_a_mask():
    net = small_network()
    bank, masks = RankOneBank(net), MaskBank(net)
    for task in range(3):
        generator = torch.Generator().manual_seed(task)
        factors = {
            entry.name: tuple((torch.rand(entry.shape[axis], generator=generator) < 0.7).double() for axis in (1, 0))
            for entry in net.maskable
        }
        bank.append(factors)
        masks.append({name: torch.outer(s, r).bool() for name, (r, s) in factors.items()})
    x = inputs(4)
    assert (
        one_shot(entropy, net, bank, x).slopes[0] - one_shot(entropy, net, masks, x).slopes[0]
    ).abs().max() <= 1e4 * EPS


def test_bytes_are_four_for_each_input_and_output():
    net = small_network(dtype=torch.float32)
    bank = RankOneBank(net)
    bank.append({name: tuple(part.float() for part in pair) for name, pair in random_factors(net, 0).items()})
    assert bank.context_bytes == 4 * (7 + 5 + 5 + 6)
    assert bank.buffer_bytes == 0


def test_what_does_not_fit_is_refused():
    net = small_network()
    bank, good = filled(net, 2), random_factors(net, 0)
    r, s = good["0.weight"]
    for factors, message in (
        ({"0.weight": (r, s)}, "factors: none for '2.weight'"),
        ({**good, "x": (r, s)}, r"factors: \['x'\] are not maskable; known: 0.weight, 2.weight"),
        ({**good, "0.weight": (s, r)}, r"factors\['0.weight'\]: shapes \(\(5,\), \(7,\)\); r and s of this weight are"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            bank.append(factors)
    with pytest.raises(InvalidArgument, match="task=2: the bank holds tasks 0 to 1"):
        bank.weights(2)
    with pytest.raises(InvalidArgument, match=r"beliefs: shape \(3,\) for 2 tasks"):
        bank.blend(torch.ones(3, dtype=torch.float64))
    vector = FrozenNetwork(nn.Linear(3, 3), seed=0, select=lambda _, name: 3.0 if name == "bias" else None)
    with pytest.raises(InvalidArgument, match="has no inputs and outputs; leave it out by select="):
        RankOneBank(vector)


def test_factors_come_for_several_tasks_at_once():
    bank = filled(small_network(), 3)
    for name, (r, s) in bank.factors_between(1, 3).items():
        assert torch.equal(r, torch.stack([bank.factors(task)[name][0] for task in (1, 2)]))
        assert torch.equal(s, torch.stack([bank.factors(task)[name][1] for task in (1, 2)]))
    for first, last in ((0, 4), (-1, 2), (2, 2)):
        with pytest.raises(InvalidArgument, match=f"first={first}, last={last}: the bank holds tasks 0 to 2"):
            bank.factors_between(first, last)


def test_factors_are_copies_and_cost_no_copy_of_the_table(monkeypatch):
    monkeypatch.setattr(task_rows, "_SMALLEST_BLOCK_BYTES", 64)
    net = small_network()
    bank = RankOneBank(net)
    for task in range(9):
        bank.append(
            {
                entry.name: (torch.full((entry.shape[1],), float(task)), torch.ones(entry.shape[0]))
                for entry in net.maskable
            }
        )
    monkeypatch.delattr(task_rows.TaskRows, "rows")
    bank.factors(5)["0.weight"][0].zero_()
    assert float(bank.factors(5)["0.weight"][0][0]) == 5
    assert torch.equal(bank.weights(5)["0.weight"], 5 * net.frozen["0.weight"])
    assert len(bank) == 9
    assert bank.context_bytes == 9 * 8 * (7 + 5 + 5 + 6)

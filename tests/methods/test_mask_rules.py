"""Masks of a fixed size in training: the textbook's arithmetic, the budget to the bit, ties by the seed, scores to start from."""

import math

import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank, erdos_renyi_budget, top_k_mask
from supsup_core.random_streams import stream_key
from supsup_datasets import Batch
from supsup_methods.mask_rules import (
    EdgePopup,
    EdgePopupMasks,
    Threshold,
    ThresholdMasks,
    fresh_scores,
    rule_of,
    transferred_scores,
)
from supsup_methods.mask_training import MaskTraining, train_masks
from supsup_methods.training_length import Schedule
from supsup_methods.training_loop import TrainingLoop
from torch import nn

from .vision_problems import BATCH_SIZE, Textbook, batches, by_edge_popup, by_threshold, network

FACTOR = 1.0
STEPS = 30
RATE = 0.02


class Watched:
    """A rule that remembers the masks it made for steps."""

    def __init__(self, rule):
        self._rule = rule
        self.mask, self.to_scores = rule.mask, rule.to_scores
        self.seen = []

    def write_mask(self, scores, out):
        self._rule.write_mask(scores, out)
        self.seen.append(out.bool())


def trained(kind, dtype=torch.float64, start=None, data=None, task=0):
    net = network(dtype=dtype)
    data = batches(STEPS, dtype) if data is None else data
    training = MaskTraining(
        batches=len(data),
        batch_size=BATCH_SIZE,
        schedule=Schedule("cosine"),
        learning_rate=RATE,
        optimizer="adam",
    )
    scores = fresh_scores(net, net.seed, task) if start is None else start.clone()
    rule, buffers = Watched(rule_of(kind, net, net.seed, task)), net.fresh_buffers()
    loop = TrainingLoop(net, (task,), training, BATCH_SIZE, lambda: None)
    final = train_masks(loop, training, scores, rule, lambda skip: data[skip:], buffers)
    return net, scores, [*rule.seen, final], buffers


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        (EdgePopupMasks(budget_factor=FACTOR), None),
        (EdgePopupMasks(budget_factor=FACTOR), 0.0),
        (ThresholdMasks(), None),
    ],
    ids=["edge-popup", "edge-popup from ties alone", "threshold"],
)
def test_training_equals_the_textbook_loop(kind, start):
    net = network(dtype=torch.float64)
    scores = fresh_scores(net, 0, 0) if start is None else torch.full((net.num_bits,), start, dtype=torch.float64)
    masked = by_threshold if isinstance(kind, ThresholdMasks) else by_edge_popup(net, FACTOR, net.seed, 0)
    expected = Textbook(net, scores).train(batches(STEPS, torch.float64), RATE, masked)
    _, found, masks, statistics = trained(kind, start=scores)
    assert len(masks) == STEPS + 1
    assert all(torch.equal(mask, other) for mask, other in zip(masks, expected.masks, strict=True))
    assert not torch.equal(masks[0], masks[-1]), "the mask must have moved"
    # While masks agree, so do weights, statistics and gradients, which come out of the same operations. What is left is the
    # rounding of Adam's running means, three times in each of 30 steps, on moves of at most 10 rates, and of the cosine, which
    # torch goes along step by step; and of the score itself, below 1, once a step.
    tolerance = STEPS * (10 * RATE * 6 * STEPS + 1) * torch.finfo(torch.float64).eps
    assert (found - expected.scores).abs().max() <= tolerance
    assert (found - scores).abs().max() > RATE
    for name, value in expected.statistics.items():
        assert torch.equal(statistics[name], value)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0, 1e6])
def test_every_mask_of_a_training_has_exactly_the_budget_of_each_layer(factor):
    net, _, masks, _ = trained(EdgePopupMasks(budget_factor=factor), dtype=torch.float32)
    budget = erdos_renyi_budget(net, factor)
    # in + out are 8 and 123, of 108 and 360 weights: c = 1e6 is capped at half of each layer.
    assert list(budget.values()) == {0.5: [4, 61], 1.0: [8, 123], 4.0: [32, 180], 1e6: [54, 180]}[factor]
    for mask in masks:
        assert {name: int(part.sum()) for name, part in net.unflatten(mask).items()} == budget


def test_the_mask_is_that_of_top_k_layer_by_layer():
    net = network()
    scores, budget = fresh_scores(net, 0, 3), erdos_renyi_budget(net, FACTOR)
    mask = net.unflatten(EdgePopup(net, budget, 0, 3).mask(scores))
    written = torch.full_like(scores, torch.nan)
    EdgePopup(net, budget, 0, 3).write_mask(scores, written)
    assert torch.equal(written, net.flatten(mask).float())
    for name, part in net.unflatten(scores).items():
        assert torch.equal(mask[name], top_k_mask(part, budget[name], stream_key(0, "ties", 3, name)))


def test_the_gradient_gets_the_sign_of_the_score_and_zero_counts_as_positive():
    net = network()
    scores = torch.zeros(net.num_bits)
    scores[:5] = torch.tensor([0.0, -0.0, 2.0, -2.0, -1e-30])
    gradient = torch.arange(1.0, net.num_bits + 1)
    EdgePopup(net, erdos_renyi_budget(net, FACTOR), 0, 0).to_scores(scores, gradient)
    assert gradient[:5].tolist() == [1.0, 2.0, 3.0, -4.0, -5.0]
    assert torch.equal(gradient[5:], torch.arange(6.0, net.num_bits + 1))


def test_the_gradient_of_a_threshold_is_left_as_it_is():
    scores, gradient = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([1.0, 2.0, -3.0])
    Threshold().to_scores(scores, gradient)
    assert gradient.tolist() == [1.0, 2.0, -3.0]
    assert Threshold().mask(torch.tensor([0.0, -0.0, 1.0, -1.0])).tolist() == [True, True, True, False]


def tied_masks(seeds, tasks):
    net = network()
    budget = erdos_renyi_budget(net, FACTOR)
    scores = torch.zeros(net.num_bits)
    return net, [EdgePopup(net, budget, seed, task).mask(scores) for seed in seeds for task in tasks]


def test_ties_are_broken_by_seed_and_task_and_by_no_position():
    net, masks = tied_masks(seeds=range(20), tasks=range(20))
    shares = net.unflatten(torch.stack(masks).double().mean(dim=0))
    for name, kept in erdos_renyi_budget(net, FACTOR).items():
        share = kept / shares[name].numel()
        # A weight is kept in a share of 400 independent draws; five standard errors are allowed to each of 468 weights.
        assert (shares[name] - share).abs().max() < 5 * (share * (1 - share) / 400) ** 0.5
    _, (first, second) = tied_masks(seeds=[0], tasks=[0, 1])
    _, (other,) = tied_masks(seeds=[1], tasks=[0])
    _, (again,) = tied_masks(seeds=[0], tasks=[0])
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_ties_of_two_layers_of_one_shape_are_broken_apart():
    net = FrozenNetwork(nn.Sequential(nn.Linear(9, 9, bias=False), nn.Linear(9, 9, bias=False)), seed=0)
    mask = net.unflatten(EdgePopup(net, {"0.weight": 18, "1.weight": 18}, 0, 0).mask(torch.zeros(162)))
    assert not torch.equal(mask["0.weight"], mask["1.weight"])


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (EdgePopupMasks(budget_factor=FACTOR), "scores: some are NaN, which have no rank; lower the learning rate"),
        (ThresholdMasks(), "learning_rate=0.02: the scores diverged to infinity or NaN; lower it"),
    ],
)
def test_scores_that_diverge_are_refused(kind, line):
    poisoned = [Batch(batch.images * torch.nan, batch.labels) for batch in batches(2, torch.float32)]
    with pytest.raises(InvalidArgument) as refused:
        trained(kind, dtype=torch.float32, data=poisoned)
    assert str(refused.value) == line


def test_settings_name_their_rule():
    net = network()
    assert isinstance(rule_of(ThresholdMasks(), net, 0, 0), Threshold)
    assert isinstance(rule_of(EdgePopupMasks(), net, 0, 0), EdgePopup)
    assert EdgePopupMasks() == EdgePopupMasks(budget_factor=4.0, transfer=False)


def bank_of(net, masks):
    bank = MaskBank(net)
    for mask in masks:
        bank.append(net.unflatten(mask), net.fresh_buffers())
    return bank


def random_masks(net, count):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(net.num_bits, generator=generator) < 0.2 for _ in range(count)]


@pytest.mark.parametrize("tasks", [1, 2, 7])
def test_transferred_scores_are_the_mean_of_earlier_masks_scaled_in_each_layer(tasks):
    net = network()
    masks = random_masks(net, tasks)
    found = net.unflatten(transferred_scores(net, bank_of(net, masks)))
    mean = net.unflatten(torch.stack(masks).double().mean(dim=0))
    for entry in net.maskable:
        scale = math.sqrt(entry.size / (3 * entry.fan_in)) / mean[entry.name].norm()
        expected = mean[entry.name] * scale
        # A sum of n squares in single precision, a root, a quotient and two products.
        tolerance = (entry.size / 2 + 4) * torch.finfo(torch.float32).eps
        assert ((found[entry.name] - expected).abs() <= tolerance * expected).all()
        assert torch.equal(found[entry.name] == 0, mean[entry.name] == 0), (
            "exactly 0 where no mask was, and nowhere else"
        )
        assert (mean[entry.name] == 0).any()
        assert torch.equal(found[entry.name] > 0, mean[entry.name] > 0)


def test_transferred_scores_have_the_norm_of_fresh_ones_in_every_layer():
    net = FrozenNetwork(nn.Sequential(nn.Conv2d(8, 40, 3, bias=False), nn.Conv2d(40, 10, 1, bias=False)), seed=0)
    transferred = net.unflatten(transferred_scores(net, bank_of(net, random_masks(net, 3))))
    fresh = [net.unflatten(fresh_scores(net, 0, task)) for task in range(20)]
    for entry in net.maskable:
        squares = torch.stack([scores[entry.name].double().square().sum() for scores in fresh])
        # x² of x uniform on ±b has the mean b²/3 and the variance 4 b⁴/45, so a sum of n of them is sqrt(0.8 / n) of itself off;
        # 20 sums are averaged, and five standard errors allowed.
        error = 5 * math.sqrt(0.8 / (20 * entry.size))
        assert float(transferred[entry.name].double().square().sum() / squares.mean()) == pytest.approx(1, abs=error)


def test_scores_follow_the_type_of_the_network():
    net = network(dtype=torch.float64)
    assert transferred_scores(net, bank_of(net, random_masks(net, 2))).dtype == torch.float64
    assert fresh_scores(net, 0, 0).dtype == torch.float64

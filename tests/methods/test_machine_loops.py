"""Machine loops, held to torch's operators."""

import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument
from supsup_datasets import Batch
from supsup_methods import machine_loops
from supsup_methods.mask_rules import fresh_scores
from supsup_methods.mask_training import MaskSteps, check_finite, task_gradients
from supsup_methods.optimizers import Adam, RMSprop
from torch import nn

MANY = 10**9  # steps
RATE = 1e-4


def vectors(size, seed=0):
    """Return x, g and v as they are some steps into a training."""
    generator = torch.Generator().manual_seed(seed)
    values, gradient = (torch.randn(size, generator=generator) for _ in range(2))
    return values, 1e-3 * gradient, 1e-6 * torch.rand(size, generator=generator)


def units_apart(ours, theirs, before=None):
    """Return by how many units in the last place they differ at most: of the larger, or of what a step started from if more.

    Where a step takes most of a value away, what is left has a finer last place than the two that were subtracted.
    """
    larger = torch.maximum(ours.abs(), theirs.abs())
    larger = larger if before is None else torch.maximum(larger, before.abs())
    units = torch.nextafter(larger, torch.full_like(larger, torch.inf)) - larger
    return ((ours - theirs).abs() / units).max()


@pytest.mark.parametrize("seed", [0, 1, 8, 24, 27, 29])
def test_a_step_of_rmsprop_is_torchs_but_for_the_last_bits(seed):
    values, gradient, square = vectors(10_007, seed)
    before = values.clone()
    by_torch, by_machine = (RMSprop(values.clone(), RATE, square.clone(), steps=steps) for steps in (0, MANY))
    by_torch.step(gradient, 0.5)
    machine_loops.move_by_rmsprop(values, gradient, square, 0.5 * RATE)
    # Three roundings of each, of which one more or less where a processor multiplies and adds at once.
    assert units_apart(square, by_torch.mean_square) <= 2
    assert units_apart(values, by_torch._values, before) <= 1
    assert not torch.equal(values, before)
    by_machine.step(gradient, 0.5)
    assert torch.equal(by_machine._values, values), "of many steps the optimiser has the loop take them"
    assert torch.equal(by_machine.mean_square, square)


def test_a_step_on_scores_multiplies_by_w_first_and_writes_the_effective_weights():
    scores, gradient, square = vectors(10_007)
    scores *= 1e-4  # so that some change their sign
    frozen, effective = (
        torch.randn(10_007, generator=torch.Generator().manual_seed(1)),
        torch.full((10_007,), torch.nan),
    )
    before, expected, expected_square = scores.clone(), scores.clone(), square.clone()
    machine_loops.move_by_rmsprop(expected, frozen * gradient, expected_square, RATE)
    machine_loops.move_mask_by_rmsprop(scores, gradient, square, frozen, effective, RATE)
    assert torch.equal(scores, expected)
    assert torch.equal(square, expected_square)
    assert torch.equal(effective, torch.where(scores >= 0, frozen, 0.0))
    assert ((scores >= 0) != (before >= 0)).any()


def test_a_score_of_zero_is_in_the_mask():
    scores, frozen, effective = torch.zeros(3), torch.tensor([2.0, -2.0, 2.0]), torch.empty(3)
    scores[2] = -1e-30
    machine_loops.move_mask_by_rmsprop(scores, torch.zeros(3), torch.ones(3), frozen, effective, RATE)
    assert effective.tolist() == [2.0, -2.0, 0.0]


def test_the_bits_do_not_depend_on_the_threads():
    size = 2 * machine_loops._WORTH_A_THREAD + 12_345
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            values, gradient, square = vectors(size)
            machine_loops.move_by_rmsprop(values, gradient, square, RATE)
            found.append((values, square))
    finally:
        torch.set_num_threads(before)
    for values, square in found[1:]:
        assert torch.equal(values, found[0][0])
        assert torch.equal(square, found[0][1])


def test_they_take_what_they_can_and_what_is_worth_it(monkeypatch):
    values = torch.zeros(1000)
    assert machine_loops.suits(values, MANY)
    assert machine_loops.suits(values, 100_000)
    assert not machine_loops.suits(values, 99_999)
    assert not machine_loops.suits(values.double(), MANY)
    assert not machine_loops.suits(torch.zeros(10, 100).t(), MANY)
    assert not machine_loops.suits(values.to("meta"), MANY)
    assert machine_loops.arithmetic().startswith("numba ")
    monkeypatch.setattr(machine_loops, "is_installed", lambda: False)
    assert not machine_loops.suits(values, MANY)
    assert machine_loops.arithmetic() == "torch"


def problem(size=40):
    """A network whose scores many steps make worth the loop, and batches that it can learn."""
    layers = nn.Sequential(nn.Flatten(), nn.Linear(20, size, bias=False), nn.ReLU(), nn.Linear(size, 7, bias=False))
    net, generator = FrozenNetwork(layers, seed=0), torch.Generator().manual_seed(0)
    centres = torch.randn(3, 20, generator=generator)
    labels = [torch.randint(0, 3, (32,), generator=generator) for _ in range(200)]
    return net, [Batch(centres[each] + 0.5 * torch.randn(32, 20, generator=generator), each) for each in labels]


def steps_on(net, scores, steps, optimizer=RMSprop):
    return MaskSteps(net, scores, optimizer(scores, 1e-3, steps=steps), task_gradients(net))


def test_a_mask_is_trained_as_without_them():
    net, batches = problem()
    by_torch, by_machine = fresh_scores(net, 0, 0), fresh_scores(net, 0, 0)
    for scores, many in ((by_torch, 0), (by_machine, MANY)):
        steps = steps_on(net, scores, many)
        for batch in batches:
            steps.take(batch)
    assert not torch.equal(by_torch, fresh_scores(net, 0, 0))
    # Steps of at most 10 rates, whose gradients differ by rounding, until a bit turns a step earlier or later.
    apart = ((by_torch >= 0) != (by_machine >= 0)).double().mean()
    assert apart <= 0.005
    assert (by_torch - by_machine).abs().median() <= 1e-6


def test_scores_may_be_restored_until_the_first_step():
    net, batches = problem()
    restored, fresh = fresh_scores(net, 0, 0), fresh_scores(net, 0, 1)
    steps = steps_on(net, restored, MANY)
    restored.copy_(fresh)
    others = steps_on(net, fresh, MANY)
    for batch in batches[:3]:
        steps.take(batch)
        others.take(batch)
    assert torch.equal(restored, fresh)


def test_another_optimiser_is_left_alone():
    net, batches = problem()
    scores, expected = fresh_scores(net, 0, 0), fresh_scores(net, 0, 0)
    for values, many in ((scores, MANY), (expected, 0)):
        steps = steps_on(net, values, many, Adam)
        for batch in batches[:5]:
            steps.take(batch)
    assert torch.equal(scores, expected)


def test_divergence_is_found():
    net, batches = problem()
    scores = fresh_scores(net, 0, 0)
    steps = steps_on(net, scores, MANY)
    steps.take(Batch(batches[0].images * torch.nan, batches[0].labels))
    with pytest.raises(InvalidArgument, match="the scores diverged"):
        check_finite(scores, 1e-3)

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import InvalidArgument, MaskBank, belief_slopes, entropy, one_shot, superfluous_logsumexp

from .networks import filled_bank, inputs, random_masks, small_network

OBJECTIVES = [entropy, superfluous_logsumexp(3)]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("images", [1, 5])
def test_slopes_equal_autograd_through_an_explicit_blend(objective, images):
    net = small_network()
    bank = filled_bank(net, 6)
    alpha = torch.softmax(torch.arange(6, dtype=torch.float64), dim=0).requires_grad_()
    masks = [bank.masks(task) for task in range(6)]
    blended = {
        name: frozen * sum(alpha[task] * mask[name].double() for task, mask in enumerate(masks))
        for name, frozen in net.frozen.items()
    }
    (expected,) = torch.autograd.grad(objective(net(inputs(images), blended)).mean(), alpha)
    slopes = belief_slopes(objective, net, bank, inputs(images), alpha.detach())
    # 65 products of numbers of order 1 after a network of three layers: rounding stays far below 1000 eps.
    assert (slopes - expected).abs().max() <= 1000 * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_steepest_descent_wins(objective):
    net = small_network()
    bank = filled_bank(net, 8)
    guess = one_shot(objective, net, bank, inputs(2))
    (slopes,) = guess.slopes
    assert guess.task == int(torch.argmax(-slopes))
    assert torch.equal(guess.beliefs[0], torch.full((8,), 0.125, dtype=torch.float64))


@given(st.permutations(range(7)), st.integers(0, 100))
def test_relabelling_the_tasks_relabels_the_answer(order, seed):
    net = small_network()
    bank, relabelled = MaskBank(net), MaskBank(net)
    for task in range(7):
        bank.append(random_masks(net, task))
    for task in order:
        relabelled.append(random_masks(net, task))
    x = inputs(1, seed=seed)
    guess, again = one_shot(entropy, net, bank, x), one_shot(entropy, net, relabelled, x)
    rounding = 1000 * torch.finfo(torch.float64).eps
    assert (again.slopes[0] - guess.slopes[0][list(order)]).abs().max() <= rounding
    best, second = guess.slopes[0].sort().values[:2]
    if second - best > 2 * rounding:  # up to ties: where all units are dead, every slope is 0
        assert order[again.task] == guess.task


def test_of_equal_tasks_the_lowest_wins():
    net = small_network()
    bank = MaskBank(net)
    for _ in range(5):
        bank.append(random_masks(net, 0))
    assert one_shot(entropy, net, bank, inputs(1)).task == 0


def test_a_single_task_is_the_answer():
    net = small_network()
    assert one_shot(entropy, net, filled_bank(net, 1), inputs(1)).task == 0


def test_it_works_where_gradients_are_switched_off():
    net = small_network()
    bank = filled_bank(net, 3)
    with torch.no_grad():
        quiet = one_shot(entropy, net, bank, inputs(1))
    assert quiet.task == one_shot(entropy, net, bank, inputs(1)).task


@pytest.mark.parametrize(
    ("tasks", "x", "message"),
    [
        (0, inputs(1), "store: it holds no task"),
        (2, inputs(0), r"x: shape \(0, 7\) holds no image"),
        (2, torch.full((1, 7), torch.nan, dtype=torch.float64), "x: the slopes are not finite"),
    ],
)
def test_what_cannot_be_answered_is_refused(tasks, x, message):
    net = small_network()
    with pytest.raises(InvalidArgument, match=message):
        one_shot(entropy, net, filled_bank(net, tasks), x)

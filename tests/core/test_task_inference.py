import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import (
    FrozenNetwork,
    InvalidArgument,
    MaskBank,
    belief_slopes,
    binary,
    entropy,
    group_slopes,
    one_shot,
    one_shot_each,
    superfluous_logsumexp,
    task_inference,
)
from torch import nn

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


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(7, 5), nn.Linear(7, 2)

    def forward(self, x):
        return self.layer(x)


def test_a_weight_that_the_images_do_not_reach_has_no_say():
    net = FrozenNetwork(Auxiliary(), 0).to(dtype=torch.float64)
    bank, x = filled_bank(net, 4), inputs(1)
    together = one_shot(entropy, net, bank, x)
    each = one_shot_each(entropy, net, bank, x)
    assert (together.slopes[0] - each.slopes[0][0]).abs().max() <= 100 * torch.finfo(torch.float64).eps
    assert binary(entropy, net, bank, x).task in range(4)


@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (4,), (1, 4)])
@pytest.mark.usefixtures("as_users_call")
def test_beliefs_of_other_groups_or_tasks_are_refused(shape):
    net = small_network()
    bank, beliefs = filled_bank(net, 4), torch.full(shape, 0.25, dtype=torch.float64)
    with pytest.raises(InvalidArgument, match="for 2 groups and 4 tasks; pass one for each"):
        group_slopes(entropy, net, bank, inputs(2).unsqueeze(1), beliefs)


def test_what_goes_through_at_once_is_bounded_by_the_images_too(monkeypatch):
    net = FrozenNetwork(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(10, 4)), 0).to(dtype=torch.float64)
    bank, x = filled_bank(net, 4), inputs(9).unsqueeze(1)
    expected, seen = one_shot_each(entropy, net, bank, x).slopes[0], []
    slopes = MaskBank.slopes
    monkeypatch.setattr(task_inference, "_PIXELS", 2 * 7)
    monkeypatch.setattr(MaskBank, "slopes", lambda bank, g: seen.append(len(g["0.weight"])) or slopes(bank, g))
    found = one_shot_each(entropy, net, bank, x).slopes[0]
    assert seen == [2, 2, 2, 2, 1]
    assert (found - expected).abs().max() <= 100 * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("tasks", [0, 3])
def test_slopes_without_a_task_or_an_image_are_refused(tasks):
    net = small_network()
    bank, none = filled_bank(net, tasks), inputs(2)[: 2 if tasks == 0 else 0]
    beliefs = torch.full((tasks,), 1 / 3, dtype=torch.float64)
    with pytest.raises(InvalidArgument, match="no task to choose from" if tasks == 0 else "holds no image"):
        belief_slopes(entropy, net, bank, none, beliefs)
    with pytest.raises(InvalidArgument, match="no task to choose from" if tasks == 0 else "holds no image"):
        group_slopes(entropy, net, bank, none.unsqueeze(1), beliefs.expand(len(none), tasks))


@pytest.mark.parametrize("odd", [{"sparse": True}, {"scale_grad_by_freq": True}], ids=str)
def test_slopes_of_an_embedding_are_those_of_what_it_computes_however_it_is_trained(odd):
    def built(**keywords):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Embedding(9, 4, **keywords), nn.Flatten(), nn.Linear(12, 5, bias=False))
        return FrozenNetwork(layers.double(), seed=0)

    x = torch.tensor([[1, 1, 2], [3, 1, 1]])
    slopes = []
    for net in (built(), built(**odd)):
        bank = filled_bank(net, 3)
        slopes.append(belief_slopes(entropy, net, bank, x, torch.full((3,), 1 / 3, dtype=torch.float64)))
    torch.testing.assert_close(slopes[1], slopes[0])


def test_no_gradient_is_recorded_for_images_that_ask_for_one():
    net = FrozenNetwork(nn.Sequential(nn.Conv1d(1, 3, 3), nn.Flatten(), nn.Linear(15, 4)), seed=0)
    bank = filled_bank(net, 3)
    x = torch.randn(2, 1, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for guesses in (one_shot_each(entropy, net, bank, x), one_shot(entropy, net, bank, x)):
        assert not guesses.slopes[0].requires_grad

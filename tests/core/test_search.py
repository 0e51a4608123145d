"""Binary, γ and per-image search against slow, obvious versions."""

import statistics

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
    binary_each,
    entropy,
    gamma,
    gamma_each,
    one_shot,
    one_shot_each,
    superfluous_logsumexp,
    task_inference,
)
from torch import nn

from .networks import filled_bank, inputs, random_masks, small_network

G = superfluous_logsumexp(3)
ROUNDING = 1000 * torch.finfo(torch.float64).eps


def textbook_gamma(objective, net, bank, x, share):
    """Lists and Python's own sort; one gradient a round at equal beliefs over those that are left."""
    living = list(range(len(bank)))
    history = []
    while True:
        beliefs = torch.zeros(len(bank), dtype=torch.float64)
        beliefs[living] = 1 / len(living)
        slopes = belief_slopes(objective, net, bank, x, beliefs).tolist()
        history.append(list(living))
        keep = max(1, min(len(living) - 1, int(share * len(living))))
        living = sorted(sorted(living, key=lambda task: slopes[task])[:keep])
        if len(living) == 1:
            return living[0], history


@given(st.integers(1, 20), st.floats(0.01, 0.99), st.integers(0, 50))
def test_gamma_equals_the_textbook_loop(tasks, share, seed):
    net = small_network(seed=3)
    bank = filled_bank(net, tasks, first_seed=100 * seed)
    guess = gamma(entropy, net, bank, inputs(2, seed=seed), share)
    task, history = textbook_gamma(entropy, net, bank, inputs(2, seed=seed), share)
    assert guess.task == task
    assert [beliefs.nonzero().flatten().tolist() for beliefs in guess.beliefs] == history
    for beliefs, living in zip(guess.beliefs, history, strict=True):
        assert beliefs[living].tolist() == [1 / len(living)] * len(living)


@pytest.mark.parametrize("tasks", range(1, 34))
def test_binary_halves_until_one_is_left(tasks):
    net = small_network()
    guess = binary(entropy, net, filled_bank(net, tasks), inputs(1))
    counts = [int((beliefs > 0).sum()) for beliefs in guess.beliefs]
    expected = [tasks]
    while expected[-1] > 3:
        expected.append(expected[-1] // 2)
    assert counts == expected
    assert len(guess.slopes) == len(counts)


def test_binary_keeps_those_strictly_below_the_median_when_slopes_differ():
    net = small_network(seed=3)
    guess = binary(entropy, net, filled_bank(net, 8), inputs(3))
    for before, slopes, after in zip(guess.beliefs, guess.slopes, guess.beliefs[1:], strict=False):
        living = before.nonzero().flatten().tolist()
        median = statistics.median(slopes[living].tolist())
        assert len({slopes[task].item() for task in living}) == len(living)
        assert after.nonzero().flatten().tolist() == [task for task in living if slopes[task] < median]


@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_where_all_tasks_are_equal_the_search_ends_with_the_lowest(tasks, share):
    net = small_network()
    bank = MaskBank(net)
    for _ in range(tasks):
        bank.append(random_masks(net, 0))
    assert gamma(entropy, net, bank, inputs(1), share).task == 0


@given(st.integers(2, 30), st.integers(0, 20))
def test_gamma_of_one_kth_is_one_shot_and_of_a_half_is_binary(tasks, seed):
    net = small_network(seed=3)
    bank, x = filled_bank(net, tasks, first_seed=seed), inputs(1, seed=seed)
    assert gamma(entropy, net, bank, x, 1 / tasks).task == one_shot(entropy, net, bank, x).task
    assert gamma(entropy, net, bank, x, 0.5).task == binary(entropy, net, bank, x).task


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_share_that_cannot_end_is_refused(share):
    net = small_network()
    for search in (gamma, gamma_each):
        with pytest.raises(InvalidArgument, match="a share γ of the tasks lies between 0 and 1"):
            search(entropy, net, filled_bank(net, 2), inputs(1), share)


@pytest.mark.parametrize("per_image_floats", [1, 200, 10**6])
@pytest.mark.parametrize("objective", [entropy, G])
@pytest.mark.parametrize(("each", "one"), [(one_shot_each, one_shot), (binary_each, binary)])
def test_each_image_gets_what_it_gets_alone(monkeypatch, per_image_floats, objective, each, one):
    monkeypatch.setattr(task_inference, "_GRADIENT_FLOATS", per_image_floats)
    net = small_network(seed=3)
    bank, x = filled_bank(net, 9), inputs(7)
    guesses = each(objective, net, bank, x)
    for image in range(7):
        alone = one(objective, net, bank, x[image : image + 1])
        assert guesses.tasks[image] == alone.task
        for rows, row in zip(guesses.slopes, alone.slopes, strict=True):
            assert (rows[image] - row).abs().max() <= ROUNDING
        for rows, row in zip(guesses.beliefs, alone.beliefs, strict=True):
            assert torch.equal(rows[image], row)


class Attend(nn.Module):
    """One block of self-attention over the pixels of an image, and a head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 6)

    def forward(self, x):
        tokens = self.embed(x.flatten(2).mT)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head((tokens + attended).mean(dim=1))


CONVOLUTIONAL = nn.Sequential(
    nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 6)
)


@pytest.mark.parametrize("module", [CONVOLUTIONAL, Attend()], ids=["convolutions", "attention"])
def test_layers_applied_at_many_positions_are_right_too(module):
    net = FrozenNetwork(module, seed=0).to(dtype=torch.float64)
    bank = filled_bank(net, 5)
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    guesses = binary_each(entropy, net, bank, x)
    for image in range(4):
        alone = binary(entropy, net, bank, x[image : image + 1])
        assert guesses.tasks[image] == alone.task
        assert (guesses.slopes[0][image] - alone.slopes[0]).abs().max() <= ROUNDING


def test_mixed_batches_are_sorted_out_image_by_image():
    net = small_network(seed=3)
    bank, x = filled_bank(net, 9), inputs(30)
    tasks = one_shot_each(entropy, net, bank, x).tasks
    assert len(tasks.unique()) > 1
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one_shot_each(entropy, net, bank, x[order]).tasks, tasks[order])


@pytest.mark.parametrize("images_per_guess", [1, 2, 3, 6])
@pytest.mark.parametrize(("each", "alone"), [(one_shot_each, one_shot), (binary_each, binary)])
def test_images_in_a_row_may_share_a_guess(each, alone, images_per_guess):
    net = small_network(seed=3)
    bank = filled_bank(net, 6)
    x = inputs(6)
    guesses = each(G, net, bank, x, images_per_guess=images_per_guess)
    groups = x.split(images_per_guess)
    assert len(guesses.tasks) == len(groups)
    for row, group in enumerate(groups):
        guess = alone(G, net, bank, group)
        assert int(guesses.tasks[row]) == guess.task
        for of_all, of_one in zip(guesses.slopes, guess.slopes, strict=True):
            assert (of_all[row] - of_one).abs().max() <= ROUNDING


@pytest.mark.parametrize("images_per_guess", [0, -1, 4])
def test_images_that_are_not_whole_groups_are_refused(images_per_guess):
    net = small_network()
    with pytest.raises(InvalidArgument, match=f"images_per_guess={images_per_guess}: 6 images are not whole groups"):
        one_shot_each(entropy, net, filled_bank(net, 2), inputs(6), images_per_guess=images_per_guess)

"""Descent on the beliefs against its definition, and against what theory says of it."""

import inspect
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_core import (
    InvalidArgument,
    MaskBank,
    RankOneBank,
    belief_descent,
    belief_descent_each,
    belief_slopes,
    entropy,
    one_shot,
    one_shot_each,
    superfluous_logsumexp,
    task_inference,
)
from supsup_core.belief_descent import _descend

from .networks import filled_bank, inputs, random_masks, small_network

EPS = torch.finfo(torch.float64).eps
# A few steps of two-layer sums of numbers below 10, each step passing on what the last rounded, and η at most 2.
ROUNDING = 1e5 * EPS
G = superfluous_logsumexp(3)


def textbook(objective, net, bank, x, steps, learning_rate):
    """α_i ← α_i exp(-η s_i) / Z, as the module's formula reads."""
    alpha = torch.full((len(bank),), 1 / len(bank), dtype=torch.float64)
    history, slopes = [alpha], []
    for _ in range(steps):
        slopes.append(belief_slopes(objective, net, bank, x, alpha))
        raised = alpha * torch.exp(-learning_rate * slopes[-1])
        alpha = raised / raised.sum()
        history.append(alpha)
    return history, slopes


@pytest.mark.parametrize("objective", [entropy, G])
@settings(max_examples=10)
@given(st.integers(1, 9), st.integers(1, 4), st.sampled_from([0.1, 1.0, 2.0]), st.integers(0, 1000))
def test_it_follows_its_formula(objective, tasks, steps, learning_rate, seed):
    net = small_network(seed=3)
    bank, x = filled_bank(net, tasks, first_seed=seed), inputs(2, seed=seed)
    guess = belief_descent(objective, net, bank, x, steps=steps, learning_rate=learning_rate)
    beliefs, slopes = textbook(objective, net, bank, x, steps, learning_rate)
    assert len(guess.beliefs) == steps + 1
    assert len(guess.slopes) == steps
    for ours, theirs in zip((*guess.beliefs, *guess.slopes), (*beliefs, *slopes), strict=True):
        assert (ours - theirs).abs().max() <= ROUNDING
    for alpha in guess.beliefs:
        assert float(alpha.min()) >= 0.0
        assert abs(float(alpha.sum()) - 1.0) <= 16 * EPS
    assert guess.task == int(guess.beliefs[-1].argmax())


@pytest.mark.parametrize("images_per_guess", [1, 3])
@pytest.mark.parametrize("store", ["masks", "rank one"])
def test_each_group_gets_what_it_gets_alone(monkeypatch, images_per_guess, store):
    monkeypatch.setattr(task_inference, "_GRADIENT_FLOATS", 200)  # three gradients of 65 weights at once
    net = small_network(seed=3)
    bank, x = filled_bank(net, 5), inputs(12)
    if store == "rank one":
        bank, generator = RankOneBank(net), torch.Generator().manual_seed(0)
        for _ in range(5):
            draw = lambda size: torch.rand(size, generator=generator, dtype=torch.float64)  # noqa: E731
            bank.append({e.name: (draw(e.shape[1]), draw(e.shape[0])) for e in net.maskable})
    guesses = belief_descent_each(G, net, bank, x, images_per_guess, steps=3, learning_rate=1.0)
    for row, group in enumerate(x.split(images_per_guess)):
        alone = belief_descent(G, net, bank, group, steps=3, learning_rate=1.0)
        for of_all, of_one in zip((*guesses.beliefs, *guesses.slopes), (*alone.beliefs, *alone.slopes), strict=True):
            assert (of_all[row] - of_one).abs().max() <= ROUNDING
        assert guesses.tasks[row] == alone.task


@settings(max_examples=25)
@given(st.integers(2, 9), st.integers(0, 1000), st.sampled_from([0.01, 1.0, 50.0]))
def test_one_step_answers_what_one_shot_answers(tasks, seed, learning_rate):
    net = small_network(seed=3)
    bank, x = filled_bank(net, tasks, first_seed=seed), inputs(3, seed=seed)
    shot = one_shot_each(entropy, net, bank, x)
    step = belief_descent_each(entropy, net, bank, x, steps=1, learning_rate=learning_rate)
    assert (shot.slopes[0] - step.slopes[0]).abs().max() <= ROUNDING
    best, second = shot.slopes[0].sort(dim=1).values.T[:2]
    clear = second - best > 10 * ROUNDING / learning_rate  # nearer slopes may round to equal beliefs, or swap
    assert torch.equal(shot.tasks[clear], step.tasks[clear])


def test_small_steps_go_downhill():
    net = small_network(seed=3)
    bank, x = filled_bank(net, 6), inputs(4)
    guess = belief_descent(entropy, net, bank, x, steps=40, learning_rate=0.2)
    heights = [float(entropy(net.on_batch_statistics(x, bank.blend(alpha))).mean()) for alpha in guess.beliefs]
    assert all(after <= before + ROUNDING for before, after in itertools.pairwise(heights))
    assert heights[-1] < heights[0] - 0.01


def test_a_task_that_has_no_belief_any_more_can_have_it_again():
    slopes = iter([torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 0.0]])])
    found = _descend(lambda beliefs: next(slopes), torch.zeros(1, 2), 2, 1e4)
    assert [beliefs.tolist() for beliefs in found.beliefs] == [[[0.5, 0.5]], [[1.0, 0.0]], [[0.0, 1.0]]]
    assert found.tasks.tolist() == [1]


def test_a_huge_step_stays_finite():
    """It puts all belief on one task."""
    net = small_network(seed=3)
    bank, x = filled_bank(net, 6), inputs(2)
    guess = belief_descent(entropy, net, bank, x, steps=3, learning_rate=1e4)
    assert bool(torch.isfinite(torch.stack(guess.beliefs)).all())
    assert float(guess.beliefs[1].max()) == 1.0


@settings(max_examples=20)
@given(st.permutations(range(6)), st.integers(0, 100))
def test_relabelling_the_tasks_relabels_the_answer(order, seed):
    net = small_network()
    bank, relabelled = MaskBank(net), MaskBank(net)
    for task in range(6):
        bank.append(random_masks(net, task))
    for task in order:
        relabelled.append(random_masks(net, task))
    x = inputs(1, seed=seed)
    guess = belief_descent(entropy, net, bank, x, steps=3, learning_rate=1.0)
    again = belief_descent(entropy, net, relabelled, x, steps=3, learning_rate=1.0)
    assert (again.beliefs[-1] - guess.beliefs[-1][list(order)]).abs().max() <= ROUNDING
    best, second = guess.beliefs[-1].sort(descending=True).values[:2]
    if best - second > 2 * ROUNDING:
        assert order[again.task] == guess.task


def test_of_equal_tasks_the_lowest_wins():
    net = small_network()
    bank = MaskBank(net)
    for _ in range(5):
        bank.append(random_masks(net, 0))
    guesses = belief_descent_each(entropy, net, bank, inputs(3), steps=4, learning_rate=1.0)
    assert guesses.tasks.tolist() == [0, 0, 0]
    assert belief_descent(entropy, net, filled_bank(net, 1), inputs(1), steps=2, learning_rate=1.0).task == 0


def test_no_label_is_in_sight_and_gradients_may_be_switched_off():
    shown = {"objective", "net", "store", "x", "steps", "learning_rate"}
    assert set(inspect.signature(belief_descent).parameters) == shown
    assert set(inspect.signature(belief_descent_each).parameters) == shown | {"images_per_guess"}
    net = small_network()
    bank = filled_bank(net, 3)
    with torch.no_grad():
        quiet = belief_descent(entropy, net, bank, inputs(1), steps=2, learning_rate=1.0)
    assert quiet.task == belief_descent(entropy, net, bank, inputs(1), steps=2, learning_rate=1.0).task
    assert not quiet.beliefs[-1].requires_grad


def test_confidence_is_the_last_belief_in_the_answer():
    net = small_network(seed=3)
    bank, x = filled_bank(net, 4), inputs(64)
    guesses = belief_descent_each(entropy, net, bank, x, steps=20, learning_rate=5.0)
    assert torch.equal(guesses.tasks, guesses.values.argmin(dim=1))
    assert not torch.equal(guesses.tasks, guesses.slopes[-1].argmin(dim=1)), "the last slopes would say otherwise"
    last = guesses.beliefs[-1].gather(1, guesses.tasks.unsqueeze(1)).squeeze(1)
    assert (guesses.confidences - last).abs().max() <= ROUNDING
    far = belief_descent_each(entropy, net, bank, x, steps=20, learning_rate=1e6)
    assert bool(torch.isfinite(far.values).all()), "where beliefs are 0 to the last bit, their logarithms still tell"
    shot = one_shot(entropy, net, bank, x[:1])
    alone = one_shot_each(entropy, net, bank, x[:1])
    assert abs(float(alone.confidences) - float(torch.softmax(-shot.slopes[0], 0)[shot.task])) <= ROUNDING


@pytest.mark.parametrize(
    ("tasks", "x", "steps", "learning_rate", "message"),
    [
        (0, inputs(1), 1, 1.0, "store: it holds no task"),
        (2, inputs(0), 1, 1.0, "holds no image"),
        (2, torch.full((1, 7), torch.nan, dtype=torch.float64), 1, 1.0, "x: the slopes are not finite"),
        (2, inputs(1), 0, 1.0, "steps=0: without a step"),
        (2, inputs(1), 1, 0.0, "learning_rate=0.0: it scales the slopes"),
        (2, inputs(1), 1, float("nan"), "learning_rate=nan: it scales the slopes"),
        (2, inputs(1), 1, float("inf"), "learning_rate=inf: it scales the slopes"),
    ],
)
def test_what_cannot_be_answered_is_refused(tasks, x, steps, learning_rate, message):
    net = small_network()
    for search in (belief_descent, belief_descent_each):
        with pytest.raises(InvalidArgument, match=message):
            search(entropy, net, filled_bank(net, tasks), x, steps=steps, learning_rate=learning_rate)


@pytest.mark.parametrize("floats", [1, 200, 10**7])
def test_rows_of_beliefs_blend_as_each_alone(monkeypatch, floats):
    monkeypatch.setattr("supsup_core.mask_coverage._CHUNK_FLOATS", floats)
    net = small_network()
    bank = filled_bank(net, 7)
    beliefs = torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beliefs[1, 2] = torch.nn.functional.one_hot(torch.tensor(4), 7)
    blended = bank.blend(beliefs)
    for row in ((0, 1), (1, 0), (1, 2)):
        for name, value in bank.blend(beliefs[row]).items():
            assert (blended[name][row] - value).abs().max() <= 64 * EPS
    for name, value in bank.weights(4).items():
        assert torch.equal(blended[name][1, 2], value)
    with pytest.raises(InvalidArgument, match=r"beliefs: shape \(2, 3, 6\) for 7 tasks"):
        bank.blend(beliefs[..., :6])

"""Calibration against its definition and against draws whose calibration is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_core import (
    InvalidArgument,
    answer_confidences,
    entropy,
    expected_calibration_error,
    fit_temperature,
    gamma_each,
)

from .networks import filled_bank, inputs, small_network

EPS = torch.finfo(torch.float64).eps


def textbook_error(confidences, right, bins):
    total = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        members = [i for i, c in enumerate(confidences) if low < c <= high or (index == 0 and c == 0.0)]
        if members:
            accuracy = sum(right[i] for i in members) / len(members)
            confidence = sum(confidences[i] for i in members) / len(members)
            total += len(members) / len(confidences) * abs(accuracy - confidence)
    return total


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.sampled_from([1, 2, 4, 16]))
def test_the_error_is_the_textbooks(guesses, bins):
    confidences, right = (list(column) for column in zip(*guesses, strict=True))
    # Powers of two: the edges of the bins are exact in both.
    error = expected_calibration_error(torch.tensor(confidences, dtype=torch.float64), torch.tensor(right), bins)
    assert abs(error - textbook_error(confidences, right, bins)) <= 1e3 * EPS


def test_hand_counts():
    sure = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.1])
    right = torch.tensor([True, True, True, False, False])
    # |3/4 - .9| of four and |0 - .1| of one.
    assert expected_calibration_error(sure, right) == pytest.approx(0.8 * 0.15 + 0.2 * 0.1, abs=1e-7)
    assert expected_calibration_error(torch.ones(3), torch.ones(3, dtype=torch.bool)) == 0.0
    assert expected_calibration_error(torch.ones(4), torch.zeros(4, dtype=torch.bool)) == 1.0
    assert expected_calibration_error(torch.zeros(4), torch.zeros(4, dtype=torch.bool)) == 0.0
    # In one bin an error above cancels one below; in bins of their own it does not.
    mixed, outcome = torch.tensor([0.25, 0.75]), torch.tensor([True, False])
    assert expected_calibration_error(mixed, outcome, bins=1) == 0.0
    assert expected_calibration_error(mixed, outcome, bins=2) == 0.75


@pytest.mark.parametrize("seed", range(3))
def test_draws_that_are_right_as_often_as_they_say_have_no_error_but_chance(seed):
    draws, bins = 20_000, 15
    generator = torch.Generator().manual_seed(seed)
    sure = torch.rand(draws, generator=generator, dtype=torch.float64)
    right = torch.rand(draws, generator=generator, dtype=torch.float64) < sure
    # A bin's sum of (right - confidence) has mean 0 and variance at most n_b / 4, so its size is at most sqrt(n_b) / 2 on
    # average, and the error at most sum_b sqrt(n_b) / 2n <= sqrt(B / n) / 2; each draw changes it by at most 1 / n, so
    # (McDiarmid) it exceeds its mean by t with probability below exp(-2 n t²): t = .03 gives e^-36.
    assert expected_calibration_error(sure, right, bins) <= 0.5 * math.sqrt(bins / draws) + 0.03
    # Twice the odds are not what they say: .5 ∫ |p - 2p / (1 + p)| dp = ∫ p (1 - p) / (1 + p) dp = 1.5 - 2 ln 2 ... > .1.
    overconfident = 2 * sure / (1 + sure)
    assert expected_calibration_error(overconfident, right, bins) > 0.11 - 0.03


def test_what_is_no_confidence_is_refused():
    right = torch.tensor([True, False])
    for sure, bins, message in (
        (torch.tensor([0.5, 1.1]), 15, "not all lie between 0 and 1"),
        (torch.tensor([0.5, torch.nan]), 15, "not all lie between 0 and 1"),
        (torch.tensor([0.5, 0.5]), 0, "bins=0"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            expected_calibration_error(sure, right, bins)
    with pytest.raises(InvalidArgument, match="confidences: there is none"):
        expected_calibration_error(torch.empty(0), torch.empty(0, dtype=torch.bool))


def drawn(temperature, guesses=20_000, tasks=5, scale=1.0, seed=0):
    """Values, and true tasks drawn from softmax(-values / temperature)."""
    generator = torch.Generator().manual_seed(seed)
    values = scale * torch.randn(guesses, tasks, generator=generator, dtype=torch.float64)
    p = torch.softmax(-values / temperature, dim=1)
    return values, torch.multinomial(p, 1, generator=generator).squeeze(1)


@pytest.mark.parametrize(("temperature", "scale"), [(1.0, 1.0), (0.3, 1.0), (2.0, 1.0), (1e-7, 1e-7), (5e8, 1e9)])
def test_a_known_temperature_is_recovered(temperature, scale):
    values, truths = drawn(temperature, scale=scale)
    fitted = fit_temperature(values, truths)
    # The estimate's variance is 1 / Fisher information: for β = 1 / T, n times the mean variance of the values under p.
    p = torch.softmax(-values / temperature, dim=1)
    mean = (p * values).sum(dim=1, keepdim=True)
    information = float((p * (values - mean) ** 2).sum())
    assert abs(1 / fitted - 1 / temperature) <= 5 / math.sqrt(information)
    assert 5 / math.sqrt(information) < 0.2 / temperature, "the bound says something"


def test_the_fit_is_stationary_and_makes_confidences_honest():
    values, truths = drawn(0.25)
    fitted = fit_temperature(values, truths)

    def loss(t):
        return -float(torch.log_softmax(-values / t, dim=1).gather(1, truths.unsqueeze(1)).mean())

    assert loss(fitted) <= min(loss(fitted * 1.001), loss(fitted / 1.001))
    answers = values.argmin(dim=1)
    right = answers == truths
    before = expected_calibration_error(answer_confidences(values, answers), right)
    after = expected_calibration_error(answer_confidences(values, answers, fitted), right)
    assert after <= 0.5 * math.sqrt(15 / len(values)) + 0.03 < before


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.01, 100.0))
def test_the_unit_of_the_values_is_the_unit_of_the_temperature(seed, unit):
    values, truths = drawn(0.7, guesses=40, seed=seed)
    fitted = fit_temperature(values, truths)
    scaled = fit_temperature(unit * values, truths)
    # A minimum is flat: where the loss differs by its rounding, 1e-15, log T may differ by about the root of that.
    assert abs(math.log(scaled / (unit * fitted))) <= 1e-5
    shifted = fit_temperature(values + 3.0, truths)
    assert abs(math.log(shifted / fitted)) <= 1e-5


def test_values_that_say_nothing_or_all():
    values = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    sure = fit_temperature(values, torch.tensor([0, 1]))
    assert answer_confidences(values, values.argmin(dim=1), sure).tolist() == [1.0, 1.0]
    unsure = fit_temperature(values, torch.tensor([1, 0]))  # wrong each time: nothing beats equal chances
    confidences = answer_confidences(values, values.argmin(dim=1), unsure)
    assert (confidences - 0.5).abs().max() < 1e-5
    assert fit_temperature(torch.zeros(3, 4), torch.tensor([0, 1, 2])) == 1.0
    assert fit_temperature(torch.ones(2, 1), torch.tensor([0, 0])) == 1.0


def test_tasks_that_are_ruled_out_count_as_none():
    values, truths = drawn(0.5, guesses=500, tasks=4)
    widened = torch.cat([values, torch.full((500, 2), torch.inf, dtype=torch.float64)], dim=1)
    assert fit_temperature(widened, truths) == fit_temperature(values, truths)
    answers = values.argmin(dim=1)
    assert torch.equal(answer_confidences(widened, answers, 0.5), answer_confidences(values, answers, 0.5))


def test_confidences_of_a_search_are_those_of_its_values():
    net = small_network(seed=3)
    guesses = gamma_each(entropy, net, filled_bank(net, 6), inputs(5), 0.5)
    assert torch.equal(torch.isinf(guesses.values), guesses.beliefs[-1] == 0)
    assert torch.equal(guesses.confidences, answer_confidences(guesses.values, guesses.tasks))
    assert bool((guesses.confidences >= 1 / 3).all()), "three are left in the last round, or fewer"


def test_what_no_temperature_fits_is_refused():
    good, truths = torch.zeros(2, 3), torch.tensor([0, 1])
    for place, value in (((0, 1), torch.nan), ((0, 1), -torch.inf), ((0, 0), torch.inf), ((1, 1), torch.nan)):
        values = good.clone()
        values[place] = value
        with pytest.raises(InvalidArgument, match="values: one is NaN or minus infinity"):
            fit_temperature(values, truths)
    with pytest.raises(InvalidArgument, match="values: there is no guess"):
        fit_temperature(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InvalidArgument, match="temperature="):
            answer_confidences(good, truths, temperature)


@pytest.mark.usefixtures("as_users_call")
def test_one_task_is_needed_for_each_guess():
    values = torch.rand(5, 4)
    for ask in (answer_confidences, fit_temperature):
        with pytest.raises(InvalidArgument, match=r"tasks: shape \(3,\) for 5 guesses; pass one task for each"):
            ask(values, torch.zeros(3, dtype=torch.int64))

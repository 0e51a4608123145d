"""The optimisers of one tensor, held to those of torch."""

from functools import partial

import pytest
import torch
from supsup_methods.optimizers import OPTIMIZERS, SGD, Adam, RMSprop

STEPS, RATE = 100, 1e-2
PAIRS = [
    (RMSprop, torch.optim.RMSprop),
    (Adam, torch.optim.Adam),
    (partial(Adam, weight_decay=0.1), partial(torch.optim.Adam, weight_decay=0.1)),
]


def gradients() -> list[torch.Tensor]:
    """Of all sizes from 1e-6 to 1e2, with zeros among them."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-6, 2, 50, dtype=torch.float64)
    drawn = [torch.randn(50, generator=generator, dtype=torch.float64) * sizes for _ in range(STEPS)]
    for number, gradient in enumerate(drawn):
        gradient[number % 50] = 0.0
    return drawn


@pytest.mark.parametrize(("ours", "torchs"), PAIRS)
def test_a_hundred_steps_end_where_torch_ends(ours, torchs):
    start = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values, parameter = start.clone(), torch.nn.Parameter(start.clone())
    optimizer, oracle = ours(values, RATE), torchs([parameter], lr=RATE)
    for gradient in gradients():
        optimizer.step(gradient)
        parameter.grad = gradient.clone()
        oracle.step()
    # A running mean is a sum of terms of one sign (v), or of ones that v bounds (m), each rounded at most three times on its
    # way through each of 100 steps: a move is right to 300 roundings, and so many more than the handful of the last formula.
    # No move exceeds RATE · 10 (RMSprop's first: 1 / sqrt(0.01)), and the value itself is rounded once a step, below 2⁴.
    epsilon = torch.finfo(torch.float64).eps
    tolerance = STEPS * (10 * RATE * 3 * STEPS + 2**4) * epsilon
    assert (values - start).abs().max() > 10 * RATE
    assert (values - parameter.detach()).abs().max() <= tolerance


def test_plain_gradient_descent_is_torchs_to_the_last_bit():
    """Nothing is remembered from step to step, and a step is one multiplication and one sum."""
    start = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values, parameter = start.clone(), torch.nn.Parameter(start.clone())
    optimizer, oracle = SGD(values, RATE), torch.optim.SGD([parameter], lr=RATE)
    for gradient in gradients():
        optimizer.step(gradient)
        parameter.grad = gradient.clone()
        oracle.step()
        assert torch.equal(values, parameter.detach())
    assert (values - start).abs().max() > 1


@pytest.mark.parametrize(
    ("optimizer", "moves"), [(SGD, [1.0, 1.0]), (RMSprop, [10.0, 1.0 / 0.0199**0.5]), (Adam, [1.0, 1.0])]
)
def test_the_first_moves_are_those_of_the_formulas(optimizer, moves):
    """For gradients of 1, RMSprop divides by sqrt(1 - 0.99ᵗ), and Adam, freed of its bias, by 1."""
    values = torch.zeros(1, dtype=torch.float64)
    by = optimizer(values, RATE)
    for move in moves:
        before = values.clone()
        by.step(torch.ones(1, dtype=torch.float64))
        # The divisor is off by the 1e-8 that keeps it from 0: relative to 0.1 at the least, and a few roundings.
        assert float(before - values) == pytest.approx(RATE * move, rel=1.1e-7)


@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam])
def test_the_tensor_itself_is_moved_and_the_gradient_is_not(optimizer):
    values, gradient = torch.zeros(3), torch.tensor([1.0, -1.0, 0.0])
    optimizer(values, RATE).step(gradient)
    assert values.sign().tolist() == [-1.0, 1.0, 0.0]
    assert gradient.tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize(("ours", "torchs"), [(SGD, torch.optim.SGD), *PAIRS])
def test_a_share_of_the_rate_is_a_lower_rate_of_torchs(ours, torchs):
    start = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values, parameter = start.clone(), torch.nn.Parameter(start.clone())
    optimizer, oracle = ours(values, RATE), torchs([parameter], lr=RATE)
    for number, gradient in enumerate(gradients()):
        share = (1 + number % 7) / 7
        optimizer.step(gradient, share)
        oracle.param_groups[0]["lr"] = share * RATE
        parameter.grad = gradient.clone()
        oracle.step()
    # As for whole rates; plain descent moves by up to 1e2 · RATE · 5, rounded twice.
    tolerance = STEPS * (10 * RATE * 3 * STEPS + 2**4) * torch.finfo(torch.float64).eps
    assert (values - parameter.detach()).abs().max() <= tolerance


@pytest.mark.parametrize("optimizer", [RMSprop, Adam])
def test_a_share_changes_the_move_and_nothing_that_is_remembered(optimizer):
    whole, part = (
        optimizer(torch.zeros(50, dtype=torch.float64), RATE),
        optimizer(torch.zeros(50, dtype=torch.float64), RATE),
    )
    for gradient in gradients()[:5]:
        whole.step(gradient)
        part.step(gradient, 0.0)
    assert all(torch.equal(part.state[name], value) for name, value in whole.state.items())


@pytest.mark.parametrize("stop", [0, 1, 37])
@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam])
def test_what_is_remembered_can_be_written_back_to_go_on_to_the_same_bits(optimizer, stop):
    values = torch.zeros(50)
    whole = optimizer(values, RATE)
    kept = {}
    for number, gradient in enumerate(gradients()[:50]):
        if number == stop:
            kept = {name: value.clone() for name, value in {"values": values, **whole.state}.items()}
        whole.step(gradient.float(), 0.5 + number / 100)
    again = torch.ones(50)
    rest = optimizer(again, RATE)
    rest.step(torch.ones(50))  # whatever it remembered is written over
    for name, value in {"values": again, **rest.state}.items():
        value.copy_(kept[name])
    for number, gradient in list(enumerate(gradients()[:50]))[stop:]:
        rest.step(gradient.float(), 0.5 + number / 100)
    assert torch.equal(again, values)
    assert all(torch.equal(rest.state[name], value) for name, value in whole.state.items())


def test_recipes_name_rmsprop_and_adam():
    assert dict(OPTIMIZERS) == {"rmsprop": RMSprop, "adam": Adam}

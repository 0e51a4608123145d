"""Normal weights: the right distribution, and the same bits wherever they are drawn."""

import math

import pytest
import torch
from supsup_core import FrozenNetwork, kaiming_normal, xavier_normal
from supsup_core.random_streams import normal, stream_key
from torch import nn

COUNT = 10**6
GOLDEN = [-0.09305620193481445, -1.3668254613876343, -0.6224209070205688, -1.7849769592285156]
DRAWN = normal(stream_key(0, "test"), (1000, 1000), 2.0)
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no second device")


def test_normal_values_have_the_moments_of_the_normal_distribution():
    assert DRAWN.dtype == torch.float32
    unit = DRAWN.double() / 2.0
    # Var(zᵏ) = E z²ᵏ - (E zᵏ)² for k = 1 to 4, with E z², z⁴, z⁶, z⁸ = 1, 3, 15, 105.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(unit.pow(power).mean().item() - mean) < 5 * math.sqrt(variance / COUNT)


def test_normal_values_have_its_distribution_function():
    """Kolmogorov and Smirnov: the greatest distance exceeds t / sqrt(n) with probability below 2 exp(-2 t²)."""
    at = torch.special.ndtr((DRAWN.double() / 2.0).flatten().sort().values)
    empirical = torch.arange(1, COUNT + 1, dtype=torch.float64) / COUNT
    distance = max(float((empirical - at).abs().max()), float((empirical - 1 / COUNT - at).abs().max()))
    assert distance < 3 / math.sqrt(COUNT)  # by chance once in 30 million seeds


@pytest.mark.parametrize("beyond", [2.0, 3.0, 4.0])
def test_normal_values_have_its_tails(beyond):
    for drawn in (DRAWN, -DRAWN):
        expected = COUNT * math.erfc(beyond / math.sqrt(2)) / 2
        assert abs(int((drawn / 2.0 > beyond).sum()) - expected) < 5 * math.sqrt(expected)


def test_normal_values_end_where_their_grid_does():
    """The inverse distribution function at the middle of the first of 2²⁴ steps: finite, and 5.42 standard deviations out."""
    farthest = abs(torch.special.ndtri(torch.tensor(2.0**-25, dtype=torch.float64)).item())
    assert farthest == pytest.approx(5.42, abs=0.01)
    # The expected greatest of 10⁶ is beyond 4.5: P(all within) = (1 - 6.8e-6)^(10⁶) = 0.001.
    assert 4.5 < DRAWN.abs().max().item() / 2.0 <= farthest * (1 + 2**-23)


def test_neighbouring_values_are_uncorrelated():
    flat = DRAWN.double().flatten() / 2.0
    for lag in (1, 2, 1000):
        assert abs((flat[:-lag] * flat[lag:]).mean().item()) < 5 / math.sqrt(COUNT - lag)


def test_golden_values_never_change():
    # Made by `normal` itself: new values would change every W that is stored as a seed.
    assert normal(stream_key(0, "weights", "1.weight"), (4,), 1.0).tolist() == GOLDEN


@pytest.mark.parametrize("init", [kaiming_normal, xavier_normal])
def test_weights_are_a_function_of_seed_name_and_shape(init):
    like = torch.empty(30, 20)
    weights = init("a", like, 20.0, 7)
    assert torch.equal(init("a", torch.full((30, 20), math.nan), 20.0, 7), weights)
    assert weights.shape == like.shape
    for other in (init("a", like, 20.0, 8), init("b", like, 20.0, 7)):
        # Independent draws of a continuous value: of 600 hardly one falls on the same of 2²⁴ points.
        assert (other == weights).sum() <= 1
    double = init("a", like.double(), 20.0, 7)
    assert double.dtype == torch.float64
    assert torch.equal(double.float(), weights)


@pytest.mark.parametrize(
    ("init", "variance"), [(kaiming_normal, 2 / (9 * 40)), (xavier_normal, 2 / (9 * 40 + 9 * 100))]
)
def test_weights_have_the_variance_of_their_rule(init, variance):
    """A convolution from 40 to 100 channels with a kernel of 3 × 3."""
    net = FrozenNetwork(nn.Conv2d(40, 100, 3), seed=3, init=init)
    drawn = net.frozen["weight"].double()
    assert abs(drawn.pow(2).mean().item() / variance - 1) < 5 * math.sqrt(2 / drawn.numel())
    assert abs(drawn.mean().item()) < 5 * math.sqrt(variance / drawn.numel())


@pytest.mark.parametrize("init", [kaiming_normal, xavier_normal])
def test_weights_go_to_the_device_of_the_parameter(init):
    """The meta device has no values: that they are made on the CPU shows in that asking for it is no error."""
    assert init("a", torch.empty(3, 4, device="meta"), 4.0, 0).device.type == "meta"
    assert normal(0, (3,), 1.0, "meta").device.type == "meta"
    assert torch.equal(normal(0, (3,), 1.0, torch.device("cpu")), normal(0, (3,), 1.0))


@NEEDS_GPU
@pytest.mark.parametrize("init", [kaiming_normal, xavier_normal])
def test_weights_have_the_same_bits_on_every_device(init):
    there = init("a", torch.empty(300, 200, device="cuda"), 200.0, 0)
    assert torch.equal(there.cpu(), init("a", torch.empty(300, 200), 200.0, 0))


def test_numbers_do_not_depend_on_how_many_are_drawn():
    assert torch.equal(normal(5, (100,), 1.0)[:10], normal(5, (10,), 1.0))

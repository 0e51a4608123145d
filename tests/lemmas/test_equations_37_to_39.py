"""Equations 37 to 39: H and the full logsumexp G' as n grows. Their values meet, relatively; their gradients never do."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import entropy

EPS = torch.finfo(torch.float64).eps


def logits(n, scale, seed):
    return scale * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


cases = given(n=st.integers(2, 500), scale=st.sampled_from([0.0, 1e-3, 1.0, 10.0, 300.0]), seed=st.integers(0, 10_000))


@cases
def test_h_is_logsumexp_minus_the_mean_logit(n, scale, seed):
    """Claim: H = G' - sum_v p_v y_v (Eq. 39), and hence |H - G'| <= max|y|."""
    y = logits(n, scale, seed)
    p, g = torch.softmax(y, dim=0), torch.logsumexp(y, dim=0)
    h = entropy(y.unsqueeze(0)).squeeze()
    size = y.abs().max() + math.log(n) + 1
    assert (h - (g - (p * y).sum())).abs() <= (n + 16) * EPS * size
    assert (h - g).abs() <= y.abs().max() + (n + 16) * EPS * size


@cases
def test_the_gradient_of_h_is_that_of_g_times_a_centred_logit(n, scale, seed):
    """Claim: dH/dy_v = (ȳ - y_v) dG'/dy_v with ȳ = sum_u p_u y_u and dG'/dy_v = p_v."""
    y = logits(n, scale, seed).requires_grad_()
    (of_h,) = torch.autograd.grad(entropy(y.unsqueeze(0)).sum(), y)
    (of_g,) = torch.autograd.grad(torch.logsumexp(y, dim=0), y)
    y = y.detach()
    mean = (of_g * y).sum()
    size = y.abs().max() + math.log(n) + 1
    assert (of_h - (mean - y) * of_g).abs().max() <= (n + 32) * EPS * size**2


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_the_ratio_of_values_tends_to_one(bound):
    """Claim: with logits bounded by B, |H/G' - 1| <= B / (log n - B), which tends to 0 as outputs are added."""
    ratios = []
    for n in (100, 10_000, 1_000_000):
        y = bound * (2 * torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) - 1)
        distance = abs((entropy(y.unsqueeze(0)).item() / torch.logsumexp(y, dim=0).item()) - 1)
        assert distance <= bound / (math.log(n) - bound)
        ratios.append(distance)
    assert ratios[0] > ratios[1] > ratios[2]


@pytest.mark.parametrize("n", [10, 1000, 100_000])
def test_the_gradients_do_not_converge(n):
    """Claim, against the appendix's "moving H towards G": for every n, sum_v dH/dy_v = 0 and sum_v dG'/dy_v = 1."""
    y = logits(n, 1.0, n).requires_grad_()
    (of_h,) = torch.autograd.grad(entropy(y.unsqueeze(0)).sum(), y)
    (of_g,) = torch.autograd.grad(torch.logsumexp(y, dim=0), y)
    assert abs(of_h.sum().item()) <= n * EPS * 16
    assert of_g.sum().item() == pytest.approx(1.0, abs=n * EPS * 16)

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import InvalidArgument, entropy, max_confidence, max_logit, superfluous_logsumexp


def logits(scale: float, outputs: int, seed: int) -> torch.Tensor:
    return scale * torch.randn(3, outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.sampled_from([0.0, 1e-3, 1.0, 30.0]), st.integers(2, 50), st.integers(0, 1000))
def test_entropy_is_minus_p_log_p(scale, outputs, seed):
    y = logits(scale, outputs, seed)
    p = torch.softmax(y, dim=-1)
    expected = torch.distributions.Categorical(probs=p).entropy()
    assert torch.allclose(entropy(y), expected, rtol=0, atol=1e-12 * math.log(outputs) + 1e-12)


def test_entropy_at_its_extremes():
    assert entropy(torch.zeros(1, 8)).item() == pytest.approx(math.log(8), rel=1e-6)
    assert entropy(torch.tensor([[1e4, -1e4, -1e4]])).item() == 0.0


@given(st.sampled_from([1.0, 1e4]), st.sampled_from([2, 100, 25_000]), st.integers(0, 100))
def test_objectives_and_gradients_stay_finite(scale, outputs, seed):
    for objective in (entropy, superfluous_logsumexp(1), max_confidence, max_logit):
        y = logits(scale, outputs, seed).float().requires_grad_()
        value = objective(y)
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert torch.isfinite(y.grad).all()


@given(st.integers(1, 9), st.integers(0, 1000))
def test_g_counts_all_outputs_and_moves_only_superfluous_ones(num_labels, seed):
    y = logits(1.0, 10, seed).requires_grad_()
    g = superfluous_logsumexp(num_labels)(y)
    assert torch.equal(g, torch.logsumexp(y, dim=-1))
    g.sum().backward()
    assert torch.equal(y.grad[:, :num_labels], torch.zeros(3, num_labels, dtype=torch.float64))
    expected = torch.softmax(y.detach(), dim=-1)[:, num_labels:]
    # p_v by two routes, each a few roundings of numbers below 1.
    assert (y.grad[:, num_labels:] - expected).abs().max() <= 16 * torch.finfo(torch.float64).eps


def test_g_without_superfluous_neurons_is_refused():
    with pytest.raises(InvalidArgument, match="num_labels=10: with 10 outputs there is no superfluous neuron"):
        superfluous_logsumexp(10)(torch.zeros(1, 10))
    with pytest.raises(InvalidArgument, match="num_labels=12: with 10 outputs there is no superfluous neuron"):
        superfluous_logsumexp(12)(torch.zeros(1, 10))
    with pytest.raises(InvalidArgument, match="num_labels=0"):
        superfluous_logsumexp(0)


@given(st.sampled_from([1.0, 30.0]), st.integers(2, 50), st.integers(0, 1000))
def test_confidence_and_largest_logit_are_the_largest_of_their_kind(scale, outputs, seed):
    y = logits(scale, outputs, seed)
    assert torch.equal(max_confidence(y), -torch.softmax(y, dim=-1).max(dim=-1).values)
    assert torch.equal(max_logit(y), -y.max(dim=-1).values)


def test_outputs_that_are_ruled_out_add_nothing_to_the_entropy():
    y = logits(1.0, 6, 0).requires_grad_()
    ruled_out = torch.tensor([False, True, False, False, True, False])
    value = entropy(y.masked_fill(ruled_out, -torch.inf))
    assert torch.allclose(value, entropy(y[:, ~ruled_out]), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    (expected,) = torch.autograd.grad(entropy(y[:, ~ruled_out]).sum(), y)
    assert torch.allclose(gradient, expected, rtol=0, atol=1e-14)


def test_the_entropy_of_one_output_tells_nothing_and_is_refused():
    with pytest.raises(InvalidArgument, match="of one output the entropy is always 0"):
        entropy(torch.zeros(3, 1))

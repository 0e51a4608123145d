"""Lemma I.1: on the superfluous neurons, the gradient of G is the gradient of the supervised loss, whatever the label."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import superfluous_logsumexp
from torch.nn.functional import cross_entropy

EPS = torch.finfo(torch.float64).eps


@given(
    num_labels=st.integers(1, 30),
    superfluous=st.integers(1, 200),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 10.0, 100.0]),
    seed=st.integers(0, 10_000),
)
def test_g_and_the_loss_push_superfluous_neurons_alike(num_labels, superfluous, scale, seed):
    """Claim: dG/dy_v = dL/dy_v for every v in S and every real label, and dG/dy_v = 0 for every real neuron v.

    Assumptions: L is the cross-entropy over all n outputs; the label is real; there is a superfluous neuron.
    """
    outputs = num_labels + superfluous
    y = scale * torch.randn(outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    leaf = y.clone().requires_grad_()
    (of_g,) = torch.autograd.grad(superfluous_logsumexp(num_labels)(leaf.unsqueeze(0)).sum(), leaf)
    assert torch.equal(of_g[:num_labels], torch.zeros(num_labels, dtype=torch.float64))
    for label in range(num_labels):
        leaf = y.clone().requires_grad_()
        (of_loss,) = torch.autograd.grad(cross_entropy(leaf.unsqueeze(0), torch.tensor([label])), leaf)
        # Both are p_v <= 1. The exponent y_v - logsumexp(y) is rounded at a size of up to 2 max|y| + log n, twice.
        bound = 4 * EPS * (2 * y.abs().max() + torch.tensor(float(outputs)).log() + 4)
        assert (of_g[num_labels:] - of_loss[num_labels:]).abs().max() <= bound

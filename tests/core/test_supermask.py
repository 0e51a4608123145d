import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import threshold, threshold_mask

scores = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20).map(torch.tensor)


@given(scores)
def test_a_weight_is_in_the_mask_where_its_score_is_not_negative(s):
    expected = [value >= 0 for value in s.tolist()]
    assert threshold_mask(s).tolist() == expected
    assert threshold(s).tolist() == [float(inside) for inside in expected]


@given(scores, st.integers(0, 1000))
def test_the_gradient_passes_straight_through(s, seed):
    s = s.requires_grad_()
    upstream = torch.randn(s.shape, generator=torch.Generator().manual_seed(seed))
    (gradient,) = torch.autograd.grad(threshold(s), s, upstream)
    assert torch.equal(gradient, upstream)


def test_the_gradient_passes_under_vmap():
    s = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    gradient = torch.func.vmap(torch.func.grad(lambda row: (threshold(row) * torch.arange(3.0)).sum()))(s)
    assert torch.equal(gradient, torch.arange(3.0).expand(4, 3))

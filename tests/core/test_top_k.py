import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import (
    FrozenNetwork,
    InvalidArgument,
    density_budget,
    erdos_renyi_budget,
    top_k,
    top_k_mask,
    top_k_masks,
)
from torch import nn

from .networks import small_network

# Few distinct values, so that ties are common.
tied_scores = st.lists(st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0]), min_size=1, max_size=40).map(torch.tensor)


@given(tied_scores, st.data(), st.integers(0, 2**63))
def test_exactly_k_stay_and_none_that_is_smaller_than_one_left_out(scores, data, key):
    k = data.draw(st.integers(1, len(scores)))
    mask = top_k_mask(scores, k, key)
    assert int(mask.sum()) == k
    if k < len(scores):
        assert scores.abs()[mask].min() >= scores.abs()[~mask].max()
    assert torch.equal(top_k(scores, k, key), mask.float())
    assert torch.equal(mask, top_k_mask(scores, k, key))


def test_ties_are_broken_by_a_fair_draw_of_the_key():
    scores = torch.ones(10)
    kept = torch.stack([top_k_mask(scores, 3, key) for key in range(4000)]).float().mean(dim=0)
    # Each is kept with probability 0.3: a standard error of 0.00725, five of them allowed.
    assert (kept - 0.3).abs().max() < 5 * 0.00725


def test_without_ties_the_key_does_not_matter():
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(top_k_mask(scores, 7, 1), top_k_mask(scores, 7, 2))
    assert torch.equal(top_k_mask(scores.view(5, 10), 7, 1).flatten(), top_k_mask(scores, 7, 1))


@given(tied_scores, st.integers(0, 1000))
def test_the_gradient_passes_with_the_sign_of_the_score(scores, seed):
    upstream = torch.randn(scores.shape, generator=torch.Generator().manual_seed(seed))
    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(top_k(leaf, 1, 0), leaf, upstream)
    expected = [
        value if score >= 0 else -value for score, value in zip(scores.tolist(), upstream.tolist(), strict=True)
    ]
    assert gradient.tolist() == expected


@given(st.lists(tied_scores, min_size=1, max_size=4), st.data(), st.integers(0, 2**63))
def test_layers_together_are_each_layer_alone(layers, data, key):
    ks = [data.draw(st.integers(1, len(layer))) for layer in layers]
    keys = [key + number for number in range(len(layers))]
    masks = top_k_masks(layers, ks, keys)
    assert len(masks) == len(layers)
    for mask, layer, k, own in zip(masks, layers, ks, keys, strict=True):
        assert torch.equal(mask, top_k_mask(layer, k, own))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@given(k=st.integers(1, 300), seed=st.integers(0, 1000))
def test_the_mask_is_that_of_a_sorted_list(dtype, k, seed):
    scores = torch.randn(300, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    mask = top_k_mask(scores, k, 0)
    least = sorted(scores.abs().tolist(), reverse=True)[k - 1]
    assert int(mask.sum()) == k
    assert (scores.abs()[mask] >= least).all()
    assert (scores.abs()[~mask] <= least).all()
    assert mask[scores.abs() > least].all()


def test_shapes_stay_and_scores_are_only_looked_at():
    scores = [torch.randn(4, 3, 2, 2), torch.randn(5, 7)[:, ::2].requires_grad_()]
    before = [layer.detach().clone() for layer in scores]
    masks = top_k_masks(scores, [3, 4], [1, 2])
    assert [mask.shape for mask in masks] == [(4, 3, 2, 2), (5, 4)]
    assert all(mask.dtype == torch.bool and not mask.requires_grad for mask in masks)
    assert all(torch.equal(layer, copy) for layer, copy in zip(scores, before, strict=True))


def test_one_layer_of_several_that_is_wrong_is_refused():
    with pytest.raises(InvalidArgument, match="k=5: a mask over 4 weights holds 1 to 4 of them"):
        top_k_masks([torch.ones(6), torch.ones(4)], [5, 5], [0, 0])
    with pytest.raises(InvalidArgument, match="scores: some are NaN"):
        top_k_masks([torch.ones(6), torch.tensor([1.0, torch.nan, 2.0, 3.0])], [6, 2], [0, 0])
    with pytest.raises(InvalidArgument, match="scores: some are NaN"):
        top_k_masks([torch.full((4,), torch.nan)], [4], [0])


@pytest.mark.parametrize("k", [0, -1, 5])
def test_an_impossible_k_is_refused(k):
    with pytest.raises(InvalidArgument, match=f"k={k}: a mask over 4 weights holds 1 to 4 of them"):
        top_k_mask(torch.ones(4), k, 0)


@given(
    sizes=st.lists(st.integers(0, 2), min_size=2, max_size=40),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    data=st.data(),
)
def test_nan_has_no_rank_where_others_tie(sizes, dtype, data):
    """As many others as it should be may be chosen in its place."""
    scores = torch.tensor(sizes, dtype=dtype)
    scores[data.draw(st.integers(0, len(sizes) - 1))] = torch.nan
    with pytest.raises(InvalidArgument, match="scores: some are NaN"):
        top_k_mask(scores, data.draw(st.integers(1, len(sizes))), 0)


def test_nan_has_no_rank():
    with pytest.raises(InvalidArgument, match="scores: some are NaN"):
        top_k_mask(torch.tensor([1.0, torch.nan]), 1, 0)


def test_a_density_is_a_share_of_each_layer():
    net = small_network()  # 35 and 30 weights
    assert density_budget(net, 0.5) == {"0.weight": 18, "2.weight": 15}
    assert density_budget(net, {"0.weight": 0.001, "2.weight": 1.0}) == {"0.weight": 1, "2.weight": 30}
    for bad in (0.0, 1.5, -0.1, {"0.weight": 0.5}):
        with pytest.raises(InvalidArgument, match="give each layer a share above 0, up to 1"):
            density_budget(net, bad)


class TheStemAndOneBlockOfTheCifarNet(nn.Module):
    """A 3 × 3 stem to 20 channels, a 160-channel convolution, a 1 × 1 shortcut and the head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, bias=False)
        self.conv = nn.Conv2d(160, 160, 3, bias=False)
        self.shortcut = nn.Conv2d(80, 160, 1, bias=False)
        self.head = nn.Conv2d(160, 5, 1, bias=False)


def test_the_erdos_renyi_budget_is_that_of_the_paper():
    net = FrozenNetwork(TheStemAndOneBlockOfTheCifarNet(), seed=0)
    assert erdos_renyi_budget(net, 1.0) == {
        "stem.weight": 23,
        "conv.weight": 320,
        "shortcut.weight": 240,
        "head.weight": 165,
    }
    assert pytest.approx(0.0014, abs=5e-5) == 320 / (160 * 160 * 9)  # the smallest density of a layer at c = 1
    # At c = 32 small layers are capped at half: 540 weights of the stem, 800 of the head.
    assert erdos_renyi_budget(net, 32.0)["stem.weight"] == 270
    assert erdos_renyi_budget(net, 32.0)["head.weight"] == 400


def test_linear_layers_have_a_budget_and_every_layer_keeps_a_weight():
    net = small_network()  # layers of 5 × 7 and 6 × 5
    assert erdos_renyi_budget(net, 1.0) == {"0.weight": 12, "2.weight": 11}
    assert erdos_renyi_budget(net, 1e-3) == {"0.weight": 1, "2.weight": 1}


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_none_is_refused(factor):
    with pytest.raises(InvalidArgument, match="the budget factor c is a number above 0"):
        erdos_renyi_budget(small_network(), factor)


def test_a_vector_has_no_inputs_and_outputs():
    net = FrozenNetwork(nn.Linear(3, 3), seed=0, select=lambda _, name: 3.0 if name == "bias" else None)
    with pytest.raises(InvalidArgument, match="use density_budget"):
        erdos_renyi_budget(net, 1.0)


def test_of_no_layers_there_are_no_masks():
    assert top_k_masks([], [], []) == []

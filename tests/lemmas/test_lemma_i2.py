"""Lemma I.2: along a wrong task's mask, G is not expected to fall."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_core import FrozenNetwork, MaskBank, belief_slopes, keep_weights, superfluous_logsumexp
from torch import nn

from .linear_heads import STUDENT_99, right_and_wrong, t_statistic

G = superfluous_logsumexp(1)
EPS = torch.finfo(torch.float64).eps


def head(signs: torch.Tensor) -> FrozenNetwork:
    """Return the linear head y = (W ⊙ M)ᵀ φ with W = sqrt(2/m) ξ, in double precision."""
    outputs, features = signs.shape
    linear = nn.Linear(features, outputs, bias=False).to(torch.float64).requires_grad_(False)
    linear.weight.copy_(signs * (2 / features) ** 0.5)
    return FrozenNetwork(linear, seed=0, init=keep_weights)


@settings(max_examples=20)
@given(
    features=st.integers(1, 3),
    superfluous=st.integers(1, 2),
    tasks=st.integers(1, 3),
    atoms=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_the_expected_slope_is_not_downhill(features, superfluous, tasks, atoms, seed):
    """Claim: E[-dG/dα_i] <= 0 for every task i whose mask is independent of the signs.

    Assumption: every sign ξ_uv of a superfluous output v is fair and independent of (features, every mask, the other signs);
    features and masks follow an arbitrary joint law (here: a few equally likely atoms). The expectation is exact: all sign
    matrices are enumerated, and the slope is the one that task inference computes.
    """
    generator = torch.Generator().manual_seed(seed)
    outputs = 1 + superfluous
    beliefs = torch.rand(tasks, generator=generator, dtype=torch.float64)
    beliefs /= beliefs.sum()
    expected = torch.zeros(tasks, dtype=torch.float64)
    laws = [
        (
            torch.randn(1, features, generator=generator, dtype=torch.float64),
            torch.rand(tasks, outputs, features, generator=generator) < 0.5,
            torch.randint(0, 2, (1, features), generator=generator) * 2.0 - 1.0,
        )
        for _ in range(atoms)
    ]
    combinations = list(itertools.product((-1.0, 1.0), repeat=features * superfluous))
    for phi, masks, real_signs in laws:
        for combination in combinations:
            net = head(torch.cat([real_signs, torch.tensor(combination).view(superfluous, features)]))
            bank = MaskBank(net)
            for mask in masks:
                bank.append({"weight": mask})
            expected -= belief_slopes(G, net, bank, phi, beliefs) / (atoms * len(combinations))
    # A slope sums features x outputs terms, each at most sqrt(2/m) |φ| <= 10, rounded a few times.
    assert expected.max() <= 32 * 10 * features * outputs * EPS


def test_with_trained_masks_it_holds_in_the_mean_over_seeds():
    """Claim, statistical: with masks that were really trained on other tasks, the mean over seeds is not above 0.

    Fails if the mean is above 0 at 99 % (Student's t over the seeds).
    """
    _, wrong = right_and_wrong("mean")
    assert t_statistic(wrong) < STUDENT_99


def test_the_statistic_would_notice_a_slope_above_zero():
    """The same test on the right task's slopes, which are above 0, fails as it should."""
    right, _ = right_and_wrong("mean")
    assert t_statistic(right) > STUDENT_99

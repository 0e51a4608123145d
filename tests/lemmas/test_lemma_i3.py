"""Lemma I.3: along the right task's mask, G falls. A heuristic: one exact part, one statistical, and where it fails."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import FrozenNetwork, MaskBank, belief_slopes, superfluous_logsumexp
from torch import nn

from .linear_heads import STUDENT_99, TASKS, right_and_wrong, t_statistic, trained_slopes

EPS = torch.finfo(torch.float64).eps


@given(
    features=st.integers(1, 20),
    num_labels=st.integers(1, 5),
    superfluous=st.integers(1, 20),
    tasks=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
def test_at_the_right_task_the_slope_is_the_mean_superfluous_logit(features, num_labels, superfluous, tasks, seed):
    """Claim, exact for a linear head: -dG/dα_j at α = e_j is -sum over v in S of p_v y_v.

    For there y_v = sum_i α_i y^i_v with y^i the outputs under mask i, so dy_v/dα_j = y^j_v = y_v.
    """
    generator = torch.Generator().manual_seed(seed)
    net = FrozenNetwork(nn.Linear(features, num_labels + superfluous, bias=False), seed).to(dtype=torch.float64)
    bank = MaskBank(net)
    for _ in range(tasks):
        bank.append({"weight": torch.rand(num_labels + superfluous, features, generator=generator) < 0.5})
    x = torch.randn(1, features, generator=generator, dtype=torch.float64)
    for task in range(tasks):
        y = net(x, bank.weights(task))[0]
        expected = (torch.softmax(y, dim=0) * y)[num_labels:].sum()
        slope = belief_slopes(
            superfluous_logsumexp(num_labels), net, bank, x, torch.eye(tasks, dtype=torch.float64)[task]
        )
        terms = features * (num_labels + superfluous)
        assert (slope[task] - expected).abs() <= 32 * terms * EPS * (y.abs().max() + x.abs().max() * features)


def test_trained_heads_fall_along_the_right_mask_and_more_than_along_wrong_ones():
    """Claim, statistical, at 99 % over seeds: the right slope is above 0, and above the mean of the wrong ones.

    Assumptions: zero-mean features over all tasks, each task with a feature mean of its own; masks trained on each.
    """
    right, wrong = right_and_wrong("mean")
    assert t_statistic(right) > STUDENT_99
    assert t_statistic(right - wrong) > STUDENT_99


def test_it_fails_for_sign_symmetric_data():
    """Documented failure: where φ and -φ are equally likely, no mask can hold the superfluous outputs low for both.

    The right slope is then below 0 at 99 %, as p_v y_v has a positive mean.
    """
    right, _ = right_and_wrong("symmetric")
    assert t_statistic(right) < -STUDENT_99


def test_it_fails_for_relu_features():
    """Documented failure: non-negative features make every task drop the same positive weights into S.

    E[ξM] is then far from 0 (Assumption 2 is broken), all masks agree on S, and right and wrong slopes coincide.
    """
    right, wrong = right_and_wrong("relu")
    assert ((right - wrong).abs() < 1e-3 * right).all()
    slopes = trained_slopes("relu", seed=0)
    assert slopes.shape == (TASKS, TASKS)
    assert (slopes.std(dim=1) < 1e-3 * slopes.mean(dim=1)).all()

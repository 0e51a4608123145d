"""Lemma J.2: shifting a logit by aκ and weighting its probability by κ cannot lower the sum over ±κ."""

import math

from hypothesis import given
from hypothesis import strategies as st

EPS = 2.0**-52
reals = st.floats(-30, 30)


def probability(t: float, others: list[float], shift: float) -> float:
    """Return p_v = exp(t + shift) / (exp(t + shift) + sum over the others)."""
    logits = [t + shift, *others]
    top = max(logits)
    terms = [math.exp(value - top) for value in logits]
    return terms[0] / math.fsum(terms)


@given(t=reals, others=st.lists(reals, min_size=1, max_size=10), kappa=reals, a=st.floats(0, 3))
def test_the_sum_over_both_signs_is_not_negative(t, others, kappa, a):
    """Claim: κ [p_v(t + aκ) - p_v(t - aκ)] >= 0 for all real t, κ and other logits, and all a >= 0.

    In the proof of J.1 the shift is aκ with a = sqrt(2/m) sum_ω α_ω M^ω_uv, which the appendix writes as κ itself.
    """
    up, down = probability(t, others, a * kappa), probability(t, others, -a * kappa)
    # A probability is rounded a few times per term, and t ± aκ once at a size below 128.
    rounding = (128 + 4 * len(others) + 16) * EPS
    assert kappa * (up - down) >= -abs(kappa) * rounding


@given(
    t=st.floats(-3, 3),
    other=st.floats(-3, 3),
    kappa=st.floats(0.1, 3),
    sign=st.sampled_from([-1, 1]),
    a=st.floats(0.1, 3),
)
def test_and_it_is_positive_where_the_shift_is_felt(t, other, kappa, sign, a):
    """Claim: strictly positive for κ ≠ 0 and a > 0. With two outputs p = σ(t - other), whose slope is p(1 - p).

    On the interval of the shift |t - other ± aκ| <= 15, so the slope is at least σ(15)(1 - σ(15)) > 3e-7.
    """
    kappa *= sign
    difference = probability(t, [other], a * kappa) - probability(t, [other], -a * kappa)
    assert kappa * difference >= 2 * a * kappa**2 * 3e-7

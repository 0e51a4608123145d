"""Lemma J.1: E[p_v φ_u ξ_uv M^i_uv] >= 0. True where ξ_uv is independent of all else; false under Assumptions 1 and 2."""

import math
from fractions import Fraction

import pytest
from hypothesis import given

from .finite_laws import U, V, counterexample, laws, probability

EPS = 2.0**-52


@given(laws())
def test_the_expectation_is_not_negative(law):
    """Claim: E[p_v φ_u ξ_uv M^i_uv] >= 0 for every task i, and > 0 where the shift can be felt.

    Assumption: ξ_uv is fair and independent of (features, every mask, the other signs), whose joint law is arbitrary. E[φ] = 0
    is not needed. Summing over ξ_uv first, every single outcome of the rest adds κ[p_v(t + aκ) - p_v(t - aκ)] >= 0 (J.2).
    """
    scale = math.sqrt(2 / len(law.outcomes[0][0].features))
    for task in range(len(law.beliefs)):
        terms, felt = [], False
        for rest, chance in law.outcomes:
            kappa = rest.kappa(task)
            up, down = (probability(rest.logits(law.beliefs, xi), scale) for xi in (1, -1))
            terms.append(float(chance) / 2 * float(kappa) * (up - down))
            felt |= kappa != 0 and law.beliefs[task] > 0
        # |κ| <= 2, at most six outcomes, each with probabilities that are rounded a few times below 1.
        rounding = 6 * 2 * 32 * EPS
        assert math.fsum(terms) >= -rounding
        if felt:
            assert math.fsum(terms) > rounding


@pytest.mark.parametrize("features", [4, 6, 8])
def test_a_mask_that_tells_the_sign_makes_it_negative(features):
    """Gap in the appendix: a law with Assumptions 1 and 2, whose expectation is below 0 by far more than rounding."""
    law = counterexample(features)
    for u in range(features):
        for task in (0, 1):  # Assumption 2: E[ξM] = 0 for every weight of column v and either mask
            assert sum(chance * rest.signs[u][V] * rest.masks[task][u][V] for rest, chance in law.outcomes) == 0
    assert {rest.features for rest, _ in law.outcomes} == {(Fraction(1),) * features}  # Assumption 1: φ is constant
    scale = math.sqrt(2 / features)
    expectation = math.fsum(
        float(chance) * rest.signs[U][V] * probability(rest.logits(law.beliefs, rest.signs[U][V]), scale)
        for rest, chance in law.outcomes
    )
    assert expectation < -1e-3

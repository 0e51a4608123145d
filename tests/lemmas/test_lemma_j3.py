"""Lemma J.3: given φξM = κ or -κ, everything else has the same law. True where ξ_uv is independent of all else; else not."""

from collections import defaultdict
from fractions import Fraction

from hypothesis import given

from .finite_laws import U, V, counterexample, laws


def conditional_laws(outcomes, beliefs, task):
    """Return, for each κ > 0, the laws of the logits without ξ_uv's share given φξM = κ and given φξM = -κ, exactly.

    Args:
        outcomes: the rest, ξ_uv and their chance, of each outcome.
        beliefs: α.
        task: i.
    """
    weights = defaultdict(lambda: (defaultdict(Fraction), defaultdict(Fraction)))
    for rest, xi, chance in outcomes:
        without = tuple(sum(pair) / 2 for pair in zip(rest.logits(beliefs, 1), rest.logits(beliefs, -1), strict=True))
        blend = sum(belief * mask[U][V] for belief, mask in zip(beliefs, rest.masks, strict=True))
        value = rest.kappa(task) * xi
        if value:
            shifted = [each + blend * value * (output == V) for output, each in enumerate(without)]
            assert rest.logits(beliefs, xi) == tuple(shifted), (
                "y_v = t + a κ, and all other logits hang on the rest alone"
            )
            weights[abs(value)][value < 0][without, blend] += chance
    return {
        kappa: tuple({point: weight / sum(side.values()) for point, weight in side.items()} for side in sides)
        for kappa, sides in weights.items()
    }


@given(laws())
def test_the_conditional_laws_are_equal(law):
    """Claim: (t, a, other logits) has one and the same law given φ_u ξ_uv M^i_uv = κ and given -κ, for every κ > 0.

    Assumption: ξ_uv is fair and independent of (features, every mask, the other signs), whose joint law is arbitrary. With
    h(y, ±κ) a function of that point, the appendix's equality of probabilities follows.
    """
    outcomes = [(rest, xi, chance / 2) for rest, chance in law.outcomes for xi in (-1, 1)]
    for task in range(len(law.beliefs)):
        for plus, minus in conditional_laws(outcomes, law.beliefs, task).values():
            assert plus == minus


def test_a_mask_that_tells_the_sign_breaks_it():
    """Gap in the appendix: Assumptions 1 and 2 do not make ξ_uv independent of the other masks, and then J.3 fails."""
    law = counterexample(features=3)
    outcomes = [(rest, rest.signs[U][V], chance) for rest, chance in law.outcomes]
    assert sum(chance for _, xi, chance in outcomes if xi > 0) == Fraction(1, 2)
    ((plus, minus),) = conditional_laws(outcomes, law.beliefs, task=0).values()
    assert plus != minus
    sides = [{without[V] for without, _ in side} for side in (plus, minus)]
    assert {-value for value in sides[0]} == sides[1], "the other weights lean against ξ_uv"

"""Finite models of the appendix's setting: one linear head, features φ, signs ξ, masks M and beliefs α, all exact.

An outcome of "the rest" fixes the features, every mask, and every sign but ξ_uv; the law gives it a rational probability. The
sign ξ_uv is fair and independent of the rest. Logits are kept as rational multiples of sqrt(2/m), so that laws can be compared
exactly; only the softmax is floating point.
"""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st

U, V = 0, 0  # the weight that the lemmas look at


@dataclass(frozen=True)
class Rest:
    """Everything but ξ_uv: features, one mask for each task and all signs, as nested tuples; signs[U][V] is not used."""

    features: tuple[Fraction, ...]
    masks: tuple[tuple[tuple[int, ...], ...], ...]
    signs: tuple[tuple[int, ...], ...]

    def kappa(self, task: int) -> Fraction:
        """Return φ_u M^task_uv: the size and sign that ξ_uv multiplies."""
        return self.features[U] * self.masks[task][U][V]

    def logits(self, beliefs: tuple[Fraction, ...], xi: int) -> tuple[Fraction, ...]:
        """Return y / sqrt(2/m) at ξ_uv = xi."""
        outputs = len(self.signs[0])
        y = [Fraction(0)] * outputs
        for u, feature in enumerate(self.features):
            for v in range(outputs):
                sign = xi if (u, v) == (U, V) else self.signs[u][v]
                y[v] += (
                    feature * sign * sum(belief * mask[u][v] for belief, mask in zip(beliefs, self.masks, strict=True))
                )
        return tuple(y)


@dataclass(frozen=True)
class Law:
    """A joint law of the rest, and the beliefs."""

    outcomes: tuple[tuple[Rest, Fraction], ...]
    beliefs: tuple[Fraction, ...]


@st.composite
def laws(draw) -> Law:
    """Draw a law with an arbitrary dependence between features, masks and the other signs."""
    features, outputs, tasks = draw(st.integers(1, 3)), draw(st.integers(2, 3)), draw(st.integers(2, 3))
    matrices = st.tuples(*[st.tuples(*[st.integers(0, 1)] * outputs)] * features)
    sign_matrices = st.tuples(*[st.tuples(*[st.sampled_from([-1, 1])] * outputs)] * features)
    values = st.sampled_from([Fraction(n, 2) for n in range(-4, 5)])
    rests = st.builds(Rest, st.tuples(*[values] * features), st.tuples(*[matrices] * tasks), sign_matrices)
    chosen = draw(st.lists(rests, min_size=1, max_size=6, unique=True))
    weights = draw(st.lists(st.integers(1, 9), min_size=len(chosen), max_size=len(chosen)))
    shares = draw(st.lists(st.integers(0, 5), min_size=tasks, max_size=tasks).filter(any))
    return Law(
        tuple((rest, Fraction(weight, sum(weights))) for rest, weight in zip(chosen, weights, strict=True)),
        tuple(Fraction(share, sum(shares)) for share in shares),
    )


def probability(logits: tuple[Fraction, ...], scale: float) -> float:
    """Return softmax(scale · logits) at V."""
    top = max(logits)
    terms = [math.exp(scale * float(value - top)) for value in logits]
    return terms[V] / math.fsum(terms)


def signs_of(rows: int, columns: int) -> list[tuple[tuple[int, ...], ...]]:
    """Return every sign matrix."""
    rows_of_signs = list(itertools.product((-1, 1), repeat=columns))
    return list(itertools.product(rows_of_signs, repeat=rows))


def counterexample(features: int) -> Law:
    """Return a law that satisfies Assumptions 1 and 2 and breaks J.3 and J.1.

    φ = 1 everywhere; the wrong task's mask (0) holds only the weight u; the right task's mask (1) holds, elsewhere in column
    v, exactly the weights whose sign differs from ξ_u, so it tells ξ_u, while each single product ξM still has mean 0. All
    signs of column v are fair and independent; the other output stays at 0.

    As masks depend on ξ_uv here, an outcome lists that sign too, in signs[U][V].
    """
    outcomes = []
    for column in itertools.product((-1, 1), repeat=features):
        only_u = tuple((int(u == U), 0) for u in range(features))
        telling = tuple((int(u != U and sign != column[U]), 0) for u, sign in enumerate(column))
        rest = Rest((Fraction(1),) * features, (only_u, telling), tuple((sign, 1) for sign in column))
        outcomes.append((rest, Fraction(1, 2**features)))
    return Law(tuple(outcomes), (Fraction(1, 2), Fraction(1, 2)))

"""Is a guess as often right as it says? Confidences from values of tasks, their calibration error, and a temperature.

A search gives every task a value, the lower the likelier: a slope, an objective. As probabilities they are
softmax(-values / T). T = 1 is as good as any guess at the scale of the values; one fitted on guesses whose tasks are known
makes the probabilities say how often they are right, and changes no answer.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from supsup_core.errors import InvalidArgument

_LOG_RANGE = 14.0  # T is sought from e^-14 to e^14 times the spread of the values
_LOG_PRECISION = 1e-8
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def answer_confidences(
    values: Float[Tensor, "guesses tasks"], tasks: Int64[Tensor, " guesses"], temperature: float = 1.0
) -> Float[Tensor, " guesses"]:
    """Return the probability of the task that each guess answers with, of softmax(-values / temperature).

    Args:
        values: of every task for each guess, the lower the likelier; infinity rules a task out.
        tasks: the task that each guess answers with.
        temperature: T > 0; the higher, the less sure.

    Raises:
        InvalidArgument: the temperature is not above 0 and finite, or there is not one task for each guess.
    """
    _refuse_other_number(values, tasks)
    if not 0.0 < temperature < math.inf:
        raise InvalidArgument(f"temperature={temperature}: it divides the values; pass a finite number above 0")
    # From the lowest value: in whatever unit the values come, the largest exponent is 0.
    excess = values - values.amin(dim=1, keepdim=True)
    return torch.softmax(-excess / temperature, dim=1).gather(1, tasks.unsqueeze(1)).squeeze(1)


def expected_calibration_error(
    confidences: Float[Tensor, " guesses"], right: Bool[Tensor, " guesses"], bins: int = 15
) -> float:
    """Return ECE = sum_b (n_b / n) |right_b - confidence_b| over B bins of equal width, a fraction from 0 to 1.

    Bin b holds the n_b guesses with a confidence in ((b - 1) / B, b / B], the first 0 too; right_b is the fraction of them
    that is right and confidence_b their mean confidence.

    Args:
        confidences: fractions.
        right: whether each guess was right.
        bins: B.

    Raises:
        InvalidArgument: there is no guess or no bin, or a confidence is not a fraction.
    """
    if bins < 1:
        raise InvalidArgument(f"bins={bins}: confidences are sorted into bins; pass at least 1")
    if len(confidences) == 0:
        raise InvalidArgument("confidences: there is none, so there is nothing to compare; pass at least one guess")
    if not bool(((confidences >= 0) & (confidences <= 1)).all()):
        raise InvalidArgument("confidences: not all lie between 0 and 1; pass fractions")
    sure = confidences.double()
    bin_of = (sure * bins).ceil().long().sub_(1).clamp_(0, bins - 1)
    # n_b |right_b - confidence_b| is the size of one sum over the bin.
    gaps = torch.zeros(bins, dtype=torch.float64, device=sure.device).index_add_(0, bin_of, right.double() - sure)
    return float(gaps.abs().sum()) / len(sure)


def fit_temperature(values: Float[Tensor, "guesses tasks"], tasks: Int64[Tensor, " guesses"]) -> float:
    """Return the temperature T that makes softmax(-values / T) likeliest to give the tasks that the images are from.

    The negative log likelihood is convex in 1 / T, so it has one minimum along log T, and a golden section search finds it,
    between e^-14 and e^14 times the spread of the values. Where every guess is right, the likelihood grows without end as T
    falls, and T comes out so low that the confidences are 1; where all values of each guess are equal, T says nothing, and
    it is 1.

    Args:
        values: of every task for each guess, the lower the likelier; infinity rules a task out.
        tasks: the true task of each guess. The images should be ones to learn from, not those of a test.

    Raises:
        InvalidArgument: there is no guess, or not one task for each; a value is NaN or minus infinity; or a guess's true task is
            ruled out, which no temperature can mend.
    """
    if len(values) == 0:
        raise InvalidArgument("values: there is no guess to fit a temperature to; pass at least one")
    _refuse_other_number(values, tasks)
    of_true = values.double().gather(1, tasks.unsqueeze(1))
    if bool((torch.isnan(values) | torch.isneginf(values)).any()) or not bool(torch.isfinite(of_true).all()):
        raise InvalidArgument(
            "values: one is NaN or minus infinity, or infinite for a true task; leave guesses that ruled out the truth out"
        )
    excess = values.double() - values.double().amin(dim=1, keepdim=True)
    spread = float(excess.masked_fill(torch.isinf(excess), 0.0).max())
    if spread == 0.0:
        return 1.0

    def loss(log_temperature: float) -> float:
        """Return the mean of -log softmax(-values / T) at the true tasks."""
        log_p = torch.log_softmax(-excess / math.exp(log_temperature), dim=1)
        return -float(log_p.gather(1, tasks.unsqueeze(1)).mean())

    middle = math.log(spread)
    return math.exp(_golden_section(loss, middle - _LOG_RANGE, middle + _LOG_RANGE))


def _refuse_other_number(values: Tensor, tasks: Tensor) -> None:
    if tasks.shape != values.shape[:1]:
        raise InvalidArgument(f"tasks: shape {tuple(tasks.shape)} for {len(values)} guesses; pass one task for each")


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function of one minimum has it, shrinking the interval around it by .618 with each evaluation."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _LOG_PRECISION:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2.0

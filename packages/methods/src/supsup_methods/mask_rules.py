"""How scores become a mask in training, and how the gradient comes back to them (Section 3.1, Appendix E).

| rule | mask | gradient of the scores |
|---|---|---|
| `Threshold` | M = 1[S >= 0] | dL/dM |
| `EdgePopup` | the k largest in magnitude of each layer | sign(S) · dL/dM, sign(0) = +1 |

The same arithmetic as `supsup_core.threshold` and `supsup_core.top_k` under autograd, without a graph over the mask. A rule
works on flat scores of shape (bits,), `Threshold` on (tasks, bits) too.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeAlias

import torch
from jaxtyping import Bool, Float
from supsup_core import FrozenNetwork, MaskBank, erdos_renyi_budget, initial_scores, top_k_masks
from supsup_core.random_streams import stream_key
from torch import Tensor

from supsup_methods.bounds import Bounds, ByKind


@dataclass(frozen=True)
class ThresholdMasks:
    """A weight is in the mask while its score is not negative: about half of them are (Section 3.1)."""

    kind: Literal["threshold"] = "threshold"
    """Which rule."""


@dataclass(frozen=True)
class EdgePopupMasks:
    """Each layer's largest scores are in the mask, so many as its Erdős-Rényi budget allows (Appendix E)."""

    kind: Literal["edge-popup"] = "edge-popup"
    """Which rule."""
    budget_factor: Annotated[float, Bounds(gt=0, le=1e6)] = 4.0
    """c: ones of a layer are min(n/2, c · (in + out)) of n weights; 1 to 32 in Table 2."""
    transfer: bool = False
    """Whether scores of a task start from the mean of all earlier masks, not from random numbers (Appendix D.5)."""


MaskKind: TypeAlias = Annotated[ThresholdMasks | EdgePopupMasks, ByKind()]
"""The rules that a recipe can ask for."""


class MaskRule(Protocol):
    """Scores to a mask, and gradients back."""

    def mask(self, scores: Float[Tensor, "*tasks bits"]) -> Bool[Tensor, "*tasks bits"]:
        """Return the mask."""

    def write_mask(self, scores: Float[Tensor, "*tasks bits"], out: Float[Tensor, "*tasks bits"]) -> None:
        """Write the mask as zeros and ones."""

    def to_scores(self, scores: Float[Tensor, "*tasks bits"], gradient: Float[Tensor, "*tasks bits"]) -> None:
        """Turn dL/dM into dL/dS, in place."""


class Threshold:
    """M = 1[S >= 0], dL/dS = dL/dM."""

    def mask(self, scores: Float[Tensor, "*tasks bits"]) -> Bool[Tensor, "*tasks bits"]:
        """Return the mask."""
        return scores >= 0

    def write_mask(self, scores: Float[Tensor, "*tasks bits"], out: Float[Tensor, "*tasks bits"]) -> None:
        """Write the mask as zeros and ones."""
        out.copy_(scores).ge_(0.0)

    def to_scores(self, scores: Float[Tensor, "*tasks bits"], gradient: Float[Tensor, "*tasks bits"]) -> None:
        """Leave the gradient as it is."""


class EdgePopup:
    """The k largest |S| of each layer, dL/dS = sign(S) · dL/dM.

    Args:
        net: the network.
        budget: ones of each maskable parameter's mask, by name.
        seed: breaks ties, with the task's index.
        task: whose scores they are.
    """

    def __init__(self, net: FrozenNetwork, budget: dict[str, int], seed: int, task: int) -> None:
        self._sizes = [entry.size for entry in net.maskable]
        self._ks = [budget[entry.name] for entry in net.maskable]
        self._keys = [stream_key(seed, "ties", task, entry.name) for entry in net.maskable]

    def mask(self, scores: Float[Tensor, " bits"]) -> Bool[Tensor, " bits"]:
        """Return the mask.

        Raises:
            InvalidArgument: a score is NaN; the learning rate is too high.
        """
        return torch.cat(top_k_masks(scores.split(self._sizes), self._ks, self._keys))

    def write_mask(self, scores: Float[Tensor, " bits"], out: Float[Tensor, " bits"]) -> None:
        """Write the mask as zeros and ones."""
        out.copy_(self.mask(scores))

    def to_scores(self, scores: Float[Tensor, " bits"], gradient: Float[Tensor, " bits"]) -> None:
        """Give the gradient the sign of the score."""
        gradient.copy_(torch.where(scores < 0, -gradient, gradient))


def rule_of(kind: MaskKind, net: FrozenNetwork, seed: int, task: int) -> MaskRule:
    """Return the rule that settings name, for a task."""
    if isinstance(kind, EdgePopupMasks):
        return EdgePopup(net, erdos_renyi_budget(net, kind.budget_factor), seed, task)
    return Threshold()


def fresh_scores(net: FrozenNetwork, seed: int, task: int) -> Float[Tensor, " bits"]:
    """Return the initial scores of a task, Kaiming uniform with a = sqrt(5), flattened over all maskable weights."""
    scores = {}
    for entry in net.maskable:
        key = stream_key(seed, "scores", task, entry.name)
        scores[entry.name] = initial_scores(key, entry.shape, entry.fan_in, net.device)
    return net.flatten(scores).to(net.dtype)


def scores_of_mask(net: FrozenNetwork, mask: Bool[Tensor, " bits"], seed: int, task: int) -> Float[Tensor, " bits"]:
    """Return scores to train a threshold mask on from, of which its bits are all that was kept: its signs, fresh magnitudes."""
    magnitudes = fresh_scores(net, seed, task).abs()
    # A score of 0 counts as in the mask, so that one outside of it needs a magnitude.
    least = magnitudes[magnitudes > 0].min()
    return torch.where(mask, magnitudes, -magnitudes.clamp_min(least))


def transferred_scores(net: FrozenNetwork, bank: MaskBank) -> Float[Tensor, " bits"]:
    """Return scores that start from the mean of all masks in a bank, for the next task (Appendix D.5).

    The running mean needs counts of bits, and no scores of earlier tasks. Each layer is scaled so that its norm is that of
    fresh scores: sqrt(n / 3 / fan_in) for n of them, uniform on ±1/sqrt(fan_in). A weight that no mask has scores 0.
    """
    means = net.unflatten(bank.mean_mask())
    scaled = {}
    for entry in net.maskable:
        norm = means[entry.name].norm().clamp_min(torch.finfo(net.dtype).tiny)
        scaled[entry.name] = means[entry.name] * ((entry.size / 3 / entry.fan_in) ** 0.5 / norm)
    return net.flatten(scaled)

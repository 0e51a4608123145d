"""Scores to binary supermasks, with straight-through gradients (Section 3.1, Appendix E).

Two rules: `threshold` keeps what is not negative, `top_k` keeps a fixed number of the largest in magnitude (Edge-Popup). How
many, layer by layer, comes from a density (`density_budget`) or from the layers' shapes (`erdos_renyi_budget`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.random_streams import random_bits


class _ThresholdStraightThrough(torch.autograd.Function):
    """Forward 1[S >= 0], backward the identity."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is needed for the backward pass."""

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return gradient


def threshold(scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return M = 1[S >= 0] in the dtype of the scores, with dM/dS taken to be 1.

    The paper's text says S > 0; at scores that start from exactly 0 (HopSupSup) that would give empty masks and no
    gradient, so 0 counts as in the mask.
    """
    return _ThresholdStraightThrough.apply(scores)  # type: ignore[no-untyped-call]


def threshold_mask(scores: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Return the same mask as `threshold`, as the bits that a `MaskBank` stores."""
    return scores.detach() >= 0


class _TopKStraightThrough(torch.autograd.Function):
    """Forward the mask given, backward sign(S) times the gradient, with sign(0) = +1: the identity with respect to |S|."""

    @staticmethod
    def forward(scores: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return mask.to(scores.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], None]:
        (scores,) = ctx.saved_tensors
        return torch.where(scores < 0, -gradient, gradient), None


def top_k(scores: Float[Tensor, "*shape"], k: int, key: int) -> Float[Tensor, "*shape"]:
    """Return the mask of the k scores of largest magnitude, in their dtype, with dM/d|S| taken to be 1 (Appendix E).

    Args:
        scores: S of one layer. The paper has S >= 0; here |S| ranks, so that dL/dS = sign(S) · dL/dM with sign(0) = +1.
        k: ones of the mask.
        key: of a random stream (`random_streams.stream_key`), which breaks ties: exactly k scores stay, always.

    Raises:
        InvalidArgument: k is not between 1 and the number of scores, or a score is NaN.
    """
    return _TopKStraightThrough.apply(scores, top_k_mask(scores, k, key))  # type: ignore[no-untyped-call]


def top_k_mask(scores: Float[Tensor, "*shape"], k: int, key: int) -> Bool[Tensor, "*shape"]:
    """Return the same mask as `top_k`, as the bits that a `MaskBank` stores.

    Raises:
        InvalidArgument: as `top_k`.
    """
    return top_k_masks([scores], [k], [key])[0]


def top_k_masks(scores: Sequence[Tensor], ks: Sequence[int], keys: Sequence[int]) -> list[Tensor]:
    """Return the masks of several layers, each as `top_k_mask` does, with one look at the device for all where nothing ties.

    Args:
        scores: of each layer, of any shape.
        ks: ones of each mask.
        keys: that break ties in each layer.

    Raises:
        InvalidArgument: as `top_k`.
    """
    sizes = [layer.detach().abs().flatten() for layer in scores]
    if not sizes:
        return []
    for size, k in zip(sizes, ks, strict=True):
        if not 1 <= k <= len(size):
            raise InvalidArgument(
                f"k={k}: a mask over {len(size)} weights holds 1 to {len(size)} of them; choose k in between"
            )
    smallest_kept = [_kth_largest(size, k) for size, k in zip(sizes, ks, strict=True)]
    masks = [size >= least for size, least in zip(sizes, smallest_kept, strict=True)]
    kept = [torch.count_nonzero(mask) for mask in masks]
    # The largest of all, if one is NaN. Counts do not tell: where others tie, they make up for it.
    unranked = [size.max().isnan().long() for size in sizes]
    counted = torch.stack([*kept, *unranked]).tolist()
    if any(counted[len(masks) :]):
        raise InvalidArgument("scores: some are NaN, which have no rank; lower the learning rate")
    for index, (size, k) in enumerate(zip(sizes, ks, strict=True)):
        if counted[index] != k:
            masks[index] = _without_ties(size, smallest_kept[index], k, keys[index])
    return [mask.view(layer.shape) for mask, layer in zip(masks, scores, strict=True)]


def _kth_largest(size: Float[Tensor, " n"], k: int) -> Float[Tensor, ""]:
    """Return the k-th largest value; a NaN counts as the largest of all."""
    if size.device.type == "cpu" and size.dtype in (torch.float32, torch.float64):
        # NumPy takes a tenth of the time of torch.kthvalue, which would be a tenth of a training step.
        values = size.clone().numpy()
        values.partition(len(size) - k)
        return size.new_tensor(values[len(size) - k].item())
    return size.topk(k, sorted=False).values.min()


def _without_ties(size: Float[Tensor, " n"], smallest_kept: Float[Tensor, ""], k: int, key: int) -> Bool[Tensor, " n"]:
    """Return the mask of the k largest; which of those that equal the smallest of them, the key draws."""
    mask = size > smallest_kept
    tied = (size == smallest_kept).nonzero().squeeze(-1)
    draw = random_bits(key, len(size), size.device)[tied]
    mask[tied[draw.argsort()[: k - int(mask.sum())]]] = True
    return mask


def density_budget(net: FrozenNetwork, density: float | Mapping[str, float]) -> dict[str, int]:
    """Return the ones of each layer's mask: its density times its weights, rounded, at least 1.

    Args:
        net: the network whose maskable parameters share the budget.
        density: one for all layers, or one for each maskable parameter by name.

    Raises:
        InvalidArgument: a density is not in (0, 1], or a parameter has none.
    """
    budget = {}
    for entry in net.maskable:
        share = density.get(entry.name) if isinstance(density, Mapping) else density
        if share is None or not 0.0 < share <= 1.0:
            raise InvalidArgument(f"density of {entry.name!r}: {share}; give each layer a share above 0, up to 1")
        budget[entry.name] = max(1, round(share * entry.size))
    return budget


def erdos_renyi_budget(net: FrozenNetwork, factor: float) -> dict[str, int]:
    """Return the ones of each layer's mask by the Erdős-Rényi rule: min(n/2, c · (in + out)) of n = in · out · k² weights.

    The spatial size k² of a kernel is not in the budget (SplitCIFAR100 and SplitImageNet, c from 1 to 32). Axes count as they
    lie in the weight: for a grouped convolution "in" is the inputs of a group.

    Raises:
        InvalidArgument: the factor is not positive, or a maskable parameter has fewer than two axes.
    """
    if not (factor > 0.0 and math.isfinite(factor)):
        raise InvalidArgument(f"factor={factor}: the budget factor c is a number above 0, 1 to 32 in the paper")
    for entry in net.maskable:
        if len(entry.shape) < 2:
            raise InvalidArgument(f"{entry.name!r}: shape {entry.shape} has no inputs and outputs; use density_budget")
    return {
        entry.name: max(1, int(min(entry.size / 2, factor * (entry.shape[0] + entry.shape[1]))))
        for entry in net.maskable
    }

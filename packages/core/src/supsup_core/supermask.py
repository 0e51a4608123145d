"""Scores to binary supermasks, with straight-through gradients (Section 3.1, Appendix E)."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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

"""Gradients where they are needed, whatever mode the caller is in.

Under `torch.inference_mode` autograd records nothing, and raises nothing: slopes would be zeros. What takes gradients, or makes
tensors that outlive a call, leaves that mode for as long as it lasts.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor

outside_inference_mode = torch.inference_mode(mode=False)
"""Decorates a function that must not run in `torch.inference_mode`."""


def as_plain(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Return a tensor that autograd can work with: a copy of one that was made in `torch.inference_mode`."""
    return x.clone() if x.is_inference() else x

"""What matrix products multiply in training."""

from typing import Literal, TypeAlias

import torch
from supsup_core import FrozenNetwork

Precision: TypeAlias = Literal["float32", "bfloat16"]


def matrix_products(net: FrozenNetwork, precision: Precision) -> torch.autocast:
    """Return a context in which the network's matrix products, and what they remember for the backward pass, are so precise."""
    return torch.autocast(net.device.type, torch.bfloat16, enabled=precision == "bfloat16")

"""What matrix products multiply in training."""

from typing import Literal, TypeAlias

import torch
from supsup_core import FrozenNetwork

Precision: TypeAlias = Literal["float32", "bfloat16"]


def matrix_products(net: FrozenNetwork, precision: Precision) -> torch.autocast:
    """Return a context in which the network's matrix products, and what they remember for the backward pass, are so precise."""
    return torch.autocast(net.device.type, torch.bfloat16, enabled=precision == "bfloat16")


def slow_products(precision: Precision, device: torch.device) -> str | None:
    """Return a line about products that this processor has no instructions for, and computes one by one; None where it has.

    torch computes bfloat16 products in AVX-512 registers, with units for them or without; a processor that has AVX2 alone is left
    with a loop.
    """
    if precision == "float32" or device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX2":
        return None
    return f"training in {precision}: this processor has no instructions for it, and is many times faster in float32, the default"

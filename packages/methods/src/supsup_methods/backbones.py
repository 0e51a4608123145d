"""The networks of the paper, as plain modules; freezing and masking happen outside of them."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def fully_connected(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return a ReLU network without biases: LeNet 300-100 is hidden=(300, 100), FC 1024-1024 is hidden=(1024, 1024)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((inputs, *hidden, outputs)):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])

"""The networks of the paper, as plain modules; freezing and masking happen outside of them."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def normalised_fully_connected(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return a Swish network without biases, batch norm without parameters before each Swish (Eq. 8 without its masks)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((inputs, *hidden)):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.BatchNorm1d(fan_out, affine=False), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], outputs, bias=False))


def small_convolutional(image_channels: int, channels: Sequence[int], outputs: int) -> nn.Sequential:
    """Return 3 × 3 convolutions of stride 2 with batch norm without parameters and Swish, then a mean and a last layer."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise((image_channels, *channels)):
        layers += [
            nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(fan_out, affine=False),
            nn.SiLU(),
        ]
    head = nn.Linear((image_channels, *channels)[-1], outputs, bias=False)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def fully_connected(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return a ReLU network without biases: LeNet 300-100 is hidden=(300, 100), FC 1024-1024 is hidden=(1024, 1024)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((inputs, *hidden, outputs)):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])

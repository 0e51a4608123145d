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


def small_convolutional(image: tuple[int, int, int], channels: Sequence[int], outputs: int) -> nn.Sequential:
    """Return 3 × 3 convolutions of stride 2 with batch norm without parameters and Swish, and a last layer over all places.

    A mean over places in front of the last layer would leave outputs so small that no mask makes the network sure of anything.

    Args:
        image: channels, height and width.
        channels: of each convolution.
        outputs: width of the last layer.
    """
    layers: list[nn.Module] = []
    (image_channels, height, width), last = image, (image[0], *channels)[-1]
    for fan_in, fan_out in pairwise((image_channels, *channels)):
        layers += [
            nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(fan_out, affine=False),
            nn.SiLU(),
        ]
        height, width = -(-height // 2), -(-width // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last * height * width, outputs, bias=False))


def fully_connected(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return a ReLU network without biases: LeNet 300-100 is hidden=(300, 100), FC 1024-1024 is hidden=(1024, 1024)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((inputs, *hidden, outputs)):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])

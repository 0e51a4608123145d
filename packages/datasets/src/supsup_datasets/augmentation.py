"""Variation of training images. What is random is drawn on the CPU, for a whole batch at once, so all devices agree.

An augmentation has two halves: `draw` turns a generator into numbers, and what it draws says all; applying them is fixed.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from supsup_datasets.errors import DatasetError


class Augmentation(Protocol):
    """Whatever varies the images of a batch by drawn numbers."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return what is drawn for `count` images, one row each, from a CPU generator."""


@dataclass(frozen=True)
class CropFlip:
    """A crop of the same size at a random place of the image padded with black, then a flip left to right, or none.

    With its default this is the paper's augmentation for CIFAR (pad 4, crop, flip with probability ½).

    Raises:
        DatasetError: the padding is negative.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise DatasetError(f"padding={self.padding}: a number of pixels is 0 or more; choose another")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return int64 rows (top, left, flipped), drawn column by column: all tops, then all lefts, then all flips."""
        high = 2 * self.padding + 1
        tops, lefts = (torch.randint(0, high, (count,), generator=generator, device="cpu") for _ in range(2))
        flips = (
            torch.randint(0, 2, (count,), generator=generator, device="cpu") if self.flip else torch.zeros_like(tops)
        )
        return torch.stack((tops, lefts, flips), dim=1)

    def source_pixels(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Return, for each place of each image, which of its pixels stands there; height · width where it is black.

        Args:
            draws: (..., images, 3), what `draw` returned.
            height: of the images, in pixels.
            width: of the images, in pixels.

        Returns:
            int64 of shape (..., images, height · width).
        """
        tops, lefts, flips = draws.unsqueeze(-1).unbind(-2)
        rows = torch.arange(height, device=draws.device) + (tops - self.padding)
        across = torch.arange(width, device=draws.device)
        columns = torch.where(flips == 1, width - 1 - across, across) + (lefts - self.padding)
        inside = ((rows >= 0) & (rows < height)).unsqueeze(-1) & ((columns >= 0) & (columns < width)).unsqueeze(-2)
        sources = rows.unsqueeze(-1) * width + columns.unsqueeze(-2)
        return torch.where(inside, sources, height * width).flatten(-2)

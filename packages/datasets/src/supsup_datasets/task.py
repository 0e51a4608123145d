"""One task of a stream: its images, labels, and the transform that makes it this task."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from supsup_datasets.images import LabelledImages, Normalization


@dataclass(frozen=True)
class Batch:
    """Normalised images, float32 of shape (images, channels, height, width), and their labels, int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class TaskImages:
    """A view of base data: bytes that become normalised, transformed floats a batch at a time, on their device.

    Attributes:
        pixel_order: which base pixel stands at each place of this task's images (of each channel), or None to keep all
            in place.
    """

    base: LabelledImages
    normalization: Normalization
    pixel_order: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.base)

    def batch(self, indices: Tensor) -> Batch:
        """Return the images and labels at `indices` (int64), normalised as torchvision's ToTensor and Normalize do."""
        pixels = self.base.images[indices]
        if self.pixel_order is not None:
            pixels = pixels.flatten(2)[:, :, self.pixel_order].view_as(pixels)
        mean, std = (
            torch.tensor(value, device=pixels.device).view(1, -1, 1, 1)
            for value in (self.normalization.mean, self.normalization.std)
        )
        images = pixels.to(torch.float32).div_(255.0).sub_(mean).div_(std)
        return Batch(images, self.base.labels[indices])

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield every image once, in the order of the base data; the last batch may be smaller."""
        for indices in torch.arange(len(self), device=self.base.labels.device).split(batch_size):
            yield self.batch(indices)

    def shuffled(self, batch_size: int, batches: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield `batches` batches, epoch after epoch without replacement.

        The last, smaller batch of an epoch is used and counts as one, as in the paper's protocol.

        Args:
            batch_size: images in a batch.
            batches: how many batches to yield.
            generator: a CPU generator; it alone decides the order, on every device.
        """
        produced = 0
        while produced < batches:
            order = torch.randperm(len(self), generator=generator).to(self.base.labels.device)
            for indices in order.split(batch_size)[: batches - produced]:
                yield self.batch(indices)
                produced += 1


@dataclass(frozen=True)
class Task:
    """One task: training and test images, and how many labels they have."""

    index: int
    train: TaskImages
    test: TaskImages
    num_labels: int

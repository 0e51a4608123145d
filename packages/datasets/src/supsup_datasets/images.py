"""Labelled images as they lie in memory: bytes, not floats."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from supsup_datasets.errors import DatasetError


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels 0 to num_labels - 1, on one device.

    Attributes:
        images: uint8, of shape (images, channels, height, width).
        labels: int64, one for each image.
        num_labels: how many labels there are.

    Raises:
        DatasetError: there is not one label for each image, or a label is out of range.
    """

    images: Tensor
    labels: Tensor
    num_labels: int

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DatasetError(
                f"images, labels: {len(self.images)} images and {len(self.labels)} labels; pass one label each"
            )
        if len(self.images) == 0:
            raise DatasetError("images: there are none; pass at least one")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_labels:
            raise DatasetError(
                f"labels: values from {low} to {high}; with {self.num_labels} labels they are 0 to {self.num_labels - 1}"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> "LabelledImages":
        """Return the same images on another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device), self.num_labels)


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of pixel values on the scale 0 to 1, one for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ImageDataset:
    """A data set that task streams are made from.

    Attributes:
        name: how results are labelled, "MNIST-5k" for example: never the name of another data set.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    normalization: Normalization

    def to(self, device: torch.device | str) -> "ImageDataset":
        """Return the same data on another device."""
        return ImageDataset(self.name, self.train.to(device), self.test.to(device), self.normalization)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all images and labels: two data sets with one digest are the same."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            digest.update(repr(tuple(part.images.shape)).encode())
            digest.update(part.images.cpu().contiguous().numpy().tobytes())
            digest.update(part.labels.cpu().numpy().tobytes())
        return digest.hexdigest()

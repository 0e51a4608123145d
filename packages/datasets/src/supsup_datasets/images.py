"""Labelled images as they lie in memory: bytes, not floats."""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from supsup_datasets.augmentation import CropFlip
from supsup_datasets.errors import DatasetError


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and their labels 0 to num_labels - 1, on one device.

    Attributes:
        images: uint8, of shape (images, channels, height, width); kept contiguous, so that a row is one image.
        labels: int64, one for each image.
        num_labels: how many labels there are.

    Raises:
        DatasetError: images or labels are of another type or shape, there is not one label for each image, or a label is
            out of range.
    """

    images: Tensor
    labels: Tensor
    num_labels: int

    def __post_init__(self) -> None:
        _check_types(self.images, self.labels)
        if len(self.images) != len(self.labels):
            raise DatasetError(
                f"images, labels: {len(self.images)} images and {len(self.labels)} labels; pass one label each"
            )
        if self.images.numel() == 0:
            raise DatasetError("images: there are none; pass at least one")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_labels:
            raise DatasetError(
                f"labels: values from {low} to {high}; with {self.num_labels} labels they are 0 to {self.num_labels - 1}"
            )
        object.__setattr__(self, "images", self.images.contiguous())

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def pixels(self) -> int:
        """Number of pixels of an image, each channel counted once: height × width."""
        return self.images.shape[-2] * self.images.shape[-1]

    def to(self, device: torch.device | str) -> "LabelledImages":
        """Return the same images on another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device), self.num_labels)


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of pixel values on the scale 0 to 1, one for each channel.

    Raises:
        DatasetError: there is not one of each for each channel, a mean is not from 0 to 1, or a standard deviation is not above 0
            and finite.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            try:
                object.__setattr__(self, name, tuple(float(value) for value in values))
            except (TypeError, ValueError):
                raise DatasetError(f"{name}={values!r}: pass a number for each channel, such as (0.5,)") from None
        if not self.mean or len(self.mean) != len(self.std):
            raise DatasetError(
                f"mean, std: {len(self.mean)} and {len(self.std)} values; pass one of each for each channel"
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise DatasetError(f"mean={self.mean}: pixels are on the scale 0 to 1 here; divide by 255")
        if not all(0 < value < math.inf for value in self.std):
            raise DatasetError(f"std={self.std}: a standard deviation is above 0 and finite; choose others")

    def apply(self, pixels: Tensor) -> Tensor:
        """Return (pixels / 255 - mean) / std as float32, as torchvision's ToTensor and Normalize do.

        Every step is one correctly rounded operation, so all devices return the same bits.

        Args:
            pixels: uint8, of shape (..., channels, height, width).
        """
        scale, mean, std = _constants(self, pixels.device)
        return pixels.to(torch.float32).div_(scale).sub_(mean).div_(std)


@lru_cache(maxsize=64)
def _constants(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return 255, mean and std on a device; 255 as a tensor, as CUDA multiplies by the inverse of a Python number."""
    mean, std = (
        torch.tensor(value, dtype=torch.float32, device=device).view(-1, 1, 1)
        for value in (normalization.mean, normalization.std)
    )
    return torch.tensor(255.0, dtype=torch.float32, device=device), mean, std


@dataclass(frozen=True)
class ImageDataset:
    """A data set in memory that task streams are made from.

    Attributes:
        name: how results are labelled, "MNIST-5k" for example: never the name of another data set.
        augmentation: how training images vary from epoch to epoch, or None; test images never do.
        class_names: what the labels stand for, or nothing where they are numbers.

    Raises:
        DatasetError: train, test, normalisation and names do not fit together.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    normalization: Normalization
    augmentation: CropFlip | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        train, test = tuple(self.train.images.shape[1:]), tuple(self.test.images.shape[1:])
        if train != test:
            raise DatasetError(f"train, test: images of shape {train} and {test}; bring them to one shape")
        if self.train.num_labels != self.test.num_labels:
            raise DatasetError(
                f"train, test: {self.train.num_labels} and {self.test.num_labels} labels; pass one number for both"
            )
        if len(self.normalization.mean) != train[0]:
            raise DatasetError(
                f"normalization: {len(self.normalization.mean)} means for {train[0]} channels; pass one for each channel"
            )
        if self.class_names and len(set(self.class_names)) != self.num_classes:
            raise DatasetError(
                f"class_names: {len(set(self.class_names))} different names for {self.num_classes} labels; pass one each"
            )

    @property
    def num_classes(self) -> int:
        """Number of labels of the whole data set."""
        return self.train.num_labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "ImageDataset":
        """Return the same data on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all images and labels: two data sets with one digest are the same."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            digest.update(repr(tuple(part.images.shape)).encode())
            digest.update(part.images.cpu().contiguous().numpy().tobytes())
            digest.update(part.labels.cpu().numpy().tobytes())
        return digest.hexdigest()


def _check_types(images: Tensor, labels: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise DatasetError(
            f"images: {_describe(images)}; they are bytes (uint8) of shape (images, channels, height, width), so convert them"
        )
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise DatasetError(f"labels: {_describe(labels)}; they are whole numbers (int64) in one row, so convert them")


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"

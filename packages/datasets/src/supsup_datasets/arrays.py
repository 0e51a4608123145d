"""Data sets from arrays and tensors that a caller holds in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supsup_datasets.augmentation import CropFlip
from supsup_datasets.errors import DatasetError
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization

ArrayLike = Tensor | npt.NDArray[Any]


def from_arrays(
    name: str,
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    normalization: Normalization,
    *,
    augmentation: CropFlip | None = None,
    class_names: Sequence[str] = (),
) -> ImageDataset:
    """Return a data set of images and labels given as arrays or tensors, copied so that later changes do not reach it.

    Args:
        name: how results are labelled.
        train: images, uint8 of shape (images, channels, height, width) or (images, height, width), and their labels,
            integers of shape (images,) from 0 up.
        test: likewise.
        normalization: mean and standard deviation of each channel on the scale 0 to 1.
        augmentation: how training images vary.
        class_names: what the labels stand for.

    Raises:
        DatasetError: images are not bytes of such a shape, labels are not integers, or all images have one label.
    """
    parts = {"train": train, "test": test}
    images = {part: _images(f"{part} images", values) for part, (values, _) in parts.items()}
    labels = {part: _labels(f"{part} labels", values) for part, (_, values) in parts.items()}
    num_labels = len(class_names) or 1 + max(
        (int(values.max()) for values in labels.values() if len(values)), default=0
    )
    if len(torch.unique(torch.cat(list(labels.values())))) < 2:
        raise DatasetError("labels: all images have one label; a task to learn has two or more")
    return ImageDataset(
        name,
        LabelledImages(images["train"], labels["train"], num_labels),
        LabelledImages(images["test"], labels["test"], num_labels),
        normalization,
        augmentation,
        tuple(class_names),
    )


def _images(what: str, values: ArrayLike) -> Tensor:
    array = _array(what, values)
    if array.dtype != np.uint8:
        raise DatasetError(f"{what}: values of type {array.dtype}; pass bytes (uint8) from 0 to 255")
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] > 4:
        raise DatasetError(
            f"{what}: of shape {array.shape}; pass (images, channels, height, width), channels first, or (images, height, "
            "width)"
        )
    return torch.from_numpy(array.copy())


def _labels(what: str, values: ArrayLike) -> Tensor:
    array = _array(what, values)
    if not np.issubdtype(array.dtype, np.integer):
        raise DatasetError(
            f"{what}: values of type {array.dtype}; labels are whole numbers, so convert them if they are"
        )
    if array.ndim != 1:
        raise DatasetError(f"{what}: of shape {array.shape}; pass one whole number for each image")
    return torch.from_numpy(array.astype(np.int64))


def _array(what: str, values: ArrayLike) -> npt.NDArray[Any]:
    try:
        return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError) as error:  # a type that numpy lacks, or rows of several lengths
        raise DatasetError(f"{what}: no array ({error}); pass numpy arrays or tensors of whole numbers") from None

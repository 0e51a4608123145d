"""Data sets from a folder with a folder for each class: small ones decoded into memory, large ones left on disk."""

import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from supsup_datasets.augmentation import CropFlip
from supsup_datasets.decoding import Colour, decode, pixels_of
from supsup_datasets.errors import DatasetError
from supsup_datasets.file_geometry import ResizeCentreCrop, ResizedCropFlip
from supsup_datasets.file_images import FileDataset, Reading
from supsup_datasets.image_files import LabelledFiles, SeededSplit, find_parts
from supsup_datasets.images import ImageDataset, LabelledImages, Normalization

IMAGENET_NORMALIZATION = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_IMAGENET_CLASSES = 1000


def image_folder(
    root: str | os.PathLike[str],
    normalization: Normalization,
    *,
    name: str | None = None,
    colour: Colour = Colour.RGB,
    size: int | None = None,
    split: SeededSplit | None = None,
    augmentation: CropFlip | None = None,
) -> ImageDataset:
    """Decode a folder of images into memory, 8 bits a channel.

    Layouts are those of `image_files.find_parts`, and conversions those of `decoding`; EXIF orientation is not applied.

    Args:
        root: the folder.
        normalization: mean and standard deviation for each channel of `colour`.
        name: how results are labelled; the folder's name if None.
        colour: what all images are converted to.
        size: scale every image to size × size pixels (bilinear, without keeping its proportions), or None where all are of
            one size already.
        split: how to set test images apart where the folder has no train and val.
        augmentation: how training images vary.

    Raises:
        DataUnavailable: a folder or file is missing, unreadable, damaged or of a kind without a right conversion; it is
            named.
        DatasetError: sizes differ without `size`, or layout, classes and arguments do not go together.
    """
    _check_kinds(colour, split)
    if size is not None and size < 1:
        raise DatasetError(f"size={size}: a side has at least one pixel; choose another")
    root = Path(root)
    train, test = find_parts(root, split)
    if len(normalization.mean) != colour.channels:
        raise DatasetError(
            f"normalization: {len(normalization.mean)} means for {colour.channels} channels; pass one each"
        )
    shape = None if size is None else (size, size)
    shape, train_images = _decode_all(train, colour, size, shape)
    _, test_images = _decode_all(test, colour, size, shape)
    return ImageDataset(
        name or root.resolve().name, train_images, test_images, normalization, augmentation, train.class_names
    )


def large_image_folder(
    root: str | os.PathLike[str],
    *,
    name: str | None = None,
    normalization: Normalization = IMAGENET_NORMALIZATION,
    colour: Colour = Colour.RGB,
    train_crop: ResizedCropFlip | None = None,
    test_crop: ResizeCentreCrop | None = None,
    split: SeededSplit | None = None,
    workers: int | None = None,
) -> FileDataset:
    """Return the images of a folder as a data set that decodes them when a batch needs them.

    Args:
        root: the folder, in a layout of `image_files.find_parts`.
        name: how results are labelled; the folder's name if None.
        normalization: mean and standard deviation for each channel of `colour`.
        colour: what all images are converted to.
        train_crop: how training images are cropped, ImageNet's usual way if None.
        test_crop: how test images are cropped, ImageNet's usual way if None.
        split: how to set test images apart where the folder has no train and val.
        workers: processes that decode; see `Reading`.

    Raises:
        DataUnavailable: a folder is missing, unreadable, or holds what is no image; it is named.
        DatasetError: layout, classes and arguments do not go together.
    """
    _check_kinds(colour, split)
    root = Path(root)
    train_files, test_files = find_parts(root, split)
    reading = Reading(normalization, colour, train_crop or ResizedCropFlip(), test_crop or ResizeCentreCrop(), workers)
    return FileDataset(name or root.resolve().name, train_files, test_files, reading)


def imagenet(root: str | os.PathLike[str], *, workers: int | None = None) -> FileDataset:
    """Return ImageNet (ILSVRC 2012) from root/train and root/val, a folder for each of its 1000 classes, labels by wnid.

    It cannot be downloaded without an account at image-net.org; torchvision's `ImageNet` unpacks the archives so.

    Raises:
        DataUnavailable: a folder is missing, unreadable, or holds what is no image; it is named.
        DatasetError: the classes are not 1000 wnids (n and eight digits).
    """
    data = large_image_folder(root, name="ImageNet", workers=workers)
    odd = [name for name in data.class_names if len(name) != 9 or name[0] != "n" or not name[1:].isdecimal()]
    if odd or data.num_classes != _IMAGENET_CLASSES:
        found = f"class {odd[0]!r}" if odd else f"{data.num_classes} classes"
        raise DatasetError(
            f"{root}: {found}, where ImageNet has {_IMAGENET_CLASSES} named like n01440764; use large_image_folder for others"
        )
    return data


def _check_kinds(colour: Colour, split: SeededSplit | None) -> None:
    if not isinstance(colour, Colour):
        raise DatasetError(f"colour={colour!r}: pass Colour.RGB or Colour.GREY")
    if split is not None and not isinstance(split, SeededSplit):
        raise DatasetError(f"split={split!r}: pass a SeededSplit, or None where the folder has train and val")


def _refuse_too_many(files: LabelledFiles, bytes_an_image: int) -> None:
    """Check that decoded images fit into this machine's memory.

    Raises:
        DatasetError: they do not.
    """
    needed, memory = len(files) * bytes_an_image, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise DatasetError(
            f"{files.root}: {len(files)} images take {needed / 1e9:.1f} GB decoded, and this machine has {memory / 1e9:.1f} GB "
            "of memory; scale them to a smaller size"
        )


def _decode_all(
    files: LabelledFiles, colour: Colour, size: int | None, shape: tuple[int, int] | None
) -> tuple[tuple[int, int], LabelledImages]:
    """Return the (height, width) of all images and the images; the first one sets it where `shape` is None."""
    pixels: np.ndarray | None = None
    for index in range(len(files)):
        image = decode(files.path(index), colour)
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        if shape is None:
            shape = (image.height, image.width)
        if (image.height, image.width) != shape:
            raise DatasetError(
                f"{files.path(index)}: {image.width} × {image.height} pixels where images before it have {shape[1]} × "
                f"{shape[0]}; pass a size to scale all to, or make them alike"
            )
        if pixels is None:
            _refuse_too_many(files, colour.channels * math.prod(shape))
            pixels = np.empty((len(files), colour.channels, *shape), dtype=np.uint8)
        pixels[index] = pixels_of(image)
    if pixels is None or shape is None:
        raise DatasetError(f"{files.root}: there are no images in it; add some")
    return shape, LabelledImages(torch.from_numpy(pixels), files.labels, len(files.class_names))

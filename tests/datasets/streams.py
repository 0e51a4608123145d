"""Small data for the tests of streams."""

import torch
from supsup_datasets import ImageDataset, LabelledImages, Normalization


def small_images(count: int, seed: int, channels: int = 1, labels: int = 3) -> LabelledImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, channels, 4, 5), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.randint(0, labels, (count,), generator=generator), labels)


def small_dataset(channels: int = 1) -> ImageDataset:
    normalization = Normalization((0.5,) * channels, (0.25,) * channels)
    return ImageDataset("small", small_images(23, 0, channels), small_images(11, 1, channels), normalization)

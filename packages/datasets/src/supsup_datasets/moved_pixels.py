"""Tasks that hold all images of a data set with their pixels moved: what permuted and rotated streams share."""

from torch import Tensor

from supsup_datasets.errors import DatasetError
from supsup_datasets.images import ImageDataset
from supsup_datasets.memory_images import ImagesInMemory
from supsup_datasets.task import Task


def check_in_memory(dataset: ImageDataset) -> None:
    """Raise DatasetError where a caller without type checks passes a data set whose pixels cannot be moved."""
    if not isinstance(dataset, ImageDataset):
        raise DatasetError(
            f"dataset: a {type(dataset).__name__}, and pixels are moved in memory only; decode it by image_folder, with a size"
        )


def task_of_moved_pixels(dataset: ImageDataset, index: int, source_pixels: Tensor) -> Task:
    """Return the task whose images, training and test alike, take each pixel from the given place; labels are shared."""
    sources = source_pixels.to(dataset.train.images.device)
    train = ImagesInMemory(
        dataset.train, dataset.normalization, source_pixels=sources, augmentation=dataset.augmentation
    )
    test = ImagesInMemory(dataset.test, dataset.normalization, source_pixels=sources)
    return Task(index, train, test, dataset.num_classes, classes=tuple(range(dataset.num_classes)))

"""Tasks that hold all images of a data set with their pixels moved: what permuted and rotated streams share."""

from torch import Tensor

from supsup_datasets.images import ImageDataset
from supsup_datasets.memory_images import ImagesInMemory
from supsup_datasets.task import Task


def task_of_moved_pixels(dataset: ImageDataset, index: int, source_pixels: Tensor) -> Task:
    """Return the task whose images, training and test alike, take each pixel from the given place; labels are shared."""
    sources = source_pixels.to(dataset.train.images.device)
    train = ImagesInMemory(
        dataset.train, dataset.normalization, source_pixels=sources, augmentation=dataset.augmentation
    )
    test = ImagesInMemory(dataset.test, dataset.normalization, source_pixels=sources)
    return Task(index, train, test, dataset.num_classes, classes=tuple(range(dataset.num_classes)))

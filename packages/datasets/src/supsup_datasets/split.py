"""Split streams: each task holds some classes of one data set (SplitMNIST, SplitCIFAR100, SplitImageNet)."""

from dataclasses import dataclass
from typing import TypeAlias

import torch

from supsup_datasets.errors import DatasetError
from supsup_datasets.file_images import FileDataset, ImagesInFiles
from supsup_datasets.images import ImageDataset
from supsup_datasets.memory_images import ImagesInMemory
from supsup_datasets.partitions import Partition, checked_partition
from supsup_datasets.subset import LabelSpace, Subset
from supsup_datasets.task import Task, TaskImages
from supsup_datasets.task_stream import check_index

AnyDataset: TypeAlias = ImageDataset | FileDataset
"""In memory, or in files."""


@dataclass(frozen=True)
class SplitStream:
    """Task i holds the classes partition[i]; images keep the order of the base data.

    Attributes:
        dataset: in memory or in files.
        partition: the classes of each task, as `partitions` makes or reads them; classes may be left out.
        label_space: whether a task's labels count its own classes, in the partition's order, or are those of the data set.

    Raises:
        DatasetError: the partition names a class twice, one that does not exist, or one without images; or the label space is
            none.
    """

    dataset: AnyDataset
    partition: Partition
    label_space: LabelSpace = LabelSpace.LOCAL

    def __post_init__(self) -> None:
        if not isinstance(self.label_space, LabelSpace):
            raise DatasetError(f"label_space={self.label_space!r}: pass LabelSpace.LOCAL or LabelSpace.GLOBAL")
        object.__setattr__(self, "partition", checked_partition(self.partition, self.dataset.num_classes))
        for part, labels in (("training", self.dataset.train.labels), ("test", self.dataset.test.labels)):
            present = set(torch.unique(labels).tolist())
            for task, classes in enumerate(self.partition):
                absent = sorted(set(classes) - present)
                if absent:
                    raise DatasetError(
                        f"partition: task {task} has class {absent[0]}, of which there are no {part} images; leave it out"
                    )

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.partition)

    def identity(self, index: int) -> int:
        """Return the index: each task comes once."""
        check_index(index, len(self))
        return index

    def __getitem__(self, index: int) -> Task:
        """Return task `index`, from 0."""
        check_index(index, len(self))
        classes = self.partition[index]
        train, test = (
            Subset.of_classes(labels, self.dataset.num_classes, classes, self.label_space)
            for labels in (self.dataset.train.labels, self.dataset.test.labels)
        )
        views = _views(self.dataset, train, test)
        return Task(index, *views, train.num_labels, classes, self.label_space)


def _views(dataset: AnyDataset, train: Subset, test: Subset) -> tuple[TaskImages, TaskImages]:
    """Return the training and test images of a task."""
    match dataset:
        case ImageDataset():
            return (
                ImagesInMemory(dataset.train, dataset.normalization, subset=train, augmentation=dataset.augmentation),
                ImagesInMemory(dataset.test, dataset.normalization, subset=test),
            )
        case FileDataset():
            return (
                ImagesInFiles(dataset.train, train, dataset.reading),
                ImagesInFiles(dataset.test, test, dataset.reading),
            )

"""Permuted streams: each task shuffles the pixels of the same images in an order of its own (PermutedMNIST)."""

from dataclasses import dataclass

from supsup_datasets.errors import DatasetError
from supsup_datasets.images import ImageDataset
from supsup_datasets.seeds import permutation
from supsup_datasets.task import Task, TaskImages


@dataclass(frozen=True)
class PermutedStream:
    """Tasks 0 to tasks - 1, each under a pixel permutation keyed by (seed, task); all channels move together.

    No task is stored: a stream of any length takes the memory of its base data.

    Raises:
        DatasetError: there is less than one task, or the seed is negative.
    """

    dataset: ImageDataset
    tasks: int
    seed: int

    def __post_init__(self) -> None:
        if self.tasks < 1:
            raise DatasetError(f"tasks={self.tasks}: a stream has at least one task; ask for more")
        if self.seed < 0:
            raise DatasetError(f"seed={self.seed}: a seed is a whole number from 0 up; choose another")

    def __len__(self) -> int:
        """Return the number of tasks."""
        return self.tasks

    def __getitem__(self, index: int) -> Task:
        """Return task `index`, from 0."""
        if not 0 <= index < self.tasks:
            raise IndexError(f"task {index}: the stream has tasks 0 to {self.tasks - 1}")
        train, test, norm = self.dataset.train, self.dataset.test, self.dataset.normalization
        pixels = train.images.shape[-2] * train.images.shape[-1]
        order = permutation(self.seed, "pixel permutation", index, pixels).to(train.images.device)
        return Task(index, TaskImages(train, norm, order), TaskImages(test, norm, order), train.num_labels)

"""Permuted streams: each task shuffles the pixels of the same images in an order of its own (PermutedMNIST)."""

from dataclasses import dataclass

from supsup_datasets.images import ImageDataset
from supsup_datasets.moved_pixels import check_in_memory, task_of_moved_pixels
from supsup_datasets.seeds import permutation
from supsup_datasets.task import Task
from supsup_datasets.task_stream import check_index, check_seed, check_tasks


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
        check_in_memory(self.dataset)
        check_tasks(self.tasks)
        check_seed(self.seed)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return self.tasks

    def identity(self, index: int) -> int:
        """Return the index: each task comes once."""
        check_index(index, self.tasks)
        return index

    def __getitem__(self, index: int) -> Task:
        """Return task `index`, from 0."""
        check_index(index, self.tasks)
        order = permutation(self.seed, "pixel permutation", index, self.dataset.train.pixels)
        return task_of_moved_pixels(self.dataset, index, order)

"""Batches of several tasks at once, as one tensor, for training that goes through tasks side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supsup_datasets.batch_order import ordered_batches, planned_batches
from supsup_datasets.errors import DatasetError
from supsup_datasets.memory_images import ImagesInMemory, compose, gather_pixels
from supsup_datasets.task import Batch, TaskImages


@dataclass(frozen=True, eq=False)
class TaskGroup:
    """Tasks side by side: each gets exactly the batches that it would get alone, bit for bit.

    Made by `side_by_side`.

    Attributes:
        views: the tasks' images, over the same base data and equally many.
        source_pixels: int64 of shape (tasks, pixels), or None where no task moves pixels.
        members: int64 of shape (tasks, images), or None where every task has all images.
        labels: int64 of shape (tasks, images).
    """

    views: tuple[ImagesInMemory, ...]
    source_pixels: Tensor | None
    members: Tensor | None
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.views)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield every image of every task once: images (tasks, batch, channels, height, width), labels (tasks, batch)."""
        device = self.labels.device
        for indices in ordered_batches(len(self.views[0]), batch_size, device):
            yield self._batch(indices.expand(len(self), -1), None)

    def shuffled(
        self, batch_size: int, batches: int, generators: Sequence[torch.Generator], *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield what `shuffled` of each task yields with its generator, stacked along a first axis for the tasks.

        Raises:
            DatasetError: there is not one generator for each task.
        """
        if len(generators) != len(self):
            raise DatasetError(f"generators: {len(generators)} for {len(self)} tasks; pass one for each task")
        plan = planned_batches(
            len(self.views[0]), batch_size, batches, generators, self.views[0].augmentation, self.labels.device
        )
        for number, (indices, draws) in enumerate(plan):
            if number >= skip:
                yield self._batch(indices, draws)

    def _batch(self, indices: Tensor, draws: Tensor | None) -> Batch:
        first = self.views[0]
        members = indices if self.members is None else self.members.gather(1, indices)
        sources = self.source_pixels
        if draws is not None and first.augmentation is not None:
            height, width = first.base.images.shape[-2:]
            sources = compose(first.augmentation.source_pixels(draws, height, width), sources)
        black = draws is not None or any(view.shows_black for view in self.views)
        pixels = gather_pixels(first.base, members, sources, black=black)
        return Batch(first.normalization.apply(pixels), self.labels.gather(1, indices))


def side_by_side(views: Sequence[TaskImages]) -> TaskGroup:
    """Put the images of several tasks side by side.

    Raises:
        DatasetError: there are none, they do not lie in memory over the same base data, or they differ in size.
    """
    memory = tuple(view for view in views if isinstance(view, ImagesInMemory))
    if not memory or len(memory) != len(views):
        raise DatasetError("views: only tasks of data in memory, at least one, go side by side; take these one by one")
    first = memory[0]
    for number, view in enumerate(memory):
        alike = (view.normalization, view.augmentation) == (first.normalization, first.augmentation)
        if view.base is not first.base or not alike:
            raise DatasetError(f"views: number {number} has other base data than number 0; group tasks of one stream")
        if len(view) != len(first):
            raise DatasetError(
                f"views: number {number} has {len(view)} images and number 0 has {len(first)}; group tasks of one size, or "
                "take them one by one"
            )
    return TaskGroup(memory, _sources(memory), _members(memory), _labels(memory))


def _sources(views: Sequence[ImagesInMemory]) -> Tensor | None:
    if all(view.source_pixels is None for view in views):
        return None
    unmoved = torch.arange(views[0].base.pixels, device=views[0].labels.device)
    return torch.stack([unmoved if view.source_pixels is None else view.source_pixels for view in views])


def _members(views: Sequence[ImagesInMemory]) -> Tensor | None:
    if all(view.subset is None for view in views):
        return None
    everyone = torch.arange(len(views[0].base), device=views[0].labels.device)
    return torch.stack([everyone if view.subset is None else view.subset.members for view in views])


def _labels(views: Sequence[ImagesInMemory]) -> Tensor:
    """Return all labels; where the tasks share them this is a view of one row, not a copy for each task."""
    if all(view.subset is None for view in views):
        return views[0].labels.expand(len(views), -1)
    return torch.stack([view.labels for view in views])

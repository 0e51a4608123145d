"""One task of a stream: its images, wherever they lie, and how many labels they have."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from supsup_datasets.subset import LabelSpace


@dataclass(frozen=True)
class Batch:
    """Normalised images, float32 of shape (images, channels, height, width), and their labels, int64.

    A batch of several tasks has a leading axis for them in both.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images (of each task)."""
        return self.labels.shape[-1]


class TaskImages(Protocol):
    """A task's training or test images, a batch at a time, wherever the data lies."""

    def __len__(self) -> int:
        """Return the number of images."""

    @property
    def labels(self) -> Tensor:
        """The task's label of each image, int64."""

    @property
    def num_labels(self) -> int:
        """How many labels the task has."""

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield every image once, in the order of the base data and as it is; the last batch may be smaller."""

    def mixed(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield every image once, as it is, in an order drawn from a CPU generator; the last batch may be smaller.

        For networks that look at a whole batch, where images may lie sorted by class.
        """

    def shuffled(self, batch_size: int, batches: int, generator: torch.Generator, *, skip: int = 0) -> Iterator[Batch]:
        """Yield `batches` batches, but for the first `skip`, epoch after epoch without replacement, augmented."""


@dataclass(frozen=True)
class Unlabelled:
    """A task's test images as a method may see them before it answers: nothing but images."""

    shown: TaskImages

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.shown)

    def mixed(self, batch_size: int, generator: torch.Generator, smallest: int = 1) -> Iterator[Tensor]:
        """Yield every image once, in an order drawn from a CPU generator; a last batch below `smallest` joins the one before."""
        for batch in joined(self.shown.mixed(batch_size, generator), smallest):
            yield batch.images


def joined(batches: Iterable[Batch], smallest: int) -> Iterator[Batch]:
    """Yield batches, but one of fewer than `smallest` images, as the last may be, together with the one before it.

    For networks that need company, as batch normalisation by the batch's own statistics does.
    """
    before: Batch | None = None
    for batch in batches:
        if before is None:
            before = batch
        elif len(batch) < smallest:
            before = Batch(torch.cat((before.images, batch.images)), torch.cat((before.labels, batch.labels)))
        else:
            yield before
            before = batch
    if before is not None:
        yield before


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        index: its place in the stream.
        train: training images.
        test: test images.
        num_labels: how many labels it has; a label is 0 to num_labels - 1.
        classes: the classes of the base data that it holds; local label j names the j-th of them.
        label_space: whether its labels count its own classes or are those of the base data.
        shows: in a stream in which tasks come back, which task it shows; None where each comes once.
    """

    index: int
    train: TaskImages
    test: TaskImages
    num_labels: int
    classes: tuple[int, ...]
    label_space: LabelSpace = LabelSpace.LOCAL
    shows: int | None = None

    @property
    def identity(self) -> int:
        """What it is, whenever it comes: two tasks of a stream with one identity are the same."""
        return self.index if self.shows is None else self.shows

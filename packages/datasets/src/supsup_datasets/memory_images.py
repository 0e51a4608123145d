"""A task's images over base data in memory: every batch is made on its device by a few operations over all its pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from supsup_datasets.augmentation import CropFlip
from supsup_datasets.batch_order import mixed_batches, ordered_batches, planned_batches
from supsup_datasets.errors import DatasetError
from supsup_datasets.images import LabelledImages, Normalization
from supsup_datasets.subset import Subset
from supsup_datasets.task import Batch


@dataclass(frozen=True, eq=False)
class ImagesInMemory:
    """A view of base data: bytes that become cropped, flipped, moved and normalised floats a batch at a time.

    It copies no image: its own memory is that of its index tensors.

    Attributes:
        source_pixels: int64 of height · width entries, or None to keep all in place: which base pixel stands at each place
            of this task's images (of each channel alike); height · width stands for black.
        subset: which base images these are and how they are labelled, or None for all of them.
        augmentation: what varies the images of `shuffled` before their pixels move; `in_order` shows them as they are.

    Raises:
        DatasetError: `source_pixels` does not fit the shape of the images.
    """

    base: LabelledImages
    normalization: Normalization
    source_pixels: Tensor | None = None
    subset: Subset | None = None
    augmentation: CropFlip | None = None

    def __post_init__(self) -> None:
        sources, pixels = self.source_pixels, self.base.pixels
        if sources is None:
            return
        height, width = self.base.images.shape[-2:]
        if sources.dtype != torch.int64 or tuple(sources.shape) != (pixels,):
            raise DatasetError(
                f"source_pixels: {sources.dtype} of shape {tuple(sources.shape)}; images of {height} × {width} pixels take "
                f"{pixels} whole numbers (int64), so make them for this shape"
            )
        if int(sources.min()) < 0 or int(sources.max()) > pixels:
            raise DatasetError(
                f"source_pixels: values from {int(sources.min())} to {int(sources.max())}; a pixel is 0 to {pixels - 1}, and "
                f"{pixels} stands for black"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def labels(self) -> Tensor:
        """The task's label of each image, int64."""
        return self.base.labels if self.subset is None else self.subset.labels

    @property
    def num_labels(self) -> int:
        """How many labels the task has."""
        return self.base.num_labels if self.subset is None else self.subset.num_labels

    @cached_property
    def shows_black(self) -> bool:
        """Whether the task's own move of pixels brings in black."""
        return self.source_pixels is not None and int(self.source_pixels.max()) == self.base.pixels

    def batch(self, indices: Tensor, draws: Tensor | None = None) -> Batch:
        """Return the images and labels at `indices` (int64), normalised as torchvision's ToTensor and Normalize do.

        Args:
            indices: int64 of shape (images,), on the device of the data.
            draws: what the augmentation drew for them, or None to leave them as they are.
        """
        members = indices if self.subset is None else self.subset.members[indices]
        pixels = gather_pixels(self.base, members, self._sources(draws), black=draws is not None or self.shows_black)
        return Batch(self.normalization.apply(pixels), self.labels[indices])

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield every image once, in the order of the base data; the last batch may be smaller."""
        for indices in ordered_batches(len(self), batch_size, self.base.labels.device):
            yield self.batch(indices)

    def mixed(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield every image once, as it is, in an order drawn from a CPU generator; the last batch may be smaller."""
        for indices in mixed_batches(len(self), batch_size, self.base.labels.device, generator):
            yield self.batch(indices)

    def shuffled(self, batch_size: int, batches: int, generator: torch.Generator, *, skip: int = 0) -> Iterator[Batch]:
        """Yield `batches` batches, epoch after epoch without replacement, but for the first `skip` of them.

        The last, smaller batch of an epoch is used and counts as one, as in the paper's protocol.

        Args:
            batch_size: images in a batch.
            batches: how many batches there are, with those skipped.
            generator: a CPU generator; it alone decides order and augmentation, on every device.
            skip: batches to draw but not to make, so that a training that stopped goes on where it was.
        """
        plan = planned_batches(len(self), batch_size, batches, (generator,), self.augmentation, self.base.labels.device)
        for number, (indices, draws) in enumerate(plan):
            if number >= skip:
                yield self.batch(indices[0], None if draws is None else draws[0])

    def _sources(self, draws: Tensor | None) -> Tensor | None:
        if draws is None or self.augmentation is None:
            return self.source_pixels
        height, width = self.base.images.shape[-2:]
        return compose(self.augmentation.source_pixels(draws, height, width), self.source_pixels)


def compose(first: Tensor, then: Tensor | None) -> Tensor:
    """Return the one map that does what two maps of source pixels do in turn; black stays black.

    Args:
        first: (..., images, pixels), a map for each image.
        then: (..., pixels), a map for all images of a task, or None.
    """
    if then is None:
        return first
    black = torch.full_like(first[..., :1], first.shape[-1])
    return torch.cat((first, black), dim=-1).gather(-1, then.unsqueeze(-2).expand_as(first))


def gather_pixels(base: LabelledImages, members: Tensor, sources: Tensor | None, *, black: bool) -> Tensor:
    """Return base images with their pixels moved, in one gather.

    Args:
        base: the images, (all, channels, height, width).
        members: int64 of shape (*tasks, images): which of them.
        sources: int64, for all images of a task (*tasks, pixels) or for each one (*tasks, images, pixels), or None.
        black: whether the sources may name the black pixel; the pixels are copied once more if so.

    Returns:
        uint8 of shape (*tasks, images, channels, height, width).
    """
    channels, height, width = base.images.shape[1:]
    rows = base.images.flatten(1).index_select(0, members.flatten())
    if sources is not None:
        for_each_image = sources.ndim > members.ndim
        rows = rows.view(-1, channels if for_each_image else members.shape[-1] * channels, height * width)
        where = sources.view(-1, 1, height * width).expand_as(rows)  # no copy: the rows of a task share its map
        rows = (pad(rows, (0, 1)) if black else rows).gather(-1, where)
    return rows.view(*members.shape, channels, height, width)

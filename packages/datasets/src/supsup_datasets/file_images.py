"""Images that stay in files until a batch needs them: worker processes decode ahead, the device normalises."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from supsup_datasets.batch_order import mixed_batches, ordered_batches, planned_batches
from supsup_datasets.decoding import Colour, decode, pixels_of
from supsup_datasets.errors import DatasetError, DataUnavailable
from supsup_datasets.file_geometry import ResizeCentreCrop, ResizedCropFlip
from supsup_datasets.image_files import LabelledFiles
from supsup_datasets.images import Normalization
from supsup_datasets.subset import Subset
from supsup_datasets.task import Batch

_CPU = torch.device("cpu")
_Planned = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Reading:
    """How files become batches.

    Attributes:
        normalization: of the decoded pixels.
        colour: what they are converted to.
        train_crop: what varies and scales training images.
        test_crop: what scales test images.
        workers: processes that decode ahead, 0 to decode in this one, None for as many as torch uses threads, up to 8.
        device: where batches are put and normalised.

    Raises:
        DatasetError: the two sizes differ, there is not one mean for each channel, or workers is negative.
    """

    normalization: Normalization
    colour: Colour = Colour.RGB
    train_crop: ResizedCropFlip = field(default_factory=ResizedCropFlip)
    test_crop: ResizeCentreCrop = field(default_factory=ResizeCentreCrop)
    workers: int | None = None
    device: torch.device = _CPU

    def __post_init__(self) -> None:
        if self.train_crop.size != self.test_crop.size:
            raise DatasetError(
                f"train_crop, test_crop: squares of {self.train_crop.size} and {self.test_crop.size} pixels a side; choose one "
                "size"
            )
        if len(self.normalization.mean) != self.colour.channels:
            raise DatasetError(
                f"normalization: {len(self.normalization.mean)} means for {self.colour.channels} channels; pass one each"
            )
        if self.workers is not None and self.workers < 0:
            raise DatasetError(f"workers={self.workers}: a number of processes is 0 or more; choose another")


@dataclass(frozen=True)
class FileDataset:
    """A data set too large for memory, that split streams are made from.

    Attributes:
        name: how results are labelled: never the name of another data set.
    """

    name: str
    train: LabelledFiles
    test: LabelledFiles
    reading: Reading

    @property
    def num_classes(self) -> int:
        """Number of labels of the whole data set."""
        return len(self.train.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image, as a batch has it."""
        return self.reading.colour.channels, self.reading.test_crop.size, self.reading.test_crop.size

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels stand for: the names of the class folders."""
        return self.train.class_names

    @property
    def normalization(self) -> Normalization:
        """How pixels are normalised."""
        return self.reading.normalization

    def to(self, device: torch.device | str) -> "FileDataset":
        """Return the same data, with batches made on another device."""
        return replace(self, reading=replace(self.reading, device=torch.device(device)))

    @cached_property
    def digest(self) -> str:
        """Two SHA-256, of all training and of all test files, over their names, labels and sizes, in 128 hexadecimal digits.

        Two data sets with one digest list the same files.
        """
        return (self.train.digest() + self.test.digest()).hex()


@dataclass(frozen=True, eq=False)
class ImagesInFiles:
    """A view of files: the interface of `TaskImages` over decoding workers.

    Order and crops are drawn in this process before workers see them, so their number changes nothing but the speed, and how far
    ahead of the batches a generator is.
    """

    files: LabelledFiles
    subset: Subset
    reading: Reading

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.subset.labels)

    @property
    def labels(self) -> Tensor:
        """The task's label of each image, int64, on the CPU."""
        return self.subset.labels

    @property
    def num_labels(self) -> int:
        """How many labels the task has."""
        return self.subset.num_labels

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield every image once, in the order of the base data, scaled and cropped; the last batch may be smaller.

        Raises:
            DataUnavailable: a file does not decode; the message names it.
        """
        yield from self._load([(indices, None) for indices in ordered_batches(len(self), batch_size, _CPU)])

    def mixed(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield every image once, as `in_order` does, in an order drawn from a CPU generator.

        Raises:
            DataUnavailable: a file does not decode; the message names it.
        """
        yield from self._load([(indices, None) for indices in mixed_batches(len(self), batch_size, _CPU, generator)])

    def shuffled(self, batch_size: int, batches: int, generator: torch.Generator, *, skip: int = 0) -> Iterator[Batch]:
        """Yield `batches` batches, but for the first `skip`, epoch after epoch without replacement, augmented.

        Workers are ahead of what was yielded, and so is the generator.

        Raises:
            DataUnavailable: a file does not decode; the message names it.
        """
        plan = planned_batches(len(self), batch_size, batches, (generator,), self.reading.train_crop, _CPU)
        yield from self._load(
            (indices[0], None if draws is None else draws[0])
            for number, (indices, draws) in enumerate(plan)
            if number >= skip
        )

    def _load(self, plan: Iterable[_Planned]) -> Iterator[Batch]:
        workers, device = self.reading.workers, self.reading.device
        loader: DataLoader[tuple[Tensor | str, Tensor]] = DataLoader(
            _Decoder(self),
            batch_size=None,  # an item of the plan is a whole batch
            sampler=plan,
            num_workers=min(8, torch.get_num_threads()) if workers is None else workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # or it draws from the global one
        )
        for pixels, labels in loader:
            if isinstance(pixels, str):
                raise DataUnavailable(pixels)
            images = self.reading.normalization.apply(pixels.to(device, non_blocking=True))
            yield Batch(images, labels.to(device, non_blocking=True))


class _Decoder(Dataset[tuple[Tensor | str, Tensor]]):
    """What runs in a worker: a planned batch becomes bytes, or the message of the first file that does not decode.

    The message is returned and not raised, as an error that crosses processes comes back wrapped in a traceback.
    """

    def __init__(self, view: ImagesInFiles) -> None:
        self._view = view

    def __getitem__(self, planned: _Planned) -> tuple[Tensor | str, Tensor]:
        indices, draws = planned
        view = self._view
        try:
            images = [
                self._pixels(int(member), None if draws is None else draws[place])
                for place, member in enumerate(view.subset.members[indices])
            ]
        except DataUnavailable as error:
            return str(error), view.labels[indices]
        return torch.from_numpy(np.stack(images)), view.labels[indices]

    def _pixels(self, member: int, draws: Tensor | None) -> np.ndarray:
        reading = self._view.reading
        image = decode(self._view.files.path(member), reading.colour)
        return pixels_of(reading.test_crop.apply(image) if draws is None else reading.train_crop.apply(image, draws))

"""What HopSupSup learns in a blink: three pairs of blobs of 4 × 5 pixels, in float64 where a test holds it to a textbook."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from supsup_core.unit_masks import unit_masked
from supsup_datasets import (
    Batch,
    ImageDataset,
    LabelledImages,
    LabelSpace,
    Normalization,
    SplitStream,
    Task,
    TaskImages,
)
from supsup_methods.backbones import normalised_fully_connected
from supsup_methods.continual_method import Opened, Problem
from supsup_methods.hopsupsup import KIND, HopSupSup, HopSupSupSettings, UnitMaskTraining

LABELS = 6
WIDTHS = (24, 16)
NOWHERE = Path("/nowhere")
TRAINING = UnitMaskTraining(epochs=8, batch_size=20)
SETTINGS = HopSupSupSettings(training=TRAINING, witness=True)


def labelled(count: int, seed: int) -> LabelledImages:
    means = torch.randint(40, 216, (LABELS, 1, 4, 5), generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % LABELS
    noise = torch.randint(-40, 40, (count, 1, 4, 5), generator=torch.Generator().manual_seed(seed))
    return LabelledImages((means[labels] + noise).to(torch.uint8), labels, LABELS)


def blobs() -> ImageDataset:
    return ImageDataset("blobs", labelled(123, 0), labelled(63, 1), Normalization((0.5,), (0.25,)))


def stream() -> SplitStream:
    """Return tasks of 42, 41 and 40 training images: with 20 in a batch, the second one's last batch is a single image."""
    return SplitStream(blobs(), ((0, 1), (2, 3), (4, 5)), LabelSpace.GLOBAL)


@dataclass(frozen=True)
class Doubles:
    """The first `count` images of some, as float64."""

    images: TaskImages
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def labels(self) -> torch.Tensor:
        return self.images.labels[: self.count]

    @property
    def num_labels(self) -> int:
        return self.images.num_labels

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        yield from self._split(torch.arange(self.count), batch_size)

    def mixed(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        yield from self._split(torch.randperm(self.count, generator=generator), batch_size)

    def _split(self, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
        (whole,) = self.images.in_order(len(self.images))
        for members in order.split(batch_size):
            yield Batch(whole.images[members].double(), whole.labels[members])

    def shuffled(self, batch_size, batches, generator, *, skip=0) -> Iterator[Batch]:
        for batch in self.images.shuffled(batch_size, batches, generator, skip=skip):
            yield Batch(batch.images.double(), batch.labels)


def task_in_doubles(index: int, test_images: int = 20) -> Task:
    task = stream()[index]
    return replace(task, train=Doubles(task.train, len(task.train)), test=Doubles(task.test, test_images))


def method_in_doubles(settings: HopSupSupSettings, seed: int = 0) -> HopSupSup:
    net = unit_masked(normalised_fully_connected(20, WIDTHS, LABELS).double(), seed)
    return HopSupSup(net, settings, seed)


def problem(seed: int = 0, widths: tuple[int, ...] = WIDTHS) -> Problem:
    return Problem(lambda: normalised_fully_connected(20, widths, LABELS), LABELS, seed, torch.device("cpu"))


def opened(
    settings: HopSupSupSettings = SETTINGS, folder: Path = NOWHERE, widths: tuple[int, ...] = WIDTHS, mend: bool = False
) -> Opened:
    return KIND.open(folder, settings, problem(widths=widths), (lambda tasks: tasks) if mend else None)


def learn(method: HopSupSup, *tasks: Task) -> HopSupSup:
    for task in tasks:
        method.learn([task], lambda: None)
    return method


def taught(settings: HopSupSupSettings = SETTINGS, tasks: int = 3) -> HopSupSup:
    return learn(opened(settings).method, *(stream()[index] for index in range(tasks)))

"""Rotated streams: each task turns the same images by an angle of its own (RotatedMNIST)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from supsup_datasets.errors import DatasetError
from supsup_datasets.images import ImageDataset
from supsup_datasets.moved_pixels import check_in_memory, task_of_moved_pixels
from supsup_datasets.task import Task
from supsup_datasets.task_stream import check_index, check_tasks

_ROUNDING = 1e-9  # degrees


@dataclass(frozen=True)
class RotatedStream:
    """Tasks 0 to tasks - 1; task i turns all images by i · degrees_per_task, counter-clockwise; corners come in black.

    The pixels are those of torchvision's `rotate` with its default, nearest interpolation. Of images of 28 × 28 at the default
    angles no pixel lies near a tie between two neighbours, so every machine builds the same ones. Where an angle moves no pixel,
    as 1 degree of 28 × 28 often does, two tasks are the same images.

    Raises:
        DatasetError: there is less than one task, the angle is not above 0, or the tasks come full circle and repeat.
    """

    dataset: ImageDataset
    tasks: int = 36
    degrees_per_task: float = 10.0

    def __post_init__(self) -> None:
        check_in_memory(self.dataset)
        check_tasks(self.tasks)
        if not 0 < self.degrees_per_task < math.inf:
            raise DatasetError(f"degrees_per_task={self.degrees_per_task}: an angle above 0 is needed; choose another")
        if (self.tasks - 1) * self.degrees_per_task >= 360 - _ROUNDING:
            raise DatasetError(
                f"tasks={self.tasks}: at {self.degrees_per_task} degrees a task they come full circle and repeat; "
                "ask for fewer tasks or a smaller angle"
            )

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
        height, width = self.dataset.train.images.shape[-2:]
        return task_of_moved_pixels(self.dataset, index, rotation_sources(height, width, index * self.degrees_per_task))


def rotation_sources(height: int, width: int, degrees: float) -> Tensor:
    """Return which pixel of an image stands at each place after a turn about its centre; height · width is black.

    The centre of the place (x, y), measured from the image's centre, takes the pixel at (x cos φ - y sin φ,
    x sin φ + y cos φ), rounded to the nearest. Pixel numbers are sent through the very operation that torchvision turns
    images with, in float32, so that rounding agrees with it at every angle.

    Returns:
        int64 of height · width entries.
    """
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    x = torch.linspace(0.5 - width / 2, width / 2 - 0.5, width, device="cpu").expand(height, width)
    y = torch.linspace(0.5 - height / 2, height / 2 - 0.5, height, device="cpu").unsqueeze(1).expand(height, width)
    places = torch.stack((x, y, torch.ones(height, width, device="cpu")), dim=-1).view(1, -1, 3)
    turn = torch.tensor([[cos, sin], [-sin, cos], [0.0, 0.0]], device="cpu")
    turn = turn / torch.tensor([width / 2, height / 2], device="cpu")
    grid = torch.bmm(places, turn.unsqueeze(0)).view(1, height, width, 2)
    numbers = torch.arange(1.0, height * width + 1, device="cpu").view(
        1, 1, height, width
    )  # float32 is exact up to 2^24 pixels
    found = grid_sample(numbers, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    found = found.flatten().to(torch.int64) - 1  # -1 came from outside
    return torch.where(found < 0, height * width, found)

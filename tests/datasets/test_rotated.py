import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import DatasetError, ImagesInMemory, RotatedStream
from supsup_datasets.rotated import rotation_sources
from torchvision.transforms.functional import rotate

from .streams import small_dataset


def turned(images, degrees):
    """Turn by our map of source pixels, the last of which is black."""
    sources = rotation_sources(*images.shape[-2:], degrees)
    return torch.nn.functional.pad(images.flatten(2), (0, 1))[..., sources].view_as(images)


@pytest.mark.parametrize("shape", [(28, 28), (32, 32), (4, 5), (7, 3), (1, 1)])
def test_every_whole_angle_is_torchvisions(shape):
    images = torch.randint(0, 256, (5, 2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for degrees in range(-10, 371):
        assert torch.equal(turned(images, degrees), rotate(images, degrees)), degrees


@given(st.floats(-1e4, 1e4), st.integers(1, 12), st.integers(1, 12))
def test_any_angle_of_any_shape_is_torchvisions(degrees, height, width):
    images = torch.arange(1, height * width + 1, dtype=torch.uint8).view(1, 1, height, width)
    assert torch.equal(turned(images, degrees), rotate(images, degrees))


@pytest.mark.parametrize("side", [28, 32])
def test_the_default_angles_lie_too_far_from_ties_to_depend_on_the_machine(side):
    # A coordinate of at most 16 carries a float32 error of some 16 · 2^-24 · 4 < 4e-6. Where the exact (float64) coordinate
    # is further than that from the middle between two pixels, every machine picks the same pixel.
    centre = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    for degrees in range(0, 360, 10):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        across = centre * cos - centre.unsqueeze(1) * sin + (side - 1) / 2
        down = centre * sin + centre.unsqueeze(1) * cos + (side - 1) / 2
        for exact in (across, down):
            assert float(((exact % 1) - 0.5).abs().min()) > 1e-5
        inside = (across.round() >= 0) & (across.round() < side) & (down.round() >= 0) & (down.round() < side)
        expected = torch.where(inside, down.round() * side + across.round(), side * side).long()
        assert torch.equal(rotation_sources(side, side, degrees), expected.flatten())


def test_batches_are_turned_before_they_are_normalised():
    data = small_dataset(channels=3)
    stream = RotatedStream(data)
    assert len(stream) == 36
    for index in (0, 1, 9, 35):
        (batch,) = stream[index].train.in_order(100)
        (expected,) = ImagesInMemory(
            type(data.train)(rotate(data.train.images, 10.0 * index), data.train.labels, 3), data.normalization
        ).in_order(100)
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.labels, data.train.labels)


@pytest.mark.parametrize(
    ("tasks", "degrees", "message"),
    [
        (0, 10, "tasks=0"),
        (37, 10, "come full circle and repeat; ask for fewer tasks"),
        (40, 360 / 39, "come full circle and repeat; ask for fewer tasks"),
        (2, 0, "degrees_per_task=0: an angle above 0"),
        (2, math.nan, "degrees_per_task=nan"),
        (2, math.inf, "degrees_per_task=inf"),
    ],
)
def test_impossible_rotations_are_refused(tasks, degrees, message):
    with pytest.raises(DatasetError, match=message):
        RotatedStream(small_dataset(), tasks, degrees)

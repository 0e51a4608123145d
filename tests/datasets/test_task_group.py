import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import (
    CropFlip,
    DatasetError,
    ImageDataset,
    LabelledImages,
    Normalization,
    PermutedStream,
    RotatedStream,
    SplitStream,
    side_by_side,
)

from .streams import small_dataset


def classes_of_equal_size() -> ImageDataset:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (48, 2, 4, 5), generator=generator, dtype=torch.uint8)
    part = LabelledImages(images, torch.arange(48) % 6, 6)
    return ImageDataset("equal", part, part, Normalization((0.5, 0.4), (0.25, 0.5)))


STREAMS = {
    "permuted": lambda data: PermutedStream(data, 5, seed=2),
    "rotated": lambda data: RotatedStream(data, 5, 50.0),
    "split": lambda data: SplitStream(data, ((0, 3), (5, 1), (4, 2))),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("augmentation", [None, CropFlip(2), CropFlip(1, flip=False)])
@given(batch_size=st.integers(1, 60), batches=st.integers(0, 9), skip=st.integers(0, 4), seed=st.integers(0, 99))
def test_side_by_side_gives_each_task_what_it_gets_alone(name, augmentation, batch_size, batches, skip, seed):
    stream = STREAMS[name](dataclasses.replace(classes_of_equal_size(), augmentation=augmentation))
    views = [stream[index].train for index in (2, 0, 1)]

    def generators():
        return [torch.Generator().manual_seed(1000 * seed + number) for number in range(3)]

    together, alone = generators(), generators()
    group = list(side_by_side(views).shuffled(batch_size, batches, together, skip=skip))
    assert len(group) == max(0, batches - skip)
    for number, view in enumerate(views):
        for batch, expected in zip(group, list(view.shuffled(batch_size, batches, alone[number]))[skip:], strict=True):
            assert torch.equal(batch.images[number], expected.images)
            assert torch.equal(batch.labels[number], expected.labels)
            assert len(batch) == len(expected)
        assert torch.equal(together[number].get_state(), alone[number].get_state())


@pytest.mark.parametrize("name", STREAMS)
def test_in_order_side_by_side(name):
    stream = STREAMS[name](classes_of_equal_size())
    tasks = [stream[index] for index in range(3)]
    group = list(side_by_side([task.test for task in tasks]).in_order(7))
    assert group[0].images.shape == (3, 7, 2, 4, 5)
    for number, task in enumerate(tasks):
        for batch, expected in zip(group, task.test.in_order(7), strict=True):
            assert torch.equal(batch.images[number], expected.images)
            assert torch.equal(batch.labels[number], expected.labels)


def test_one_task_is_a_group_too():
    stream = PermutedStream(small_dataset(), 1, seed=0)
    (batch,) = side_by_side([stream[0].train]).shuffled(50, 1, [torch.Generator().manual_seed(0)])
    assert batch.images.shape == (1, 23, 1, 4, 5)


def test_what_does_not_go_together_is_refused():
    data = classes_of_equal_size()
    uneven = SplitStream(data, ((0, 1), (2,)))
    with pytest.raises(
        DatasetError, match="number 1 has 8 images and number 0 has 16; group tasks of one size, or take"
    ):
        side_by_side([uneven[0].train, uneven[1].train])
    other = PermutedStream(classes_of_equal_size(), 2, 0)
    with pytest.raises(DatasetError, match="number 1 has other base data than number 0"):
        side_by_side([PermutedStream(data, 2, 0)[0].train, other[1].train])
    with pytest.raises(DatasetError, match="only tasks of data in memory, at least one"):
        side_by_side([])
    group = side_by_side([uneven[0].train])
    with pytest.raises(DatasetError, match="generators: 2 for 1 tasks"):
        next(group.shuffled(4, 1, [torch.Generator(), torch.Generator()]))
    shared = torch.Generator()
    pair = side_by_side([PermutedStream(data, 2, 0)[index].train for index in range(2)])
    with pytest.raises(DatasetError, match="two tasks share one"):
        next(pair.shuffled(4, 1, [shared, shared]))

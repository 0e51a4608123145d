"""What every stream promises, whatever its tasks are made of. A new stream gets all of it by a line in STREAMS."""

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from supsup_datasets import (
    CropFlip,
    DatasetError,
    ImageDataset,
    LabelledImages,
    LabelSpace,
    Normalization,
    PermutedStream,
    RecurringStream,
    ResizeCentreCrop,
    ResizedCropFlip,
    RotatedStream,
    SplitStream,
    large_image_folder,
)

from .folders import make_folder
from .streams import small_images

PAIRS = ((0, 3), (5, 1), (4, 2))


def in_memory() -> ImageDataset:
    train, test = (LabelledImages(small_images(36, seed, 2).images, torch.arange(36) % 6, 6) for seed in (0, 1))
    return ImageDataset("six", train, test, Normalization((0.5, 0.4), (0.25, 0.5)), CropFlip(1))


def in_files(root):
    crops = {"train_crop": ResizedCropFlip(4), "test_crop": ResizeCentreCrop(4, 4)}
    return large_image_folder(root, workers=0, **crops)


STREAMS = {
    "permuted": lambda root: PermutedStream(in_memory(), 3, seed=1),
    "rotated": lambda root: RotatedStream(in_memory(), 3),
    "recurring": lambda root: RecurringStream(PermutedStream(in_memory(), 3, seed=1), 3, seed=1),
    "split": lambda root: SplitStream(in_memory(), PAIRS),
    "split, global labels": lambda root: SplitStream(in_memory(), PAIRS, LabelSpace.GLOBAL),
    "split, files": lambda root: SplitStream(in_files(root), PAIRS),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("six"), classes=tuple("abcdef"), images=3)


def content(task):
    """All that a learner can see of a task."""
    batches = [
        *task.train.in_order(5),
        *task.test.in_order(7),
        *task.train.shuffled(4, 6, torch.Generator().manual_seed(task.index)),
    ]
    return torch.cat([batch.images.flatten() for batch in batches]), torch.cat([batch.labels for batch in batches])


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(visits=st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_a_task_is_the_same_whenever_and_by_whomever_it_is_asked_for(name, root, visits):
    stream = STREAMS[name](root)
    for index in visits:
        for seen, expected in zip(content(stream[index]), content(STREAMS[name](root)[index]), strict=True):
            assert torch.equal(seen, expected)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_has_an_end_and_its_tasks_differ(name, root):
    stream = STREAMS[name](root)
    tasks = list(stream)
    assert len(tasks) == len(stream) == 3
    assert [task.index for task in tasks] == [0, 1, 2]
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"task {index}: the stream has tasks 0 to 2"):
            stream[index]
    images = [content(task)[0] for task in tasks]
    assert not any(torch.equal(images[one], images[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("name", STREAMS)
def test_a_task_cannot_be_set(name, root):
    task = STREAMS[name](root)[1]
    for value in (task, task.train, task.test):
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)


@pytest.mark.parametrize("name", STREAMS)
def test_labels_are_in_range_and_go_with_their_classes(name, root):
    for task in STREAMS[name](root):
        for view in (task.train, task.test):
            batches = list(view.in_order(4))
            labels = torch.cat([batch.labels for batch in batches])
            assert torch.equal(labels, view.labels)
            assert sum(len(batch) for batch in batches) == len(view) == len(labels)
            assert view.num_labels == task.num_labels
            named = range(len(task.classes)) if task.label_space is LabelSpace.LOCAL else task.classes
            assert set(labels.tolist()) == set(named)
            assert max(named) < task.num_labels
            assert all(batch.images.dtype == torch.float32 and batch.labels.dtype == torch.int64 for batch in batches)


@pytest.mark.parametrize("name", STREAMS)
def test_an_epoch_holds_every_image_once_and_its_last_batch_counts(name, root):
    view = STREAMS[name](root)[2].train
    per_epoch = -(-len(view) // 5)
    batches = list(view.shuffled(5, 2 * per_epoch + 1, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches[:per_epoch]] == [5] * (len(view) // 5) + [len(view) % 5] * (
        len(view) % 5 > 0
    )
    for start in (0, per_epoch):
        epoch = torch.cat([batch.labels for batch in batches[start : start + per_epoch]])
        assert torch.equal(epoch.sort().values, view.labels.sort().values)
    assert len(batches) == 2 * per_epoch + 1


@pytest.mark.parametrize("name", STREAMS)
def test_what_a_stream_does_not_have_has_no_identity(name, root):
    stream = STREAMS[name](root)
    for index in (-1, len(stream)):
        with pytest.raises(IndexError):
            stream.identity(index)


@pytest.mark.parametrize("name", STREAMS)
def test_an_order_is_drawn_from_a_generator_and_nothing_else(name, root):
    images = STREAMS[name](root)[0].train
    for generator in (None, 3):
        with pytest.raises(
            DatasetError, match=rf"generator={generator}: it draws the order of images; pass a torch.Generator"
        ):
            list(images.mixed(4, generator))
        with pytest.raises(DatasetError, match=r"pass a torch.Generator"):
            list(images.shuffled(4, 2, generator))


@pytest.mark.parametrize("name", [name for name in STREAMS if "files" not in name])  # torch's own loader minds it
def test_a_default_device_changes_nothing(name, root):
    stream = STREAMS[name](root)

    def batches():
        task = stream[1]
        yield from task.train.shuffled(3, 3, torch.Generator().manual_seed(0))
        yield from task.test.mixed(3, torch.Generator().manual_seed(0))
        yield from task.test.in_order(3)

    expected = list(batches())
    with torch.device("meta"):
        found = list(batches())
    assert all(torch.equal(one.images, other.images) for one, other in zip(found, expected, strict=True))

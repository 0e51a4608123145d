import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import (
    CropFlip,
    DatasetError,
    ImageDataset,
    LabelledImages,
    LabelSpace,
    Normalization,
    SplitStream,
    permuted_mnist,
    random_partition,
    rotated_mnist,
    split_cifar100,
    split_imagenet,
    split_mnist,
)

from .streams import small_images


def dataset(classes: int = 6) -> ImageDataset:
    train, test = (small_images(count, seed, labels=classes) for seed, count in enumerate((90, 60)))
    for part in (train, test):
        part.labels[:classes] = torch.arange(classes)  # none is absent
    return ImageDataset("small", train, test, Normalization((0.5,), (0.25,)))


def labels_of(view):
    return torch.cat([batch.labels for batch in view.in_order(7)])


def images_of(view):
    return torch.cat([batch.images for batch in view.in_order(7)])


@given(st.integers(0, 1000), st.permutations(range(3)))
def test_tasks_hold_their_classes_whole_and_do_not_depend_on_access_order(seed, visits):
    data = dataset()
    stream = SplitStream(data, random_partition(6, 3, 2, seed))
    seen = {index: stream[index] for index in visits}
    everything = Normalization.apply(data.normalization, data.train.images)
    total = 0
    for index in range(3):
        task = seen[index]
        assert task.classes == stream.partition[index]
        assert task.num_labels == task.train.num_labels == task.test.num_labels == 2
        total += len(task.train)
        mine = torch.isin(data.train.labels, torch.tensor(task.classes))
        assert torch.equal(images_of(task.train), everything[mine])
        local = labels_of(task.train)
        assert torch.equal(local, task.train.labels)
        assert torch.equal(torch.tensor(task.classes)[local], data.train.labels[mine])
    assert total == len(data.train)


def test_global_labels_are_those_of_the_data_set():
    data = dataset()
    task = SplitStream(data, ((4, 1), (0, 5)), LabelSpace.GLOBAL)[0]
    assert task.num_labels == 6
    assert task.label_space is LabelSpace.GLOBAL
    assert torch.equal(labels_of(task.test), data.test.labels[torch.isin(data.test.labels, torch.tensor([4, 1]))])
    assert set(labels_of(task.train).tolist()) == {1, 4}


def test_a_class_without_images_is_refused():
    data = dataset()
    few = LabelledImages(data.test.images[:5], torch.arange(5), 6)
    with pytest.raises(DatasetError, match="task 1 has class 5, of which there are no test images; leave it out"):
        SplitStream(ImageDataset("few", data.train, few, data.normalization), ((0, 1), (4, 5)))


def test_a_partition_may_be_lists_of_any_whole_numbers_and_is_copied():
    lists = [[0, np.int64(1)], [2, 3]]
    stream = SplitStream(dataset(), lists)
    lists[0][0] = 4
    assert stream.partition == ((0, 1), (2, 3))
    assert all(type(number) is int for classes in stream.partition for number in classes)


def test_a_stream_ends():
    stream = SplitStream(dataset(), ((0, 1), (2, 3)))
    assert len(list(stream)) == len(stream) == 2
    with pytest.raises(IndexError, match="task 2: the stream has tasks 0 to 1"):
        stream[2]


def test_presets_are_those_of_the_paper():
    digits = dataset(10)
    assert len(permuted_mnist(digits)) == 250
    assert len(rotated_mnist(digits)) == 36
    pairs = split_mnist(digits)
    assert [task.classes for task in pairs] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert [sorted(set(task.test.labels.tolist())) for task in pairs] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert {task.num_labels for task in pairs} == {10}
    hundred_images = LabelledImages(small_images(100, 0).images, torch.arange(100), 100)
    hundred = ImageDataset("hundred", hundred_images, hundred_images, Normalization((0.5,), (0.25,)), CropFlip())
    stream = split_cifar100(hundred, seed=3)
    assert len(stream) == 20
    assert {task.num_labels for task in stream} == {5}
    assert stream[0].train.augmentation == CropFlip(padding=4)
    assert stream[0].test.augmentation is None
    assert sorted(number for classes in stream.partition for number in classes) == list(range(100))
    assert split_cifar100(hundred, seed=4).partition != stream.partition
    with pytest.raises(DatasetError, match="they need 1000 classes and the data has 100"):
        split_imagenet(hundred)


def test_a_label_space_and_a_partition_of_other_kinds():
    with pytest.raises(DatasetError, match=r"label_space='local': pass LabelSpace.LOCAL or LabelSpace.GLOBAL"):
        SplitStream(dataset(10), ((0, 1),), "local")
    assert SplitStream(dataset(10), np.array([[0, 1], [2, 3]])).partition == ((0, 1), (2, 3))

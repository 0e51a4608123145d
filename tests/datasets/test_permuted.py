import dataclasses
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_datasets import DatasetError, ImagesInMemory, PermutedStream

from .streams import small_dataset


def content(task):
    train, test = (part.batch(torch.arange(len(part))) for part in (task.train, task.test))
    return torch.cat([train.images, test.images])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_a_task_does_not_depend_on_the_order_of_access(visits):
    stream = PermutedStream(small_dataset(), 10, seed=0)
    expected = {index: content(PermutedStream(small_dataset(), 10, seed=0)[index]) for index in set(visits)}
    for index in visits:
        assert torch.equal(content(stream[index]), expected[index])


def test_a_task_does_not_depend_on_the_length_of_the_stream():
    assert torch.equal(
        content(PermutedStream(small_dataset(), 2, seed=0)[1]),
        content(PermutedStream(small_dataset(), 10**9, seed=0)[1]),
    )


def test_train_and_test_images_are_permuted_alike_and_tasks_differently():
    stream = PermutedStream(small_dataset(), 3, seed=0)
    assert torch.equal(stream[1].train.source_pixels, stream[1].test.source_pixels)
    assert not torch.equal(stream[0].train.source_pixels, stream[1].train.source_pixels)
    assert not torch.equal(
        PermutedStream(small_dataset(), 3, seed=1)[0].train.source_pixels, stream[0].train.source_pixels
    )


def test_a_task_cannot_be_changed():
    task = PermutedStream(small_dataset(), 3, seed=0)[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.index = 0


def test_a_stream_ends():
    stream = PermutedStream(small_dataset(), 3, seed=0)
    assert len(list(stream)) == len(stream) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"task {index}: the stream has tasks 0 to 2"):
            stream[index]


@pytest.mark.parametrize(("tasks", "seed", "message"), [(0, 0, "tasks=0"), (-3, 0, "tasks=-3"), (1, -1, "seed=-1")])
def test_impossible_streams_are_refused(tasks, seed, message):
    with pytest.raises(DatasetError, match=message):
        PermutedStream(small_dataset(), tasks, seed)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (
            torch.arange(19),
            r"source_pixels: torch.int64 of shape \(19,\); images of 4 × 5 pixels take 20 whole numbers",
        ),
        (torch.arange(20).view(4, 5), r"of shape \(4, 5\)"),
        (torch.arange(20.0), "torch.float32"),
        (torch.arange(20) + 2, "values from 2 to 21; a pixel is 0 to 19, and 20 stands for black"),
        (torch.arange(20) - 1, "values from -1 to 18"),
    ],
)
def test_a_permutation_over_the_wrong_shape_is_refused(order, message):
    data = small_dataset()
    with pytest.raises(DatasetError, match=message):
        ImagesInMemory(data.train, data.normalization, order)


def test_a_long_stream_holds_its_base_data_and_nothing_else():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        stream = PermutedStream(small_dataset(), 2500, seed=0)
        assert len(stream) == 2500
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    task = stream[2499]
    assert task.train.base is stream.dataset.train


@pytest.mark.parametrize(
    ("tasks", "seed", "message"), [(2.5, 0, "tasks=2.5: a stream has a whole number"), (2, 0.5, "seed=0.5: a seed")]
)
def test_numbers_that_are_not_whole_are_refused(tasks, seed, message):
    with pytest.raises(DatasetError, match=message):
        PermutedStream(small_dataset(), tasks, seed)

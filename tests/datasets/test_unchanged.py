"""What runs so far were trained on: tasks and their order stay the same, bit for bit."""

import hashlib

import pytest
import torch
from supsup_datasets import PermutedStream

from .slow_batches import slow_batch, slow_order
from .streams import small_dataset


@pytest.mark.parametrize("channels", [1, 3])
def test_training_batches_equal_those_of_the_obvious_loop(channels):
    data = small_dataset(channels)
    for index in (0, 7):
        task = PermutedStream(data, 8, seed=3)[index]
        generators = (torch.Generator().manual_seed(11), torch.Generator().manual_seed(11))
        batches = list(task.train.shuffled(5, 13, generators[0]))
        orders = list(slow_order(len(data.train), 5, 13, generators[1]))
        assert len(batches) == len(orders) == 13
        pixel_order = task.train.source_pixels
        for batch, order in zip(batches, orders, strict=True):
            images, labels = slow_batch(data.train, data.normalization, pixel_order, order)
            assert torch.equal(batch.images, images)
            assert torch.equal(batch.labels, labels)
        assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_a_golden_task_never_changes():
    # Made by the first release's code: SHA-256 over task 2's test images in order, then their labels.
    digest = hashlib.sha256()
    for batch in PermutedStream(small_dataset(), 3, seed=0)[2].test.in_order(4):
        digest.update(batch.images.numpy().tobytes() + batch.labels.numpy().tobytes())
    assert digest.hexdigest() == "e998218cab006791b6d67358b2e7939ff137925b122403ac005e0969f4df1808"

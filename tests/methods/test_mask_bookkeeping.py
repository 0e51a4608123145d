import pytest
import torch
from supsup_datasets import ImageDataset, LabelledImages, Normalization, SplitStream
from supsup_methods.continual_method import Decision
from supsup_methods.mask_bookkeeping import Bookkeeping, keep_books, mask_owners, stretches, stretches_of
from supsup_methods.training_length import TrainingLength


def decided(*masks, every=10):
    """Decisions every ten batches, a stretch every twenty."""
    seen = set()
    found = []
    for number, mask in enumerate(masks):
        found.append(Decision(every * number, every * number // 20, mask, mask not in seen, 1.5))
        seen.add(mask)
    return found


def test_parts_end_where_a_decision_is_made_and_where_the_task_changes():
    parts = stretches(decided(0, 1, every=15), [7, 8], [15, 15])
    assert [(part.first_batch, part.batches, part.mask, part.task, part.new) for part in parts] == [
        (0, 15, 0, 7, True), (15, 15, 1, 8, True),
    ]  # fmt: skip
    parts = stretches(decided(0, 1, every=12), [7, 8], [10, 10])
    assert [(part.first_batch, part.batches, part.mask, part.task, part.new) for part in parts] == [
        (0, 10, 0, 7, True), (10, 2, 0, 8, False), (12, 8, 1, 8, True),
    ]  # fmt: skip
    assert sum(part.batches for part in parts) == 20


def test_masks_that_go_with_tasks_one_by_one_are_pure():
    parts = stretches(decided(0, 0, 1, 1, 0, 0), [5, 6, 5], [20, 20, 20])
    assert mask_owners(parts) == {0: 5, 1: 6}
    assert keep_books(parts) == Bookkeeping(
        masks=2, tasks=2, purity=1.0, duplicates=0, tasks_without_mask=0, delay_batches=0.0, missed=0
    )


def test_a_second_mask_for_a_task_is_a_duplicate():
    books = keep_books(stretches(decided(0, 0, 1, 1, 2, 2), [5, 6, 5], [20, 20, 20]))
    assert (books.masks, books.tasks, books.duplicates, books.purity) == (3, 2, 1, 1.0)


def test_a_late_decision_is_a_delay_and_batches_of_another_mask_are_impure():
    books = keep_books(stretches(decided(0, 0, 0, 1), [5, 6], [20, 20]))
    assert books.delay_batches == 10, "the stream's own start does not count"
    assert books.purity == pytest.approx(30 / 40)
    assert books.missed == 0


def test_a_task_that_never_gets_a_mask_is_missed():
    books = keep_books(stretches(decided(0, 0, 0, 0, 0, 0), [5, 6, 5], [20, 20, 20]))
    assert (books.masks, books.tasks_without_mask, books.missed) == (1, 1, 1)
    assert books.purity == pytest.approx(40 / 60)
    assert books.delay_batches == 0.0, "the first task, when it came back"


def test_a_single_task_has_no_delay_to_speak_of():
    assert keep_books(stretches(decided(0, 0), [5], [20])).delay_batches is None


def test_stretches_of_several_lengths_end_where_their_tasks_do():
    parts = stretches(decided(0, 0, 0, 1, 1, 2), [4, 5, 6], [27, 6, 27])
    assert [(part.first_batch, part.batches, part.mask, part.task) for part in parts] == [
        (0, 10, 0, 4), (10, 10, 0, 4), (20, 7, 0, 4), (27, 3, 0, 5), (30, 3, 1, 5), (33, 7, 1, 6), (40, 10, 1, 6), (50, 10, 2, 6),
    ]  # fmt: skip
    assert keep_books(parts).purity == pytest.approx((27 + 17 + 10) / 60)


@pytest.mark.parametrize(
    ("length", "batches"),
    [(TrainingLength(batches=30), [30, 30, 30]), (TrainingLength(batches=30, epochs=3, batch_size=16), [45, 3, 9])],
)
def test_stretches_of_a_stream_are_as_long_as_its_tasks_are_trained(length, batches):
    images = LabelledImages(
        torch.zeros(290, 1, 2, 2, dtype=torch.uint8),
        torch.tensor([0] * 120 + [1] * 120 + [2] * 10 + [3] * 6 + [4] * 30 + [5] * 4),
        6,
    )
    data = ImageDataset("uneven", images, images, Normalization((0.5,), (0.5,)))
    stream = SplitStream(data, ((0, 1), (2, 3), (4, 5)))
    start = [Decision(0, 0, 0, True, 1.5)]
    assert [part.batches for part in stretches_of(start, stream, length, 3)] == batches
    assert [part.task for part in stretches_of(start, stream, length, 2)] == [0, 1]

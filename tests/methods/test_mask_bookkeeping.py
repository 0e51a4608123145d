import pytest
from supsup_methods.continual_method import Decision
from supsup_methods.mask_bookkeeping import Bookkeeping, keep_books, mask_owners, stretches


def decided(*masks, every=10):
    """Decisions every ten batches, a stretch every twenty."""
    seen = set()
    found = []
    for number, mask in enumerate(masks):
        found.append(Decision(every * number, every * number // 20, mask, mask not in seen, 1.5))
        seen.add(mask)
    return found


def test_parts_end_where_a_decision_is_made_and_where_the_task_changes():
    parts = stretches(decided(0, 1, every=15), [7, 8], batches_a_stretch=15)
    assert [(part.first_batch, part.batches, part.mask, part.task, part.new) for part in parts] == [
        (0, 15, 0, 7, True), (15, 15, 1, 8, True),
    ]  # fmt: skip
    parts = stretches(decided(0, 1, every=12), [7, 8], batches_a_stretch=10)
    assert [(part.first_batch, part.batches, part.mask, part.task, part.new) for part in parts] == [
        (0, 10, 0, 7, True), (10, 2, 0, 8, False), (12, 8, 1, 8, True),
    ]  # fmt: skip
    assert sum(part.batches for part in parts) == 20


def test_masks_that_go_with_tasks_one_by_one_are_pure():
    parts = stretches(decided(0, 0, 1, 1, 0, 0), [5, 6, 5], batches_a_stretch=20)
    assert mask_owners(parts) == {0: 5, 1: 6}
    assert keep_books(parts) == Bookkeeping(
        masks=2, tasks=2, purity=1.0, duplicates=0, tasks_without_mask=0, delay_batches=0.0, missed=0
    )


def test_a_second_mask_for_a_task_is_a_duplicate():
    books = keep_books(stretches(decided(0, 0, 1, 1, 2, 2), [5, 6, 5], batches_a_stretch=20))
    assert (books.masks, books.tasks, books.duplicates, books.purity) == (3, 2, 1, 1.0)


def test_a_late_decision_is_a_delay_and_batches_of_another_mask_are_impure():
    books = keep_books(stretches(decided(0, 0, 0, 1), [5, 6], batches_a_stretch=20))
    assert books.delay_batches == 10, "the stream's own start does not count"
    assert books.purity == pytest.approx(30 / 40)
    assert books.missed == 0


def test_a_task_that_never_gets_a_mask_is_missed():
    books = keep_books(stretches(decided(0, 0, 0, 0, 0, 0), [5, 6, 5], batches_a_stretch=20))
    assert (books.masks, books.tasks_without_mask, books.missed) == (1, 1, 1)
    assert books.purity == pytest.approx(40 / 60)
    assert books.delay_batches == 0.0, "the first task, when it came back"


def test_a_single_task_has_no_delay_to_speak_of():
    assert keep_books(stretches(decided(0, 0), [5], batches_a_stretch=20)).delay_batches is None

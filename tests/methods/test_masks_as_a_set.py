"""Unknown tasks and masks that serve one task, on masks that were trained on digits."""

from dataclasses import replace

import pytest
import torch
from supsup_core import MaskBank, entropy, recognise_each
from supsup_datasets import PermutedStream, embedded_mnist
from supsup_methods import mask_merging
from supsup_methods.evaluation import evaluation_batches
from supsup_methods.mask_merging import merge_masks
from supsup_methods.mask_rules import fresh_scores
from supsup_methods.mask_training import train_threshold_mask
from supsup_methods.recognition_rates import recognition_rates
from supsup_methods.supsup_unknown_tasks import SupSupUnknownTasks, UnknownTasksSettings
from supsup_methods.training_length import StreamTraining

from .test_supsup_unknown_tasks import SETTINGS, digits, learned, problem


@pytest.fixture(scope="module")
def taught():
    return learned(digits())


def tasks(*indices):
    stream = PermutedStream(embedded_mnist(), 8, 0)
    return [stream[index] for index in indices]


def test_rates_count_guesses_one_by_one(taught):
    known, unknown = tasks(0, 1, 2), tasks(5, 6)
    found = recognition_rates(taught.net, taught.bank, 0, known, unknown, 150, 20, (0.01, 0.125, 0.6))
    fresh = taught.net.unflatten(fresh_scores(taught.net, 0, 3) >= 0)
    for rates in found:
        said = {}
        for name, some in (("known", known), ("unknown", unknown)):
            answers = []
            for task in some:
                for batch in evaluation_batches(task, 150):
                    images = batch.images[:20]
                    single = recognise_each(entropy, taught.net, taught.bank, fresh, images, len(images))
                    answers += single.tasks(rates.epsilon)
            said[name] = answers
        assert rates.known_guesses == len(said["known"]) == 21
        assert rates.false_alarms == pytest.approx(sum(answer is None for answer in said["known"]) / 21)
        assert rates.misses == pytest.approx(
            sum(answer is not None for answer in said["unknown"]) / rates.unknown_guesses
        )
    low, middle, high = found
    assert low.misses >= middle.misses >= high.misses
    assert low.false_alarms <= middle.false_alarms <= high.false_alarms
    assert middle.misses < 0.2


def test_a_last_batch_of_fewer_images_is_no_guess(taught):
    (rates,) = recognition_rates(taught.net, taught.bank, 0, tasks(0), tasks(5), 300, 150, (0.125,))
    assert (rates.known_guesses, rates.unknown_guesses) == (3, 3)


def twice(task, batches):
    """Return another mask for a task, from other scores."""
    net = problem().network()
    scores = fresh_scores(net, 0, 77)
    order = torch.Generator().manual_seed(5)
    return train_threshold_mask(net, scores, task.train.shuffled(64, batches, order), 1e-3)


def shown(*indices):
    return [batch.images for task in tasks(*indices) for batch in task.test.in_order(100)]


def test_of_two_masks_for_one_task_the_one_that_was_trained_longest_stays(taught):
    bank = MaskBank(taught.net)
    for mask in range(3):
        bank.append(taught.bank.masks(mask))
    bank.append(twice(tasks(1)[0], 30))
    merged = merge_masks(taught.net, bank, 0, shown(0, 1, 2), {0: 3, 1: 3, 2: 3, 3: 1}, 0.125)
    assert len(bank) == 4, "it is as it was"
    assert merged.dropped == {3: 1}
    assert merged.kept == (0, 1, 2)
    assert torch.equal(merged.bank.rows, bank.rows[:3])
    other = merge_masks(taught.net, bank, 0, shown(0, 1, 2), {0: 3, 1: 1, 2: 3, 3: 9}, 0.125)
    assert other.dropped == {1: 3}
    assert other.kept == (0, 2, 3)
    assert torch.equal(other.bank.rows, bank.rows[[0, 2, 3]])


def test_a_mask_that_knows_more_than_another_is_not_given_up_for_it(taught, monkeypatch):
    """Mask 0 knows task 0 and was trained longer; mask 1, trained less, knows tasks 0 and 1: it is needed."""
    knows = {0: {0}, 1: {0, 1}}

    class Scripted:
        def __init__(self, net, bank, seed, masks):
            self.masks = list(masks)

        def nearest(self, images):
            return int(images[0])

        def mask(self, images, epsilon):
            found = [mask for mask in self.masks if int(images[0]) in knows[mask]]
            return found[0] if found else None

    monkeypatch.setattr(mask_merging, "_Recogniser", Scripted)
    bank = MaskBank(taught.net)
    for mask in range(2):
        bank.append(taught.bank.masks(mask))
    merged = mask_merging.merge_masks(taught.net, bank, 0, [torch.tensor([0]), torch.tensor([1])], {0: 10, 1: 5}, 0.125)
    assert merged.kept == (1,)
    assert merged.dropped == {0: 1}


def test_masks_of_tasks_of_their_own_stay(taught):
    merged = merge_masks(taught.net, taught.bank, 0, shown(0, 1, 2), {}, 0.125)
    assert merged.kept == (0, 1, 2)
    assert merged.dropped == {}
    assert torch.equal(merged.bank.rows, taught.bank.rows)


def test_the_only_mask_stays():
    method = SupSupUnknownTasks(
        problem().network(), replace(UnknownTasksSettings(), training=StreamTraining(batches=3)), 10, 0
    )
    method.learn([digits()[0]], lambda: None)
    assert merge_masks(method.net, method.bank, 0, shown(0), {0: 1}, 0.0).kept == (0,)


def test_epsilon_too_high_allocates_duplicates_which_merging_finds():
    settings = replace(SETTINGS, allocation=replace(SETTINGS.allocation, epsilon=3.0))
    method = learned(digits(2), settings)
    assert len(method.bank) == 6, "every decision allocates a mask"
    trained = dict.fromkeys(range(6), 1)
    merged = merge_masks(method.net, method.bank, 0, shown(0, 1), trained, 0.1)
    assert len(merged.bank) == 2
    assert set(merged.dropped.values()) == set(merged.kept)
    owner = {mask: 0 if mask < 3 else 1 for mask in range(6)}
    assert all(owner[mask] == owner[stand_in] for mask, stand_in in merged.dropped.items())

"""SupSup over networks with batch norm, masks of a fixed size: statistics by task, and Transfer."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from supsup_core import MaskBank, erdos_renyi_budget
from supsup_datasets.seeds import generator
from supsup_methods.continual_method import Problem
from supsup_methods.mask_rules import ThresholdMasks, fresh_scores
from supsup_methods.supsup import KIND

from .vision_problems import (
    CPU,
    EDGE_POPUP,
    LABELS,
    STEPS,
    TRAINING,
    TRANSFER,
    Textbook,
    by_edge_popup,
    by_threshold,
    images_of,
    in_doubles,
    learn,
    learner,
    module,
    network,
    stream,
)

THRESHOLD = replace(EDGE_POPUP, masks=ThresholdMasks())
WITHOUT_STEPS = replace(TRAINING, learning_rate=1e-12)


@pytest.mark.parametrize("statistics", ["float16", "float32"])
@pytest.mark.parametrize("settings", [EDGE_POPUP, THRESHOLD], ids=["edge-popup", "threshold"])
def test_masks_and_running_statistics_are_those_of_a_module_that_the_textbook_trains(settings, statistics):
    net = network(dtype=torch.float64)
    method = learner(replace(settings, statistics=statistics), net)
    method.learn([in_doubles(stream(24)[0])], lambda: None)
    data = list(in_doubles(stream(24)[0]).train.shuffled(8, 9, generator(0, "training order", 0)))
    masked = by_threshold if settings is THRESHOLD else by_edge_popup(net, 1.0, 0, 0)
    expected = Textbook(net, fresh_scores(net, 0, 0)).train(data, TRAINING.learning_rate, masked)
    assert torch.equal(net.flatten(method.bank.masks(0)), expected.masks[-1])
    assert method.bank.buffers.dtype == getattr(torch, statistics)
    found = method.bank.weights(0)
    for name, value in expected.statistics.items():
        assert torch.equal(found[name], value.to(method.bank.buffers.dtype).double()), "rounded once, to the nearest"
        assert not torch.equal(value, net.fresh_buffers()[name])


def test_each_task_has_statistics_of_its_own_and_the_networks_stay_as_they_were():
    method = learner()
    before = {name: value.clone() for name, value in method.net.fresh_buffers().items()}
    learn(method, range(3))
    assert all(torch.equal(value, before[name]) for name, value in method.net.fresh_buffers().items())
    for first, second in pairwise(method.bank.buffers):
        assert not torch.equal(first, second)


def test_an_answer_is_that_of_the_module_with_the_tasks_mask_and_statistics_in_evaluation():
    method = learn(learner(), range(2))
    for task in range(2):
        module = copy.deepcopy(method.net.module).eval()
        module.load_state_dict(
            {**module.state_dict(), **{name: value.clone() for name, value in method.bank.weights(task).items()}}
        )
        assert torch.equal(method.logits(images_of(task), task), module(images_of(task)))
        once = method.logits(images_of(task)[:1], task)
        # One image alone is answered as among others, but for the order of sums over 120 features in single precision.
        assert torch.allclose(once, method.logits(images_of(task), task)[:1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("statistics", ["float16", "float32"])
def test_a_bank_that_was_saved_answers_to_the_bit_as_the_one_that_was_trained(statistics, tmp_path):
    settings = replace(EDGE_POPUP, statistics=statistics)
    method = learn(learner(settings), range(2))
    method.save(tmp_path)
    again = learner(settings)
    again.bank = MaskBank.open(tmp_path, again.net)
    assert again.bytes == method.bytes
    assert again.bytes.buffers == 2 * 12 * (2 if statistics == "float16" else 4)
    for task in range(2):
        assert torch.equal(again.logits(images_of(task), task), method.logits(images_of(task), task))
        assert torch.equal(method.first(1).logits(images_of(0), 0), method.logits(images_of(0), 0))


@pytest.mark.parametrize("whole_groups", [None, lambda tasks: tasks])
@pytest.mark.parametrize("statistics", ["float16", "float32"])
def test_statistics_are_kept_as_the_settings_say_in_a_new_bank(statistics, whole_groups, tmp_path):
    problem = Problem(module, LABELS, 0, CPU)
    settings = replace(EDGE_POPUP, statistics=statistics)
    method = KIND.open(tmp_path / "none", settings, problem, whole_groups).method
    assert method.bank.buffers.dtype == getattr(torch, statistics)


def test_tasks_are_learned():
    """12 images of 3 labels: by chance 4 are right, with a standard deviation of 1.6."""
    training = replace(TRAINING, epochs=10)
    method = learn(learner(replace(TRANSFER, training=training)), range(3))
    for task in range(3):
        (batch,) = stream()[task].test.in_order(100)
        assert int((method.logits(batch.images, task).argmax(dim=1) == batch.labels).sum()) > 4 + 4 * 1.6


def test_all_masks_have_the_budget_of_each_layer():
    for settings in (EDGE_POPUP, TRANSFER):
        method = learn(learner(settings), range(3))
        for task in range(3):
            ones = {name: int(mask.sum()) for name, mask in method.bank.masks(task).items()}
            assert ones == erdos_renyi_budget(method.net, 1.0)


def over_another_first_task(settings, masks=None):
    """Return a method whose task 0 is a mask of random bits, or of those given."""
    method = learner(settings)
    if masks is None:
        random = torch.rand(method.net.num_bits, generator=torch.Generator().manual_seed(5)) < 0.3
        masks = method.net.unflatten(random)
    method.bank.append(masks, method.net.fresh_buffers())
    return method


def test_without_transfer_a_task_does_not_depend_on_others_and_with_it_it_does():
    for settings, alike in ((EDGE_POPUP, True), (THRESHOLD, True), (TRANSFER, False)):
        whole = learn(learner(settings), [0, 1])
        other = learn(over_another_first_task(settings), [1])
        assert torch.equal(whole.bank.rows[1], other.bank.rows[1]) == alike
        assert torch.equal(whole.bank.buffers[1], other.bank.buffers[1]) == alike


def test_with_transfer_a_task_depends_on_the_bits_of_earlier_masks_alone():
    """Not on the scores behind them, nor on statistics, nor on the way there."""
    whole = learn(learner(TRANSFER), [0, 1])
    again = learn(over_another_first_task(TRANSFER, whole.bank.masks(0)), [1])
    assert torch.equal(again.bank.rows[1], whole.bank.rows[1])
    assert torch.equal(again.bank.buffers[1], whole.bank.buffers[1])


def test_task_0_starts_fresh_and_the_next_from_its_mask():
    """A task whose scores hardly move keeps the mask that it starts from; two masks have one budget."""
    still = learn(learner(replace(EDGE_POPUP, training=WITHOUT_STEPS)), range(2))
    transferred = learn(learner(replace(TRANSFER, training=WITHOUT_STEPS)), range(2))
    assert torch.equal(transferred.bank.rows[0], still.bank.rows[0])
    assert torch.equal(transferred.bank.rows[1], transferred.bank.rows[0])
    assert not torch.equal(still.bank.rows[1], still.bank.rows[0])
    moved = learn(learner(TRANSFER), range(2))
    assert not torch.equal(moved.bank.rows[1], moved.bank.rows[0])


def test_going_on_from_files_with_transfer_ends_as_if_never_stopped(tmp_path):
    whole = learn(learner(TRANSFER), range(3))
    stopped = learn(learner(TRANSFER), range(2))
    stopped.save(tmp_path)
    opened = learner(TRANSFER)
    opened.bank = MaskBank.open(tmp_path, opened.net)
    learn(opened, [2])
    assert torch.equal(opened.bank.rows, whole.bank.rows)
    assert torch.equal(opened.bank.buffers, whole.bank.buffers)


def test_task_0_may_be_trained_for_another_time():
    training = replace(TRAINING, first_epochs=1)
    calls = []
    method = learner(replace(EDGE_POPUP, training=training))
    learn(method, [0], on_batch=lambda: calls.append(0))
    learn(method, [1], on_batch=lambda: calls.append(1))
    assert (calls.count(0), calls.count(1)) == (4, STEPS)
    usual = learn(learner(), [0, 1])
    assert torch.equal(method.bank.rows[1], usual.bank.rows[1])
    assert not torch.equal(method.bank.rows[0], usual.bank.rows[0])
    short = learn(learner(replace(EDGE_POPUP, training=replace(TRAINING, epochs=1))), [0])
    assert torch.equal(method.bank.rows[0], short.bank.rows[0])


def test_an_epoch_that_ends_with_one_image_is_learned_without_it():
    """25 images: three batches of 8 and one of a single image, which has no variance."""
    seen = []
    method = learn(learner(), [0], images=25, on_batch=lambda: seen.append(1))
    assert len(stream(25)[0].train) == 25
    assert len(seen) == 12
    assert bool(torch.isfinite(method.bank.buffers).all())

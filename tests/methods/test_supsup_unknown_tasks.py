from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from supsup_core import FrozenNetwork, InvalidArgument, MaskBank, entropy, one_shot_each
from supsup_core.novelty import Recognitions
from supsup_datasets import Batch, PermutedStream, RecurringStream, Scenario, embedded_mnist
from supsup_methods.backbones import fully_connected
from supsup_methods.continual_method import Problem
from supsup_methods.evaluation import evaluate_task
from supsup_methods.mask_rules import fresh_scores, scores_of_mask
from supsup_methods.supsup_unknown_tasks import KIND, Allocation, SupSupUnknownTasks, UnknownTasksSettings
from supsup_methods.training_length import StreamTraining

SETTINGS = UnknownTasksSettings(
    training=StreamTraining(batches=60, batch_size=64, learning_rate=1e-3), allocation=Allocation(every=20)
)
CPU = torch.device("cpu")


def problem():
    return Problem(lambda: fully_connected(784, (100, 50), 50), 10, 0, CPU)


def digits(tasks=3):
    return PermutedStream(embedded_mnist(), tasks, 0)


def learned(stream, settings=SETTINGS, shown=None):
    method = SupSupUnknownTasks(problem().network(), settings, 10, 0)
    for index in range(len(stream)):
        method.learn([shown(stream[index]) if shown else stream[index]], lambda: None)
    return method


def masks_of(method):
    """Return the mask of each decision."""
    return [decision.mask for decision in method.decisions]


@pytest.fixture(scope="module")
def taught():
    return learned(digits())


def test_every_task_gets_a_mask_of_its_own_from_the_first_on(taught):
    assert masks_of(taught) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [decision.new for decision in taught.decisions] == [True, False, False] * 3
    assert [decision.batch for decision in taught.decisions] == [20 * number for number in range(9)]
    assert taught.decisions[0].ratio == 1.0
    for task in range(3):
        score = evaluate_task(taught, digits()[task], Scenario.NNs, 100, owners={0: 0, 1: 1, 2: 2})
        assert score.accuracy > 0.7
        assert score.guesses_right == score.guesses


def test_a_task_that_comes_back_finds_its_mask(taught):
    stream = RecurringStream(digits(2), 5, 0)
    identities = [stream[index].identity for index in range(5)]
    method = learned(stream)
    assert len(method.bank) == 2
    first = {identity: mask for mask, identity in enumerate(dict.fromkeys(identities))}
    assert masks_of(method) == [first[identity] for identity in identities for _ in range(3)]


def test_a_mask_that_is_found_again_learns_on():
    """Two tasks that alternate, twice: after the second time, each is known better than after the first."""
    stream = RecurringStream(digits(2), 4, 1)
    method = learned(stream)
    identities = [stream[index].identity for index in range(4)]
    task = stream[0]
    again = max(index for index in range(4) if identities[index] == task.identity)
    assert again > 0
    before, after = (
        evaluate_task(method.first(stretches), task, Scenario.NNs, 100).accuracy for stretches in (1, again + 1)
    )
    assert after > before


def test_a_task_that_ends_between_two_decisions_does_not_spoil_its_mask():
    """50 batches a stretch, a decision every 20: at batch 60 ten of the next task are in mask 0 already."""
    settings = replace(SETTINGS, training=replace(SETTINGS.training, batches=50))
    method = learned(digits(2), settings)
    assert masks_of(method) == [0, 0, 0, 1, 1]
    # Mask 0 went back to its bits at batch 40, which are those of a training of 40 batches.
    alone = SupSupUnknownTasks(problem().network(), settings, 10, 0)
    task = digits(2)[0]

    class Shorter:
        """The first 40 batches alone."""

        num_labels = task.num_labels

        def __len__(self):
            return len(task.train)

        def shuffled(self, batch_size, batches, generator, *, skip):
            return list(task.train.shuffled(batch_size, batches, generator))[:40]

    alone.learn([replace(task, train=Shorter())], lambda: None)
    assert all(torch.equal(method.bank.masks(0)[name], alone.bank.masks(0)[name]) for name in method.net.frozen)


@pytest.mark.parametrize("nearest", [0, 1])
def test_where_the_budget_is_used_up_the_nearest_mask_is_trained_on(nearest, monkeypatch):
    method = learned(digits(2), replace(SETTINGS, allocation=Allocation(every=20, budget=2)))
    assert masks_of(method) == [0, 0, 0, 1, 1, 1]
    unknown = Recognitions(torch.tensor([nearest]), torch.tensor([1.0]), torch.tensor([0]))
    monkeypatch.setattr(method, "recognise", lambda images, size=1: unknown)
    method.learn([digits(3)[2]], lambda: None)
    assert len(method.bank) == 2
    assert masks_of(method)[6:] == [nearest] * 3
    assert not any(decision.new for decision in method.decisions[6:])


def test_labels_and_stretches_decide_nothing_about_masks(taught):
    """The same batches, all in one stretch of another index and identity, and with labels that say nothing."""
    settings = replace(SETTINGS, training=replace(SETTINGS.training, batches=180))
    tasks = [digits()[index] for index in range(3)]

    class AllInOne:
        num_labels = 10

        def __len__(self):
            return len(tasks[0].train)

        def shuffled(self, batch_size, batches, generator, *, skip):
            from supsup_datasets.seeds import generator as order

            for task in tasks:
                yield from task.train.shuffled(batch_size, 60, order(0, "training order", task.index))

    whole = SupSupUnknownTasks(problem().network(), settings, 10, 0)
    whole.learn([replace(tasks[0], train=AllInOne())], lambda: None)
    assert [(one.batch, one.mask, one.new, one.ratio) for one in whole.decisions] == [
        (one.batch, one.mask, one.new, one.ratio) for one in taught.decisions
    ]
    for mask in range(3):
        assert torch.equal(whole.bank.rows[mask], taught.bank.rows[mask])


def test_the_first_decision_of_a_stretch_is_the_rule_of_the_module(taught):
    """At batch 60, with mask 0 as it was at batch 40 and the fresh mask of index 1, by a bank that holds both."""
    early = learned(digits(1), replace(SETTINGS, training=replace(SETTINGS.training, batches=40)))
    net = early.net
    bank = MaskBank(net)
    bank.append(early.bank.masks(0))
    bank.append(net.unflatten(fresh_scores(net, 0, 1) >= 0))
    task = digits()[1]
    from supsup_datasets.seeds import generator

    batch: Batch = next(iter(task.train.shuffled(64, 60, generator(0, "training order", 1))))
    slopes = one_shot_each(entropy, net, bank, batch.images, len(batch)).slopes[0][0]
    expected = 2 * float(torch.softmax(-slopes, dim=0).max())
    assert taught.decisions[3].ratio == pytest.approx(expected, rel=1e-4)


def test_it_says_unknown_of_tasks_that_it_never_saw(taught):
    stream = digits(8)
    known = [next(stream[task].test.in_order(100)).images for task in range(3)]
    unknown = [next(stream[task].test.in_order(100)).images for task in range(3, 8)]
    assert [taught.recognise(images, 100).tasks(1 / 8) for images in known] == [[0], [1], [2]]
    assert [taught.recognise(images, 100).tasks(1 / 8) for images in unknown] == [[None]] * 5


def test_the_state_after_fewer_stretches_is_had_again(taught):
    early = learned(digits(2))
    then = taught.first(2)
    assert then.tasks_learned == 2
    assert torch.equal(then.bank.rows, early.bank.rows)
    assert then.decisions == early.decisions
    with pytest.raises(InvalidArgument, match="learned in turn"):
        then.learn([digits()[0]], lambda: None)


def test_files_hold_each_stretch_once_and_a_resumed_stream_ends_with_the_same_bits(tmp_path):
    settings = replace(SETTINGS, training=replace(SETTINGS.training, batches=50))
    stream = RecurringStream(digits(2), 4, 0)
    whole = learned(stream, settings)
    for index in range(4):
        method = KIND.open(tmp_path, settings, problem(), None).method
        assert method.tasks_learned == index
        method.learn([stream[index]], lambda: None)
        method.save(tmp_path)
    again = KIND.open(tmp_path, settings, problem(), None).method
    assert torch.equal(again.bank.rows, whole.bank.rows)
    assert again.decisions == whole.decisions
    files = sorted(tmp_path.glob("task-*.safetensors"))
    assert len(files) == 4
    rows = [len(load_file(file)["rows"]) for file in files]
    assert max(rows) <= 2, "bits that did not change are not written again"


def test_an_aligned_stream_writes_each_mask_once(taught, tmp_path):
    taught.save(tmp_path)
    assert [len(load_file(file)["rows"]) for file in sorted(tmp_path.glob("task-*.safetensors"))] == [1, 1, 1]


def test_a_score_of_zero_outside_of_the_mask_stays_outside():
    net = FrozenNetwork(fully_connected(4, (3,), 2), 0)
    mask = torch.zeros(net.num_bits, dtype=torch.bool)
    assert bool((scores_of_mask(net, mask, 0, 0) < 0).all())
    mask[3] = True
    assert torch.equal(scores_of_mask(net, mask, 0, 0) >= 0, mask)

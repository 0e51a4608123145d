"""What PSP, the bounds and separate heads have in common: they learn, remember what they may, and go on from their files."""

import itertools

import pytest
import torch
from supsup_core import CorruptBank, InvalidArgument, NetworkMismatch
from supsup_methods import lower_bound, psp, upper_bound
from supsup_methods.backbones import fully_connected
from supsup_methods.dense_training import DenseTraining
from supsup_methods.separate_heads import HeadTraining, SeparateHeadsSettings

from .dense_problems import ALL, FORGETFUL, LABELS, LOWER, accuracy, images, learn, opened, problem, stream, taught

all_methods = pytest.mark.parametrize("name", ALL)
sequences = pytest.mark.parametrize("name", FORGETFUL)
independent = pytest.mark.parametrize("name", [name for name in ALL if name not in FORGETFUL])


def answers(method, tasks: int) -> list[torch.Tensor]:
    return [method.logits(images(task), task) for task in range(tasks)]


def same(left, right) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@all_methods
def test_it_learns_tasks_that_are_given(name):
    method = taught(ALL[name], 3)
    assert method.tasks_learned == 3
    assert method.infer_each is None
    # Of 63 images, 21 by chance, with a standard deviation of 3.7: 42 are more than five above.
    assert min(accuracy(method, task) for task in range(3)) > 2 / LABELS


@independent
def test_learning_more_changes_no_earlier_answer(name):
    method = taught(ALL[name], 2)
    before = answers(method, 2)
    learn(method, stream()[2], stream()[3])
    assert same(answers(method, 2), before)


@sequences
def test_learning_more_changes_earlier_answers(name):
    method = taught(ALL[name], 2)
    before = answers(method, 2)
    learn(method, stream()[2])
    assert not torch.equal(method.logits(images(0), 0), before[0])
    assert not torch.equal(method.logits(images(1), 1), before[1])


@independent
def test_the_first_tasks_are_the_method_as_it_was(name):
    method = taught(ALL[name], 3)
    assert same(answers(method.first(2), 2), answers(taught(ALL[name], 2), 2))
    for tasks in (0, 1, 2):  # and they can be gone on from
        first = method.first(tasks)
        assert first.tasks_learned == tasks
        learn(first, stream()[tasks])
        assert same(answers(first, tasks + 1), answers(method, tasks + 1))
    assert method.tasks_learned == 3


@sequences
def test_the_first_tasks_are_gone_once_more_are_learned(name):
    method = taught(ALL[name], 2)
    assert method.first(2) is method
    assert method.first(1) is None


@all_methods
def test_the_same_seed_learns_the_same_bits_and_another_others(name):
    assert same(answers(taught(ALL[name], 2), 2), answers(taught(ALL[name], 2), 2))
    assert not same(answers(taught(ALL[name], 2, seed=1), 2), answers(taught(ALL[name], 2), 2))


@all_methods
def test_tasks_learned_in_one_call_are_as_those_learned_one_by_one(name):
    method = opened(ALL[name]).method
    for task in (0, 1):
        learn(method, stream()[task])
    assert same(answers(method, 2), answers(taught(ALL[name], 2), 2))


@all_methods
def test_every_batch_is_reported(name):
    counted = itertools.count()
    opened(ALL[name]).method.learn([stream()[0], stream()[1]], lambda: next(counted))
    assert next(counted) == 2 * 80


@all_methods
def test_it_goes_on_from_its_files_to_the_same_bits(name, tmp_path):
    whole = taught(ALL[name], 3)
    part = taught(ALL[name], 2)
    part.save(tmp_path / "state")
    again, notes = opened(ALL[name], tmp_path / "state").method, opened(ALL[name], tmp_path / "state").notes
    assert notes == ()
    assert again.bytes == part.bytes
    assert same(answers(again, 2), answers(part, 2))
    learn(again, stream()[2])
    again.save(tmp_path / "state")
    assert same(answers(again, 3), answers(whole, 3))
    assert same(answers(opened(ALL[name], tmp_path / "state").method, 3), answers(whole, 3))


@all_methods
def test_nothing_learned_is_nothing_stored(name, tmp_path):
    method = opened(ALL[name], tmp_path / "state").method
    method.save(tmp_path / "state")
    assert (method.tasks_learned, method.bytes.total) == (0, 0)
    assert opened(ALL[name], tmp_path / "state").method.tasks_learned == 0


@all_methods
def test_a_stop_in_the_middle_of_a_task_leaves_the_tasks_before(name):
    method = taught(ALL[name], 1)
    before = answers(method, 1)
    batches = itertools.count(1)

    def stop() -> None:
        if next(batches) == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.learn([stream()[1]], stop)
    assert method.tasks_learned == 1
    assert same(answers(method, 1), before)
    learn(method, stream()[1])
    assert same(answers(method, 2), answers(taught(ALL[name], 2), 2))


@all_methods
def test_damage_is_mended_by_learning_again(name, tmp_path):
    """Where tasks do not hang together the one before is kept; where they do, all are learned again."""
    whole = taught(ALL[name], 3)
    whole.save(tmp_path / "state")
    file = "shared" if name in ("psp", "shared") else "task-000001"
    path = tmp_path / "state" / f"{file}.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptBank, match=f"{file}.*checksum; resume"):
        opened(ALL[name], tmp_path / "state", mend=False)
    again = opened(ALL[name], tmp_path / "state")
    assert len(again.notes) == 1
    assert again.method.tasks_learned == (0 if name in FORGETFUL else 1)
    learn(again.method, *(stream()[task] for task in range(again.method.tasks_learned, 3)))
    again.method.save(tmp_path / "state")
    assert same(answers(again.method, 3), answers(whole, 3))
    assert opened(ALL[name], tmp_path / "state").notes == ()


def test_a_stop_between_a_head_and_the_trunk_leaves_the_bound_as_it_was(tmp_path, monkeypatch):
    method = taught(LOWER, 2)
    method.save(tmp_path)
    before = answers(method, 2)
    learn(method, stream()[2])

    def stop(*arguments) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lower_bound, "write_shared", stop)
    with pytest.raises(KeyboardInterrupt):
        method.save(tmp_path)
    again = opened(LOWER, tmp_path)
    assert (again.method.tasks_learned, again.notes) == (2, ())
    assert same(answers(again.method, 2), before)


@all_methods
def test_tasks_are_learned_in_turn_and_asked_about_afterwards(name):
    method = taught(ALL[name], 1)
    with pytest.raises(InvalidArgument, match=r"task 2: 1 tasks are learned.*learn task 1 next"):
        learn(method, stream()[2])
    for task in (1, -1):
        with pytest.raises(InvalidArgument, match=f"task={task}: 1 tasks are learned"):
            method.logits(images(0), task)


@all_methods
def test_files_of_a_network_of_other_shapes_are_refused(name, tmp_path):
    (kind, settings), wider = ALL[name], problem(backbone=lambda: fully_connected(20, (32, 24), LABELS))
    taught(ALL[name], 1).save(tmp_path)
    with pytest.raises(NetworkMismatch, match="open it with the settings it was saved with"):
        kind.open(tmp_path, settings, wider, None)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (psp.KIND, psp.PspSettings(training=DenseTraining(batches=5, batch_size=20, learning_rate=1e30))),
        (upper_bound.KIND, upper_bound.UpperBoundSettings(training=DenseTraining(5, 20, learning_rate=1e30))),
        (lower_bound.KIND, lower_bound.LowerBoundSettings(training=DenseTraining(5, 20, learning_rate=1e30))),
        (ALL["heads"][0], SeparateHeadsSettings(training=HeadTraining(5, 20, trunk_learning_rate=1e30))),
    ],
)
def test_a_diverging_training_names_the_learning_rate_and_learns_nothing(kind, settings):
    method = opened((kind, settings)).method
    with pytest.raises(InvalidArgument, match=r"learning_rate=1e\+30: the weights diverged"):
        learn(method, stream()[0])
    assert method.tasks_learned == 0


def test_no_training_changes_the_networks_own_weights():
    for kind_and_settings in ALL.values():
        method = opened(kind_and_settings).method
        before = method.net.flatten(method.net.frozen)
        learn(method, stream()[0])
        assert torch.equal(method.net.flatten(method.net.frozen), before)

"""What is particular to the upper bound, the lower bound and separate heads: what they share, and what that costs."""

from dataclasses import replace

import pytest
import torch
from supsup_methods import lower_bound, separate_heads, upper_bound
from supsup_methods.dense_training import DenseTraining, train_weights
from supsup_methods.separate_heads import HeadTraining
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .dense_problems import (
    ALL,
    CARRIED,
    HEAD,
    HEADS,
    LABELS,
    LOWER,
    NOWHERE,
    RANDOM,
    SHARED,
    UPPER,
    WEIGHTS,
    accuracy,
    images,
    learn,
    opened,
    problem,
    stream,
    taught,
)

TRUNK = WEIGHTS - HEAD
OF_TRUNK = ("1.weight", "3.weight")
SHORT = DenseTraining(batches=1, batch_size=20, learning_rate=1e-6)


class Products(TorchDispatchMode):
    """Counts torch's operators while they run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*arguments, **(options or {}))

    def count(self, name):
        return self.names.count(name)


@pytest.mark.parametrize(
    ("name", "contexts", "shared"),
    [
        ("upper", 3 * WEIGHTS, 0),
        ("carried", 3 * WEIGHTS, 0),
        ("lower", 3 * HEAD, TRUNK),
        ("shared", 0, WEIGHTS),
        ("heads", 3 * HEAD, TRUNK),
        ("random", 3 * HEAD, 0),
    ],
)
def test_bytes_are_four_for_every_float_that_no_seed_gives(name, contexts, shared):
    method = taught(ALL[name], 3)
    assert (method.bytes.contexts, method.bytes.shared, method.bytes.buffers) == (4 * contexts, 4 * shared, 0)
    assert ALL[name][0].stored_bytes(ALL[name][1], method.net, 3) == method.bytes.total
    assert ALL[name][0].stored_bytes(ALL[name][1], method.net, 0) == 0


def test_the_upper_bound_shares_nothing():
    """A task's model is what it would be if no other task had been learned: only its index tells it from the first."""
    method = taught(UPPER, 2)
    assert not torch.equal(method.models[0]["1.weight"], method.models[1]["1.weight"])
    starts = opened((upper_bound.KIND, upper_bound.UpperBoundSettings(training=SHORT))).method
    learn(starts, stream()[0], stream()[1])
    # Each from random weights of its own: after one tiny step they are still as far apart as independent draws.
    first, second = starts.models[0]["1.weight"], starts.models[1]["1.weight"]
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 5 / 640**0.5


def test_a_carried_trunk_starts_where_the_task_before_ended_and_the_head_anew():
    settings = upper_bound.UpperBoundSettings(training=SHORT, carry_on=True)
    method = opened((upper_bound.KIND, settings)).method
    learn(method, stream()[0], stream()[1])
    first, second = method.models
    for name in OF_TRUNK:
        # RMSprop's first step is ten learning rates at most.
        assert (first[name] - second[name]).abs().max() <= 10 * 1e-6 * 1.01
        assert not torch.equal(first[name], second[name])
    assert (first["5.weight"] - second["5.weight"]).abs().max() > 0.1
    assert not torch.equal(taught(CARRIED, 2).models[1]["1.weight"], taught(UPPER, 2).models[1]["1.weight"])


def test_the_lower_bound_trains_the_trunk_on_and_no_earlier_head():
    method = taught(LOWER, 1)
    trunk, head = dict(method.trunk), method.heads[0]["5.weight"].clone()
    learn(method, stream()[1])
    assert all(not torch.equal(method.trunk[name], trunk[name]) for name in OF_TRUNK)
    assert torch.equal(method.heads[0]["5.weight"], head)


def test_the_lower_bound_forgets_and_the_upper_bound_does_not():
    """Eight permutations with one narrow trunk: the first tasks suffer, and the last one does not."""
    lower, upper = taught(LOWER, 8), taught(UPPER, 8)
    assert accuracy(lower, 7) > 0.9
    assert accuracy(lower, 0) < 0.8
    assert min(accuracy(upper, task) for task in range(8)) > 0.9


def test_a_shared_head_is_trained_on_like_the_trunk():
    method = taught(SHARED, 1)
    head = method.trunk["5.weight"].clone()
    assert method.heads == [{}]
    learn(method, stream()[1])
    assert not torch.equal(method.trunk["5.weight"], head)
    assert torch.equal(method.logits(images(0), 0), method.logits(images(0), 1))  # nothing tells tasks apart


def test_what_is_kept_of_a_task_does_not_hold_the_trunk_in_memory():
    for method in (taught(LOWER, 1), taught(HEADS, 1)):
        assert method.heads[0]["5.weight"].untyped_storage().nbytes() == 4 * HEAD


@pytest.mark.parametrize("which", [HEADS, RANDOM])
def test_separate_heads_train_their_trunk_on_task_0_or_never(which):
    method = opened(which).method
    random = dict(method.trunk)
    learn(method, stream()[0])
    trained = dict(method.trunk)
    for name in OF_TRUNK:
        assert torch.equal(trained[name], random[name]) == (which is RANDOM)
    learn(method, stream()[1])
    assert all(torch.equal(method.trunk[name], trained[name]) for name in OF_TRUNK)


def test_no_gradient_is_computed_for_a_frozen_trunk(monkeypatch):
    seen = []

    class Spied:
        def __init__(self, gradients):
            self.gradients = gradients

        def write(self, weights, batch, out):
            before = products.count("mm")
            self.gradients.write(weights, batch, out)
            seen.append((set(weights), set(out), products.count("mm") - before))

    def spied(of, gradients, *arguments):
        return train_weights(of, Spied(gradients), *arguments)

    monkeypatch.setattr(separate_heads, "train_weights", spied)
    with Products() as products:
        learn(opened(RANDOM).method, stream()[0])
    assert seen
    # A product for each of three layers on the way to the logits, and one for the head's gradient.
    assert {(*trained, *wanted, count) for trained, wanted, count in seen} == {("5.weight", "5.weight", 4)}


def test_the_two_learning_rates_of_separate_heads_are_for_what_they_say():
    def weights(**rates):
        settings = separate_heads.SeparateHeadsSettings(training=HeadTraining(batches=3, batch_size=20, **rates))
        method = opened((separate_heads.KIND, settings)).method
        learn(method, stream()[0], stream()[1])
        return [method.trunk["1.weight"], *(head["5.weight"] for head in method.heads)]

    def changed(**rates):
        return [not torch.equal(new, old) for new, old in zip(weights(**rates), weights(), strict=True)]

    assert changed(trunk_learning_rate=2e-3) == [True, True, True]
    assert changed(head_learning_rate=2e-2) == [False, False, True]


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(20, 16, bias=False), nn.BatchNorm1d(16, affine=False), nn.ReLU(), nn.Linear(16, LABELS)
    )


@pytest.mark.parametrize("name", ["upper", "carried", "lower", "shared", "heads", "random"])
def test_running_statistics_are_each_tasks_own_and_stored(name, tmp_path):
    """Mean and variance of 16 channels for each of 3 tasks: the batch norm's answers in evaluation depend on them."""
    kind, settings = ALL[name]
    method = kind.open(NOWHERE, settings, problem(backbone=normalised), None).method
    learn(method, *(stream()[task] for task in range(3)))
    assert method.bytes.buffers == 4 * 3 * 2 * 16
    assert kind.stored_bytes(settings, method.net, 3) == method.bytes.total
    contexts = method.models if name in ("upper", "carried") else method.heads
    means = [context["2.running_mean"] for context in contexts]
    assert not torch.equal(means[0], means[1])
    assert means[0].abs().max() > 0
    assert accuracy(method, 2) > 2 / 3
    method.save(tmp_path)
    again = kind.open(tmp_path, settings, problem(backbone=normalised), None).method
    assert all(torch.equal(again.logits(images(task), task), method.logits(images(task), task)) for task in range(3))


def test_a_trunk_and_the_first_head_lie_in_one_file(tmp_path):
    taught(HEADS, 2).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"task-000000.safetensors", "task-000001.safetensors"}
    (tmp_path / "task-000000.safetensors").unlink()
    again = opened(HEADS, tmp_path)
    assert again.method.tasks_learned == 0
    assert "task-000000.safetensors: it is missing" in again.notes[0]


def test_defaults_are_the_papers():
    for kind in (lower_bound.KIND, upper_bound.KIND):
        assert kind.settings().training == DenseTraining(batches=1000, batch_size=128, learning_rate=1e-4)
    assert separate_heads.KIND.settings().training == HeadTraining(
        batches=1000, batch_size=128, trunk_learning_rate=1e-3, head_learning_rate=1e-2
    )
    assert upper_bound.KIND.settings().carry_on is False


@pytest.mark.parametrize("name", ["upper", "carried", "lower", "heads", "random"])
def test_what_a_task_starts_from_depends_on_the_seed(name):
    kind, settings = ALL[name]
    rates = {each: 1e-9 for each in vars(settings.training) if each.endswith("learning_rate")}
    still = kind, replace(settings, training=replace(settings.training, batches=1, **rates))
    heads = []
    for seed in (0, 1):
        learner = taught(still, 2, seed)
        heads.append(torch.stack([own["5.weight"] for own in getattr(learner, "models", None) or learner.heads]))
    assert (heads[0] - heads[1]).abs().amax(dim=(1, 2)).min() > 0.01

import dataclasses
import inspect
import itertools

import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, NetworkMismatch, entropy, kaiming_normal, one_shot
from supsup_core.linear_chain import LinearChain
from supsup_datasets import ImageDataset, LabelledImages, Normalization, PermutedStream
from supsup_methods.backbones import fully_connected
from supsup_methods.batch_ensemble import KIND, BatchE, BatchESettings
from supsup_methods.continual_method import MethodBytes, Problem
from supsup_methods.task_guessing import OneShot
from supsup_methods.training_length import TaskTraining
from supsup_methods.vector_training import (
    effective_weights,
    fresh_vectors,
    vectorised_logits,
)
from torch import nn

CPU = torch.device("cpu")
LONG = TaskTraining(120, 20)  # enough to learn; where only bits are compared, a few batches do


def labelled(count, seed):
    """Noise around the means of three classes of 4 × 5 images."""
    means = torch.randint(40, 216, (3, 1, 4, 5), generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % 3
    noise = torch.randint(-40, 40, (count, 1, 4, 5), generator=torch.Generator().manual_seed(seed))
    return LabelledImages((means[labels] + noise).to(torch.uint8), labels, 3)


def stream(tasks=4, seed=0):
    data = ImageDataset("blobs", labelled(120, 0), labelled(63, 1), Normalization((0.5,), (0.25,)))
    return PermutedStream(data, tasks, seed)


def settings(**changes):
    tiny = BatchESettings(training=TaskTraining(9, 20), trunk_learning_rate=0.003, vectors_learning_rate=0.02)
    return dataclasses.replace(tiny, **changes)


def linear_module():
    return fully_connected(20, (64, 32), 12)


def convolutional_module():
    head = nn.Linear(8, 3, bias=False)
    body = (nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*body, nn.Flatten(), head)


def problem(seed=0, module=linear_module):
    return Problem(module, num_labels=3, seed=seed, device=CPU)


def taught(tasks=4, seed=0, module=linear_module, **changes):
    method = BatchE(settings(**changes), problem(seed, module))
    method.learn([stream()[index] for index in range(tasks)], lambda: None)
    return method


def reopened(folder, module=linear_module, **changes):
    return KIND.open(folder, settings(**changes), problem(0, module), lambda tasks: tasks)


def shown(task, count=63):
    return stream()[task].test.batch(torch.arange(count))


def accuracy_fraction(method, task):
    batch = shown(task)
    return float((method.logits(batch.images, task).argmax(dim=1) == batch.labels).float().mean())


def assert_same_answers(one, other, tasks):
    for task in range(tasks):
        images = shown(task).images
        assert torch.equal(one.logits(images, task), other.logits(images, task))


VARIANTS = [
    {},
    {"trunk": "random"},
    {"last_layer": "head"},
    {"last_layer": "head", "trunk": "random"},
    {"module": convolutional_module, "vectors_learning_rate": 0.1, "trunk_learning_rate": 0.05},
    {
        "module": convolutional_module,
        "last_layer": "head",
        "vectors_learning_rate": 0.1,
        "trunk_learning_rate": 0.05,
    },
]
IDS = ["rank-one", "random", "head", "head-random", "conv", "conv-head"]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=IDS)


@variants
def test_it_learns_tasks_and_changes_no_earlier_answer(variant):
    method, images = taught(1, training=LONG, **variant), shown(0).images
    before = method.logits(images, 0)
    method.learn([stream()[1], stream()[2]], lambda: None)
    assert method.tasks_learned == 3
    assert torch.equal(method.logits(images, 0), before)
    # By chance 1/3, with a standard deviation of .06 over 63 images; a task's vectors must also matter.
    assert min(accuracy_fraction(method, task) for task in range(3)) > 1 / 3 + 5 * 0.06
    assert not torch.equal(method.logits(images, 1), before)


def test_task_0_trains_w_and_no_other_does():
    fresh, method = problem().network(kaiming_normal).frozen, taught(1)
    after_task_0 = {name: value.clone() for name, value in method.net.frozen.items()}
    assert not any(torch.equal(fresh[name], value) for name, value in after_task_0.items())
    method.learn([stream()[1]], lambda: None)
    assert all(torch.equal(after_task_0[name], value) for name, value in method.net.frozen.items())
    random = taught(2, trunk="random").net.frozen
    assert all(torch.equal(fresh[name], value) for name, value in random.items())


def test_vectors_start_as_signs_that_no_task_or_layer_or_seed_shares():
    net = problem().network(kaiming_normal)
    drawn = [fresh_vectors(net, seed, task) for seed, task in ((0, 0), (0, 1), (1, 0))]
    assert all(bool((value.abs() == 1).all()) for values in drawn for value in values.values())
    # Of 64 fair signs two draws share 32, with a standard deviation of 4; r of layer 2 and s of layer 1 are as wide.
    wide = [value for values in drawn for value in values.values() if len(value) == 64]
    assert len(wide) == 6
    for one, other in itertools.combinations(wide, 2):
        assert abs(int((one == other).sum()) - 32) < 5 * 4


def test_logits_are_those_of_the_vectors_it_learned():
    method, images = taught(2), shown(1).images
    values = {}
    for name, (r, s) in method.bank.factors(1).items():
        values |= {f"r.{name}": r, f"s.{name}": s}
    logits = method.logits(images, 1)
    assert torch.equal(logits, method.net(images, effective_weights(method.net, values)))
    vectorised = vectorised_logits(LinearChain.of(method.net), method.net, values, images)
    assert torch.allclose(logits, vectorised, atol=1e-4 * float(logits.abs().max()))


def test_one_shot_over_its_factors_tells_tasks_apart():
    """It takes a wide network and many outputs, as in Table 7: in the small one above all images look like one task's."""
    rates = {"trunk_learning_rate": 0.001, "vectors_learning_rate": 0.02}
    inference = OneShot(images_per_guess=9)
    method = taught(4, module=lambda: fully_connected(20, (512,), 200), training=LONG, inference=inference, **rates)
    batches = [batch.images for index in range(4) for batch in stream()[index].test.in_order(9)]
    truth = [index for index in range(4) for _ in range(7)]
    guesses = method.infer_each(batches)
    for images, guess in zip(batches, guesses, strict=True):
        assert guess.task == one_shot(entropy, method.net, method.bank, images).task
        assert 0 < guess.confidence <= 1
    # 28 guesses among four tasks: by chance 7 right, with a standard deviation of 2.3. Four seeds gave 16 to 28, this one 28.
    assert sum(guess.task == task for guess, task in zip(guesses, truth, strict=True)) > 7 + 4 * 2.3


def test_labels_and_the_true_task_are_no_arguments_of_a_guess():
    assert list(inspect.signature(taught(2).infer_each).parameters) == ["batches"]


def test_with_heads_the_task_must_be_given():
    assert taught(1, last_layer="head").infer_each is None


@variants
def test_the_same_seed_learns_the_same_bits(variant):
    one, other = taught(2, **variant), taught(2, **variant)
    assert_same_answers(one, other, 2)
    images = shown(0).images
    assert not torch.equal(taught(1, seed=1, **variant).logits(images, 0), one.logits(images, 0))


@variants
def test_opened_it_answers_the_same_and_goes_on_to_the_same_bits(tmp_path, variant):
    folder, tasks = tmp_path / "method", stream()
    stopped = taught(2, **variant)
    stopped.save(folder)
    opened = reopened(folder, **variant)
    assert opened.notes == ()
    assert opened.method.tasks_learned == 2
    assert opened.method.bytes == stopped.bytes
    assert_same_answers(opened.method, stopped, 2)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    opened.method.learn([tasks[2]], lambda: None)
    opened.method.save(folder)
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before  # nothing is written twice
    assert_same_answers(reopened(folder, **variant).method, taught(3, **variant), 3)


def test_a_stop_between_the_shared_weights_and_task_0_starts_afresh(tmp_path):
    folder = tmp_path / "method"
    taught(1).save(folder)
    (folder / "task-000000.safetensors").unlink()
    opened = reopened(folder)
    assert opened.method.tasks_learned == 0
    assert opened.method.bytes.total == 0
    opened.method.learn([stream()[0]], lambda: None)
    assert_same_answers(opened.method, taught(1), 1)


@variants
def test_damage_to_a_later_task_keeps_the_earlier(tmp_path, variant):
    folder, whole = tmp_path / "method", taught(3, **variant)
    whole.save(folder)
    damaged = folder / "task-000001.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    opened = reopened(folder, **variant)
    assert opened.method.tasks_learned == 1
    assert len(opened.notes) == 1
    assert "task-000001" in opened.notes[0]
    assert_same_answers(opened.method, whole, 1)
    opened.method.learn([stream()[1], stream()[2]], lambda: None)
    opened.method.save(folder)
    again = reopened(folder, **variant)
    assert again.notes == ()
    assert_same_answers(again.method, whole, 3)


@pytest.mark.parametrize("loss", ["damaged", "missing"])
def test_without_the_trained_weights_all_is_learned_again(tmp_path, loss):
    folder, whole = tmp_path / "method", taught(2)
    whole.save(folder)
    shared = folder / "shared.safetensors"
    if loss == "missing":
        shared.unlink()
    else:
        shared.write_bytes(shared.read_bytes()[:-4])
    opened = reopened(folder)
    assert opened.method.tasks_learned == 0
    assert len(opened.notes) == 1
    assert "learned again" in opened.notes[0]
    opened.method.learn([stream()[0], stream()[1]], lambda: None)
    opened.method.save(folder)
    assert_same_answers(reopened(folder).method, whole, 2)


def test_a_random_trunk_has_no_shared_file(tmp_path):
    taught(1, trunk="random").save(tmp_path / "random")
    taught(1).save(tmp_path / "trained")
    assert not (tmp_path / "random" / "shared.safetensors").exists()
    assert (tmp_path / "trained" / "shared.safetensors").exists()


def test_the_files_of_another_network_are_refused(tmp_path):
    taught(1).save(tmp_path / "method")
    with pytest.raises(NetworkMismatch, match="trained: shapes"):
        reopened(tmp_path / "method", module=lambda: fully_connected(20, (8,), 12))


@variants
def test_the_first_tasks_are_the_method_as_it_was(variant):
    method = taught(3, **variant)
    for tasks in (1, 2):
        first, then = method.first(tasks), taught(tasks, **variant)
        assert first.tasks_learned == tasks
        assert first.bytes == then.bytes
        assert_same_answers(first, then, tasks)
    assert method.first(0).bytes.total == 0


LINEAR_WEIGHTS = 20 * 64 + 64 * 32 + 32 * 12
LINEAR_VECTORS = 20 + 64 + 64 + 32 + 32 + 12
BYTES = [
    MethodBytes(4 * 3 * LINEAR_VECTORS, 4 * LINEAR_WEIGHTS, 0),
    MethodBytes(4 * 3 * LINEAR_VECTORS, 0, 0),
    MethodBytes(4 * 3 * (LINEAR_VECTORS - 44 + 32 * 12), 4 * (LINEAR_WEIGHTS - 32 * 12), 0),
    MethodBytes(4 * 3 * (LINEAR_VECTORS - 44 + 32 * 12), 0, 0),
    MethodBytes(4 * 3 * (1 + 8 + 8 + 3), 4 * (8 * 9 + 8 * 3), 4 * 3 * (8 + 8)),
    MethodBytes(4 * 3 * (1 + 8 + 8 * 3), 4 * 8 * 9, 4 * 3 * (8 + 8)),
]


@pytest.mark.parametrize(("variant", "expected"), list(zip(VARIANTS, BYTES, strict=True)), ids=IDS)
def test_bytes(variant, expected):
    method = taught(3, **variant)
    assert method.bytes == expected
    with torch.device("meta"):
        net = FrozenNetwork(variant.get("module", linear_module)(), 0)
    changes = {name: value for name, value in variant.items() if name != "module"}
    assert KIND.stored_bytes(settings(**changes), net, 3) == expected.total


@pytest.mark.parametrize(
    ("rate", "changes"),
    [("trunk_learning_rate", {}), ("vectors_learning_rate", {"trunk": "random"})],
)
def test_a_learning_rate_that_diverges_is_named_and_nothing_is_kept(rate, changes):
    # A step of Adam is as long as the rate: after the first, six layers scale by 1e6 to the twelfth power, beyond float32.
    deep = problem(module=lambda: fully_connected(20, (32,) * 5, 12))
    method = BatchE(settings(**changes, **{rate: 1e6}), deep)
    with pytest.raises(InvalidArgument, match=f"{rate}=1000000.0: .*lower it"):
        method.learn([stream()[0]], lambda: None)
    assert method.tasks_learned == 0
    assert method.bytes.total == 0


def test_a_head_needs_a_layer_below():
    with pytest.raises(InvalidArgument, match="the network has one layer"):
        BatchE(settings(last_layer="head"), problem(module=lambda: fully_connected(20, (), 12)))


def test_batches_are_reported():
    seen = []
    BatchE(settings(training=TaskTraining(7, 20)), problem()).learn([stream()[0], stream()[1]], lambda: seen.append(1))
    assert len(seen) == 14


def test_the_defaults_are_the_papers():
    default = BatchESettings()
    assert (default.trunk_learning_rate, default.vectors_learning_rate) == (1e-4, 1e-2)
    assert (default.training.batches, default.training.batch_size) == (1000, 128)
    assert (default.trunk, default.last_layer) == ("task-0", "rank-one")
    assert not KIND.side_by_side(default, problem().network())

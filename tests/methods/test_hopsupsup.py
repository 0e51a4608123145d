"""What is particular to HopSupSup: masks over units, what a reservoir keeps of them, and how one is found again."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from supsup_core import CorruptBank, InvalidArgument, NetworkMismatch, threshold
from supsup_core.hopfield import energy, hebb, storkey, strict_storkey
from supsup_datasets import Scenario, Unlabelled, embedded_mnist, split_mnist
from supsup_datasets.seeds import generator
from supsup_methods.backbones import normalised_fully_connected, small_convolutional
from supsup_methods.continual_method import Problem
from supsup_methods.evaluation import evaluate_task
from supsup_methods.hopsupsup import KIND, HopfieldRecovery, HopSupSup, HopSupSupSettings, UnitMaskTraining
from torch.nn.functional import cross_entropy

from .unit_mask_problems import (
    NOWHERE,
    SETTINGS,
    TRAINING,
    WIDTHS,
    learn,
    method_in_doubles,
    opened,
    problem,
    stream,
    task_in_doubles,
    taught,
)

EPS = torch.finfo(torch.float64).eps
RULES = {"hebb": hebb, "storkey": storkey, "strict-storkey": strict_storkey}
LAYERS = ("2.weight", "5.weight")
CPU = torch.device("cpu")


def same(some, others):
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def whole(images):
    (batch,) = images.in_order(len(images))
    return batch


def digits(task):
    """Return a task of SplitMNIST over 5,000 real digits, which lie sorted by class."""
    return split_mnist(embedded_mnist())[task]


def textbook_mask(net, task, training, seed):
    """Autograd through the straight-through threshold and torch's SGD, over images that are put in order here."""
    leaves = {entry.name: torch.zeros(entry.shape, dtype=net.dtype, requires_grad=True) for entry in net.maskable}
    optimizer = torch.optim.SGD(leaves.values(), lr=training.learning_rate)
    order, shown = generator(seed, "training order", task.index), whole(task.train)
    for _ in range(training.epochs):
        for members in torch.randperm(len(task.train), generator=order).split(training.batch_size):
            if len(members) > 1:  # one image has no variance
                optimizer.zero_grad()
                logits = net(shown.images[members], {name: threshold(leaf) for name, leaf in leaves.items()})
                cross_entropy(logits, shown.labels[members]).backward()
                optimizer.step()
    return {name: leaf.detach() >= 0 for name, leaf in leaves.items()}


def test_training_equals_autograd_through_the_threshold_and_torchs_sgd():
    tasks = [task_in_doubles(index) for index in range(3)]
    method = learn(method_in_doubles(SETTINGS, seed=5), *tasks)
    for task, mask in zip(tasks, method.right_masks, strict=True):
        # The scales are 1, so both do the very same operations: nothing is rounded otherwise.
        assert same(mask, textbook_mask(method.net, task, TRAINING, seed=5))
    half = sum(int(mask.sum()) for mask in method.right_masks[0].values()) / sum(WIDTHS)
    assert 0.1 < half < 0.9, "the mask must have moved, and not all of it"


def test_a_last_batch_of_a_single_image_is_passed_over_and_counted():
    seen = []
    method = learn(opened().method, stream()[0])
    method.learn([stream()[1]], lambda: seen.append(1))
    assert len(stream()[1].train) == 2 * TRAINING.batch_size + 1
    assert len(seen) == 3 * TRAINING.epochs


def test_the_learning_rate_scales_the_scores_and_decides_no_mask():
    """Scores start at 0, and the gradient knows their signs alone: twice the rate is twice the scores, bit for bit."""
    settings = replace(SETTINGS, training=replace(TRAINING, learning_rate=2 * TRAINING.learning_rate))
    for mask, other in zip(taught().right_masks, taught(settings).right_masks, strict=True):
        assert same(mask, other)


def test_a_mask_hangs_on_its_task_and_the_seed_and_not_on_what_was_learned_before():
    plain, torchs = taught(), torch.random.get_rng_state()
    torch.manual_seed(7)
    others = learn(
        opened(replace(SETTINGS, rule="hebb", couplings="across-layers")).method,
        replace(stream()[2], index=0),
        stream()[1],
    )
    together = opened().method
    together.learn([stream()[0], stream()[1], stream()[2]], lambda: None)
    torch.random.set_rng_state(torchs)
    assert same(others.right_masks[1], plain.right_masks[1])
    assert not same(others.right_masks[0], plain.right_masks[0])
    assert all(same(mask, other) for mask, other in zip(together.right_masks, plain.right_masks, strict=True))
    again = learn(opened().method, stream()[0], replace(stream()[0], index=1))
    assert not same(*again.right_masks), "another index is another order of the images"


@pytest.mark.parametrize("couplings", ["within-layers", "across-layers"])
@pytest.mark.parametrize("rule", RULES)
def test_the_reservoir_holds_what_the_rule_makes_of_the_learned_masks(rule, couplings):
    settings = replace(SETTINGS, rule=rule, couplings=couplings)
    method = learn(method_in_doubles(settings), *(task_in_doubles(index) for index in range(3)))
    strings = [{name: 2.0 * mask[name].double() - 1.0 for name in LAYERS} for mask in method.right_masks]
    if couplings == "across-layers":
        strings = [{"all layers": torch.cat([string[name] for name in LAYERS])} for string in strings]
    assert method.reservoir.couplings.keys() == strings[0].keys()
    for name in strings[0]:
        expected = torch.zeros(2 * strings[0][name].shape, dtype=torch.float64)
        for string in strings:
            expected = RULES[rule](expected, string[name])
        assert torch.equal(method.reservoir.couplings[name], expected)
        mean = torch.stack([string[name] for string in strings]).mean(dim=0)
        assert (method.reservoir.mean[name] - mean).abs().max() <= 9 * EPS  # three roundings for each task
    assert method.tasks_learned == method.reservoir.stored == 3


def textbook_recovery(method, batches, constants):
    """Equation 7 as printed, its energy with the minus, by autograd and torch's SGD: yield H, E, J and the masks after."""
    reservoir, widths = method.reservoir, [entry.size for entry in method.net.maskable]
    z = {name: mean.clone().requires_grad_() for name, mean in reservoir.mean.items()}
    optimizer = torch.optim.SGD(
        z.values(), lr=constants.learning_rate, momentum=constants.momentum, weight_decay=constants.weight_decay
    )
    for t, batch in enumerate(batches, start=1):
        signs = {name: torch.where(part >= 0, 1.0, -1.0).double() for name, part in z.items()}
        strings = {name: signs[name] + (part - part.detach()) for name, part in z.items()}  # straight through
        masks = ((torch.cat(list(strings.values())) + 1) / 2).split(widths)
        p = torch.softmax(method.net(batch, dict(zip(LAYERS, masks, strict=True))), dim=-1)
        entropy = -(p * p.log()).sum(dim=-1).mean()
        stored = sum(-0.5 * part @ reservoir.couplings[name] @ part for name, part in strings.items())
        objective = constants.strength * t / len(batches) * stored + (1 - t / len(batches)) * entropy
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        after = torch.cat([part.detach() for part in z.values()]).split(widths)
        yield entropy.item(), stored.item(), objective.item(), {n: m >= 0 for n, m in zip(LAYERS, after, strict=True)}


@pytest.mark.parametrize("couplings", ["within-layers", "across-layers"])
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize(
    ("images", "batches"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (2, [2]), (3, [3]), (5, [5])]
)
def test_recovery_follows_equation_7_step_by_step(images, batches, passes, couplings):
    """Every image is in one batch of each pass, and none of them is alone."""
    constants = HopfieldRecovery(
        passes, batch_size=4, strength=0.02, learning_rate=60.0, momentum=0.8, weight_decay=0.01
    )
    settings = replace(SETTINGS, recovery=constants, couplings=couplings)
    method = learn(method_in_doubles(settings), *(task_in_doubles(index) for index in range(3)))
    test = task_in_doubles(1, test_images=images).test
    found = method.recover(Unlabelled(test))
    orders = [torch.randperm(images, generator=generator(0, "recovery order", number)) for number in range(passes)]
    shown = [whole(test).images[members] for order in orders for members in order.split(batches)]
    expected = list(textbook_recovery(method, shown, constants))
    assert len(found.steps) == passes * len(batches)
    for step, (entropy, stored, objective, masks) in zip(found.steps, expected, strict=True):
        assert same(step.masks, masks)
        # Under equal masks, each is a sum of fewer than 40² products, with a network of two such layers below it.
        for value, wanted in ((step.entropy, entropy), (step.energy, stored), (step.objective, objective)):
            assert abs(value - wanted) <= 3 * 40**2 * EPS * max(1.0, abs(wanted))
    assert same(found.masks, expected[-1][-1])
    if len(found.steps) > 1:
        start = torch.cat([mean >= 0 for mean in method.reservoir.mean.values()])
        assert not torch.equal(start, method.net.flatten(found.masks)), "the mask must have moved"


def test_the_mean_of_one_task_is_its_mask_and_stays_it():
    method = taught(tasks=1)
    assert same(method.recover(Unlabelled(stream()[0].test)).masks, method.right_masks[0])


def lower_by_turning(reservoir, masks):
    """Count the units of which each by itself would lower the energy by turning: by trying it."""
    count = 0
    for name, mask in masks.items():
        z, couplings = 2.0 * mask.double() - 1.0, reservoir.couplings[name]
        for unit in range(len(z)):
            turned = z.clone()
            turned[unit] *= -1
            # Sums of 24² products of at most 1.
            count += bool(energy(couplings, turned) < energy(couplings, z) - 24**2 * EPS)
    return count


@pytest.mark.parametrize("rule", RULES)
def test_a_settled_mask_is_one_where_no_turn_of_a_single_unit_lowers_the_energy(rule):
    """Two batches are too few for the energy to have its way: what is found is at rest only if it is let settle."""
    recovery, tasks = HopfieldRecovery(batch_size=10, learning_rate=60.0), [task_in_doubles(task) for task in range(3)]
    asked = [replace(SETTINGS, rule=rule, recovery=replace(recovery, settle=settle)) for settle in (False, True)]
    plain, settled = (learn(method_in_doubles(settings), *tasks) for settings in asked)
    before, after = (method.recover(Unlabelled(tasks[1].test)) for method in (plain, settled))
    assert lower_by_turning(plain.reservoir, before.masks) > 0
    assert lower_by_turning(plain.reservoir, after.masks) == 0
    assert all(same(one.masks, other.masks) for one, other in zip(before.steps[:-1], after.steps[:-1], strict=True))
    assert same(after.steps[-1].masks, after.masks), "the last step's mask is the settled one"


def test_a_witness_changes_nothing_but_what_can_be_scored(tmp_path):
    seeing, blind = taught(), taught(replace(SETTINGS, witness=False))
    assert blind.right_masks is None
    assert len(seeing.right_masks) == 3
    for task in range(3):
        images = Unlabelled(stream()[task].test)
        assert same(seeing.recover(images).masks, blind.recover(images).masks)
    assert seeing.bytes == blind.bytes
    for name, method in (("seeing", seeing), ("blind", blind)):
        method.save(tmp_path / name)
    assert [path.name for path in (tmp_path / "blind").iterdir()] == ["shared.safetensors"]
    assert load_file(tmp_path / "blind" / "shared.safetensors").keys() == {
        f"{part}.{layer}" for part in ("couplings", "mean") for layer in LAYERS
    }
    shared = [(tmp_path / name / "shared.safetensors").read_bytes() for name in ("seeing", "blind")]
    assert shared[0] == shared[1]
    for task in range(3):
        assert same(load_file(tmp_path / "seeing" / f"task-{task:06d}.safetensors"), seeing.right_masks[task])


def test_the_masks_of_a_witness_are_read_by_who_asks_for_them(tmp_path):
    method = taught()
    method.save(tmp_path)
    again = opened(folder=tmp_path).method
    assert all(same(mask, other) for mask, other in zip(again.right_masks, method.right_masks, strict=True))
    blind = opened(replace(SETTINGS, witness=False), tmp_path).method
    assert (blind.tasks_learned, blind.right_masks) == (3, None)
    (tmp_path / "task-000001.safetensors").unlink()
    with pytest.raises(CorruptBank, match=r"task-000001\.safetensors: it is missing"):
        opened(folder=tmp_path)
    assert opened(replace(SETTINGS, witness=False), tmp_path).method.tasks_learned == 3


@pytest.mark.parametrize(
    ("couplings", "values"),
    [
        ("within-layers", (24 * 25 // 2 + 24) + (16 * 17 // 2 + 16)),
        ("across-layers", 40 * 41 // 2 + 40),
    ],
)
def test_bytes_are_those_of_half_a_symmetric_matrix_and_a_mean_for_one_task_or_many(couplings, values, tmp_path):
    settings = replace(SETTINGS, couplings=couplings, witness=False)
    method = opened(settings).method
    assert method.bytes.total == 0
    for task in range(3):
        learn(method, stream()[task]).save(tmp_path)
        assert (method.bytes.contexts, method.bytes.shared, method.bytes.buffers) == (0, 4 * values, 0)
        stored = load_file(tmp_path / "shared.safetensors").values()
        assert sum(part.nbytes for part in stored) == 4 * values
    assert [KIND.stored_bytes(settings, method.net, tasks) for tasks in (0, 1, 100)] == [0, 4 * values, 4 * values]


def test_what_cannot_be_recovered_is_refused_in_one_line():
    method = opened().method
    with pytest.raises(InvalidArgument, match=r"reservoir: it holds no pattern to recover; store at least one$"):
        method.recover(Unlabelled(stream()[0].test))
    learn(method, stream()[0])
    with pytest.raises(InvalidArgument, match=r"images: 1; batch norm takes its statistics over at least two.*$"):
        method.recover(Unlabelled(task_in_doubles(0, test_images=1).test))


@pytest.mark.parametrize("couplings", ["within-layers", "across-layers"])
def test_a_reservoir_belongs_to_the_same_layers_when_it_is_opened_again(couplings, tmp_path):
    widths, settings = (8,) * 4, replace(SETTINGS, couplings=couplings)  # layers 2, 5, 8, 11: another order as text
    method = learn(opened(settings, widths=widths).method, *(stream()[index] for index in range(3)))
    method.save(tmp_path)
    again = opened(settings, tmp_path, widths).method
    assert list(again.reservoir.mean) == list(method.reservoir.mean)
    assert same(again.reservoir.tensors(), method.reservoir.tensors())
    images = Unlabelled(stream()[0].test)
    assert same(again.recover(images).masks, method.recover(images).masks)


def test_nothing_is_written_before_something_is_learned(tmp_path):
    opened().method.save(tmp_path / "files")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("saved", "asked"),
    [
        ({}, {"widths": (24, 12)}),
        ({}, {"widths": (24,)}),
        ({}, {"couplings": "across-layers"}),
        ({"couplings": "across-layers"}, {}),
        ({"widths": (24,)}, {"widths": (24,), "couplings": "across-layers"}),
    ],
)
def test_a_folder_of_another_reservoir_is_refused_in_one_line(saved, asked, tmp_path):
    def method_with(widths=WIDTHS, couplings="within-layers"):
        return opened(replace(SETTINGS, couplings=couplings), tmp_path, widths).method

    learn(method_with(**saved), stream()[0]).save(tmp_path)
    with pytest.raises(NetworkMismatch, match=r": it holds .* where a reservoir of this network has .*; open it with"):
        method_with(**asked)
    assert method_with(**saved).tasks_learned == 1


@pytest.fixture(scope="module")
def taught_digits():
    """Return a method after three pairs of real digits, in a single layer of 1536 units."""
    recovery = HopfieldRecovery(passes=4, batch_size=20)
    settings = HopSupSupSettings(training=UnitMaskTraining(epochs=4, batch_size=64), recovery=recovery, witness=True)
    asked = Problem(lambda: normalised_fully_connected(784, (1536,), 10), 10, 0, CPU)
    return learn(KIND.open(NOWHERE, settings, asked, None).method, *(digits(task) for task in range(3)))


def test_masks_of_real_digits_are_found_again_to_the_last_unit_from_unlabelled_images(taught_digits):
    """With four passes, seeds 0 to 3 found all three masks of 1536 units; of random strings, half the units would differ."""
    scores = [evaluate_task(taught_digits, digits(task), Scenario.GNu, batch_size=64) for task in range(3)]
    exact = [score for score in scores if score.guesses_right]
    assert len(exact) >= 2
    for score in exact:
        assert score.guessed == {score.task: 1}
        assert score.accuracy == score.recovery.right_mask_accuracy > 0.85
        assert score.recovery.distances["2.weight"][-1] == 0
        assert 1 < score.recovery.steps_to_right <= len(score.recovery.energy) == 4 * 10
    for score in scores:
        assert score.recovery.right_mask_accuracy > 0.85


def test_a_mask_that_is_another_tasks_answers_with_its_labels(taught_digits):
    """Which is why accuracy shows whether the right mask was found: labels name their task."""
    images, masks = whole(digits(0).test).images, taught_digits.right_masks
    for task, mask in enumerate(masks):
        labels = taught_digits.logits_under(images, mask).argmax(dim=-1)
        assert ((labels // 2) == task).double().mean() > 0.9


def test_convolutions_learn_masks_over_their_channels():
    # Few units: γ and the rate of `hopsupsup-convolutional`, scaled to them; the paper's are for 4,096.
    recovery = HopfieldRecovery(batch_size=20, passes=4, strength=5e-2, learning_rate=5.0, settle=True)
    settings = HopSupSupSettings(training=UnitMaskTraining(epochs=4, batch_size=64), recovery=recovery, witness=True)
    asked = Problem(lambda: small_convolutional((1, 28, 28), (32, 64), 10), 10, 0, CPU)
    method = learn(KIND.open(NOWHERE, settings, asked, None).method, digits(0))
    assert [mask.shape for mask in method.right_masks[0].values()] == [(32,), (64,)]
    assert same(method.recover(Unlabelled(digits(0).test)).masks, method.right_masks[0])
    score = evaluate_task(method, digits(0), Scenario.GNu, batch_size=64)
    # By chance half of 200 are right, with a standard deviation of 7.1; before training, all ten digits are answers.
    assert score.images_right > 100 + 5 * 7.1


def test_the_seed_decides_the_frozen_weights_and_with_them_the_masks():
    first, second = (KIND.open(NOWHERE, SETTINGS, problem(seed), None).method for seed in (0, 1))
    assert isinstance(first, HopSupSup)
    assert {name: len(mean) for name, mean in first.reservoir.mean.items()} == dict(zip(LAYERS, WIDTHS, strict=True))
    assert not same(*(learn(method, stream()[0]).right_masks[0] for method in (first, second)))


def test_defaults_are_those_of_the_appendix():
    settings = HopSupSupSettings()
    assert settings.training == UnitMaskTraining(epochs=1, batch_size=128, learning_rate=0.1)
    assert settings.recovery == HopfieldRecovery(1, 64, 1.5e-3, 500.0, 0.9, 1e-4, settle=False)
    assert (settings.rule, settings.couplings, settings.witness) == ("storkey", "within-layers", False)

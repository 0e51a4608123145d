"""SupSup over networks with batch norm, masks of a fixed size: statistics by task, Transfer, whole runs from image files."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from supsup_core import MaskBank, erdos_renyi_budget
from supsup_core.packed_bits import row_bytes
from supsup_datasets.seeds import generator
from supsup_methods.assembly import default_tasks_at_once, refuse_impossible, stored_bytes
from supsup_methods.continual_method import Problem
from supsup_methods.data_assembly import load_dataset
from supsup_methods.dense_training import DenseTraining
from supsup_methods.errors import UsageError
from supsup_methods.experiment import (
    CifarResNet18,
    Evaluation,
    FullyConnected,
    NormalisedFullyConnected,
    Recipe,
    SmallConvolutional,
    SplitImageFolder,
)
from supsup_methods.mask_rules import EdgePopupMasks, ThresholdMasks, fresh_scores
from supsup_methods.mask_training import MaskTraining
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import open_run
from supsup_methods.supsup import KIND, SupSupSettings
from supsup_methods.task_guessing import OneShot
from supsup_methods.training_length import Schedule
from supsup_methods.upper_bound import UpperBoundSettings

from ..datasets.folders import make_folder
from .test_running import Stop, Watcher
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
    files,
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


RECIPE = Recipe(
    name="small",
    tasks=3,
    stream=SplitImageFolder(folder="pictures", classes_per_task=2, side=32),
    backbone=CifarResNet18(channels=2, outputs=2),
    method=SupSupSettings(
        training=MaskTraining(
            epochs=2, batch_size=4, schedule=Schedule("cosine"), learning_rate=1e-2, optimizer="adam", first_epochs=3
        ),
        masks=EdgePopupMasks(budget_factor=1.0, transfer=True),
        statistics="float16",
    ),
    evaluation=Evaluation(scenario="GG", batch_size=4, checkpoints=(1,)),
)
EPOCH = 3  # batches: 10 images are two of 4 and one of 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A data root with six classes of images of 32 × 32 pixels, five of each to train on and five to test with."""
    root = tmp_path_factory.mktemp("data")
    make_folder(root / "pictures", classes=("ant", "bee", "cat", "dog", "eel", "fox"), images=5, width=32, height=32)
    return root


def run(path, root, observer):
    data = load_dataset(RECIPE.stream, root)
    folder = RunFolder(path)
    if not path.exists():
        path.mkdir()
        folder.begin(RECIPE, describe_environment(CPU, data, root))
    return execute(folder, RECIPE, data, CPU, observer, snapshot_seconds=0.0)


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """An uninterrupted run: its folder, its summary, and every call its observer got."""
    path, watcher = tmp_path_factory.mktemp("runs") / "whole", Watcher()
    return path, run(path, pictures, watcher), watcher.calls


def results(summary):
    return {name: value for name, value in summary.items() if name not in ("seconds", "finished")}


def test_a_run_over_image_files_says_what_it_learned_and_what_that_takes(whole):
    path, summary, calls = whole
    opened = open_run(path)
    # Stem 54, stages 144, 512, 2048 and 8192 with their shortcuts, head 32; 150 channels with a mean and a variance.
    assert opened.network.num_bits == 54 + 144 + 512 + 2048 + 8192 + 32
    masks, statistics = 3 * row_bytes(opened.network.num_bits), 3 * 2 * 2 * 150
    assert summary["bytes"] == {
        "contexts": masks,
        "shared": 0,
        "buffers": statistics,
        "total": masks + statistics,
    }
    assert (summary["method"], summary["scenario"], summary["data"]) == ("supsup", "GG", "pictures")
    assert [entry["tasks_learned"] for entry in summary["checkpoints"]] == [1, 3]
    assert [len(checkpoint.scores) for checkpoint in opened.checkpoints] == [1, 3]
    assert [score.images for score in opened.checkpoints[-1].scores] == [10] * 3
    assert calls.count("batch trained") == (3 + 2 + 2) * EPOCH
    assert not list(path.glob("in-training-*"))
    assert stored_bytes(RECIPE, opened.dataset) == masks + statistics


def test_masks_of_a_run_have_the_budget_of_each_layer(whole):
    opened = open_run(whole[0])
    for task in range(3):
        ones = {name: int(mask.sum()) for name, mask in opened.bank.masks(task).items()}
        assert ones == erdos_renyi_budget(opened.network, 1.0)


def test_an_opened_run_answers_as_it_was_tested(whole):
    path, _, _ = whole
    opened = open_run(path)
    for task, score in enumerate(opened.checkpoints[-1].scores):
        right = sum(
            int((opened.method.logits(batch.images, task).argmax(dim=1) == batch.labels).sum())
            for batch in opened.stream[task].test.in_order(10)
        )
        assert right == score.images_right


@pytest.mark.parametrize("stop_at", [8, 19])
def test_a_run_stopped_anywhere_ends_with_the_same_files(stop_at, whole, pictures, tmp_path):
    path, summary, calls = whole
    with pytest.raises(Stop):
        run(tmp_path / "run", pictures, Watcher(stop_at))
    watcher = Watcher()
    assert results(run(tmp_path / "run", pictures, watcher)) == results(summary)
    assert files(tmp_path / "run" / "bank") == files(path / "bank")
    assert not list((tmp_path / "run").glob("in-training-*"))
    assert not [call for call in watcher.calls if call[0] == "noted"]
    assert set(map(str, watcher.calls)) <= {*map(str, calls), *(f"('begun', {tasks})" for tasks in range(4))}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"method": SupSupSettings(training=MaskTraining(batch_size=1)), "evaluation": Evaluation(scenario="GG")},
            "--method.training.batch-size 1: batch norm takes its statistics over a batch, of at least two images; choose a "
            "larger one",
        ),
        (
            {
                "method": UpperBoundSettings(training=DenseTraining(batch_size=1)),
                "evaluation": Evaluation(scenario="GG"),
            },
            "--method.training.batch-size 1: batch norm takes its statistics over a batch, of at least two images; choose a "
            "larger one",
        ),
        (
            {"evaluation": Evaluation(scenario="GNu"), "backbone": NormalisedFullyConnected(hidden=(8,), outputs=4)},
            "--method.inference.images-per-guess 1: under a superposition batch norm takes its statistics over the images that "
            "infer the task, of which it needs two here; choose 2 or more",
        ),
        (
            {"backbone": CifarResNet18(channels=2, outputs=1)},
            "--backbone.outputs 1: a task has 2 labels, and each needs an output; ask for 2 or more",
        ),
        (
            {"evaluation": Evaluation(scenario="NNs")},
            "--evaluation.scenario NNs: supsup is told the task in training; choose GG or GNs or GNu",
        ),
        (
            {"tasks": 4},
            "--tasks 4: with 2 classes each they need 8, and pictures has 6; ask for 3 or fewer",
        ),
        (
            {"backbone": CifarResNet18(channels=2, outputs=2), "stream": replace(RECIPE.stream, side=64)},
            "--backbone.kind cifar-resnet18: for two images of 64 × 64 pixels and 3 channels it answers in shape (2, 8), not "
            "(2, 2); choose another backbone, stream or --backbone.outputs",
        ),
    ],
)
def test_what_does_not_go_with_batch_norm_or_the_images_is_refused_in_one_line(changes, line, pictures):
    recipe = replace(RECIPE, **changes)
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe, load_dataset(recipe.stream, pictures))
    assert str(refused.value) == line


def test_images_that_a_backbone_does_not_take_are_refused_in_one_line(pictures):
    recipe = replace(RECIPE, stream=replace(RECIPE.stream, side=8))
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe, load_dataset(recipe.stream, pictures))
    line = str(refused.value)
    assert line.startswith("--backbone.kind cifar-resnet18: it does not take images of 8 × 8 pixels and 3 channels (")
    assert line.endswith("); choose another backbone or stream")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("method", "backbone"),
    [
        (RECIPE.method, RECIPE.backbone),
        (replace(RECIPE.method, masks=ThresholdMasks()), RECIPE.backbone),
        (replace(RECIPE.method, masks=ThresholdMasks()), NormalisedFullyConnected(hidden=(8,), outputs=2)),
        (RECIPE.method, FullyConnected(hidden=(8,), outputs=2)),
        (SupSupSettings(masks=EdgePopupMasks()), FullyConnected(hidden=(8,), outputs=2)),
        (SupSupSettings(training=MaskTraining(first_epochs=2)), FullyConnected(hidden=(8,), outputs=2)),
    ],
)
def test_tasks_side_by_side_are_refused_where_each_has_statistics_ranks_or_a_length_of_its_own(
    method, backbone, pictures
):
    recipe, data = replace(RECIPE, method=method, backbone=backbone), load_dataset(RECIPE.stream, pictures)
    refuse_impossible(recipe, data)
    assert default_tasks_at_once(recipe, data, [CPU]) == 1
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe, data, tasks_at_once=2)
    assert str(refused.value) == "--tasks-at-once 2: supsup learns one task after the other here; choose 1"


def test_tasks_side_by_side_are_for_chains_of_layers_and_thresholds(pictures):
    chain = replace(RECIPE, method=SupSupSettings(), backbone=FullyConnected(hidden=(8,), outputs=3))
    refuse_impossible(chain, load_dataset(RECIPE.stream, pictures), tasks_at_once=2)


def test_two_images_a_guess_are_enough_for_a_flat_network_and_one_for_a_convolutional_one(pictures):
    data, untold = load_dataset(RECIPE.stream, pictures), Evaluation(scenario="GNu")
    flat = replace(RECIPE, backbone=NormalisedFullyConnected(hidden=(8,), outputs=4), evaluation=untold)
    pairs = replace(RECIPE.method, inference=OneShot(images_per_guess=2))
    refuse_impossible(replace(flat, method=pairs), data)
    refuse_impossible(replace(flat, evaluation=Evaluation(scenario="GG")), data)
    with pytest.raises(UsageError, match="images-per-guess 2: under a superposition"):
        refuse_impossible(replace(flat, method=pairs, evaluation=replace(untold, batch_size=1)), data)
    refuse_impossible(replace(flat, backbone=SmallConvolutional(channels=(3,), outputs=4)), data)

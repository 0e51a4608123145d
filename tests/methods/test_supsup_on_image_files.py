"""SupSup in whole runs from image files: what they say, stops, and what does not go together."""

import shutil
from dataclasses import replace

import pytest
from supsup_core import erdos_renyi_budget
from supsup_core.packed_bits import row_bytes
from supsup_methods.assembly import default_tasks_at_once, refuse_impossible, stored_bytes
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
    TorchvisionModel,
)
from supsup_methods.mask_rules import EdgePopupMasks, ThresholdMasks
from supsup_methods.mask_training import MaskTraining
from supsup_methods.run_environment import describe_environment
from supsup_methods.run_folder import RunFolder
from supsup_methods.running import execute
from supsup_methods.runs import open_run
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import EveryTask, OneShot
from supsup_methods.training_length import Schedule
from supsup_methods.upper_bound import UpperBoundSettings

from ..datasets.folders import make_folder
from .test_running import Stop, Watcher, results
from .vision_problems import (
    CPU,
    files,
)

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


@pytest.mark.parametrize(
    "backbone",
    [CifarResNet18(channels=2, outputs=2), TorchvisionModel(model="resnet18", outputs=2)],
    ids=lambda each: each.kind,
)
@pytest.mark.parametrize(
    "inference", [OneShot(images_per_guess=4), EveryTask(images_per_guess=4)], ids=lambda each: each.kind
)
def test_the_task_is_inferred_over_convolutional_networks(backbone, inference, pictures, tmp_path):
    method = replace(
        RECIPE.method, inference=inference, training=replace(RECIPE.method.training, epochs=1, first_epochs=1)
    )
    asked = replace(RECIPE, backbone=backbone, method=method, evaluation=Evaluation(scenario="GNu", batch_size=4))
    data, folder = load_dataset(asked.stream, pictures), RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.begin(asked, describe_environment(CPU, data, pictures))
    execute(folder, asked, data, CPU, Watcher())
    opened = open_run(folder.path)
    batches = [batch.images for task in range(3) for batch in opened.stream[task].test.in_order(4)]
    guesses = opened.method.infer_each(batches)
    assert all(0 <= guess.task < 3 for guess in guesses)
    assert sum(score.guesses for score in opened.checkpoints[-1].scores) == len(guesses) == len(batches)


def test_data_that_changed_since_is_no_data_to_ask_about(pictures, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(pictures, root)
    path = tmp_path / "run"
    run(path, root, Watcher())
    make_folder(root / "pictures", classes=("gnu",), images=5, width=32, height=32)
    with pytest.raises(UsageError, match=r"its data, pictures.* is no longer what it learned from"):
        open_run(path)


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
    with pytest.raises(UsageError, match=r"evaluation\.batch-size 1: under a superposition"):
        refuse_impossible(replace(flat, method=pairs, evaluation=replace(untold, batch_size=1)), data)
    refuse_impossible(replace(flat, backbone=SmallConvolutional(channels=(3,), outputs=4)), data)

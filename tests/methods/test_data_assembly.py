"""From a recipe's stream to data in real files, and to the tasks that are made of it."""

import hashlib
import re
from dataclasses import replace

import pytest
import torch
import torchvision
from supsup_datasets import (
    CropFlip,
    DatasetError,
    DataUnavailable,
    FileDataset,
    ImageDataset,
    LabelSpace,
    PermutedStream,
    RecurringStream,
    RotatedStream,
    SplitStream,
    embedded_mnist,
    random_partition,
    split_cifar100,
)
from supsup_datasets.cifar_files import CIFAR_NORMALIZATION
from supsup_methods.assembly import build_problem, refuse_impossible
from supsup_methods.data_assembly import build_stream, load_dataset
from supsup_methods.errors import UsageError
from supsup_methods.experiment import (
    CifarResNet18,
    Evaluation,
    FullyConnected,
    PermutedMnist,
    Recipe,
    RecurringPermutedMnist,
    RotatedMnist,
    SplitCifar100,
    SplitImageFolder,
    SplitImageNet,
    SplitMnist,
    TorchvisionModel,
)
from supsup_methods.recipes import RECIPES

from ..datasets.folders import make_folder, picture
from ..datasets.test_cifar_files import write_cifar
from .vision_problems import CPU

GG = Evaluation(scenario="GG")
FOLDER = Recipe(
    "folder",
    2,
    stream=SplitImageFolder(folder="pets", classes_per_task=2, side=16),
    backbone=CifarResNet18(channels=2, outputs=2),
    evaluation=GG,
)
CIFAR = Recipe("cifar", 20, stream=SplitCifar100(), backbone=CifarResNet18(channels=2), evaluation=GG)
IMAGENET = Recipe("imagenet", 100, stream=SplitImageNet(), backbone=TorchvisionModel(model="resnet18"), evaluation=GG)


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_folder(root / "pets", classes=("ant", "bee", "cat", "dog", "eel"), images=3)
    return root


def test_a_folder_of_images_is_scaled_and_augmented_as_cifar_is(pets):
    data = load_dataset(FOLDER.stream, pets)
    assert isinstance(data, ImageDataset)
    assert (data.name, data.image_shape, data.num_classes) == ("pets", (3, 16, 16), 5)
    assert data.normalization == CIFAR_NORMALIZATION
    assert data.augmentation == CropFlip(padding=4, flip=True)


@pytest.mark.parametrize("seed", [0, 7])
def test_tasks_of_a_folder_are_classes_drawn_from_the_seed(seed, pets):
    stream = build_stream(replace(FOLDER, seed=seed), load_dataset(FOLDER.stream, pets))
    assert isinstance(stream, SplitStream)
    assert stream.partition == random_partition(5, 2, 2, seed)
    assert [len(task.train) for task in stream] == [6, 6]
    assert all((task.num_labels, task.label_space) == (2, LabelSpace.LOCAL) for task in stream)
    other = build_stream(replace(FOLDER, seed=seed + 1), load_dataset(FOLDER.stream, pets))
    assert other.partition != stream.partition


def originals(root, monkeypatch):
    """Give each file the content whose sum is asked for, by a stand-in for MD5 that looks the name up."""
    theirs = torchvision.datasets.CIFAR100
    known = dict([*theirs.train_list, *theirs.test_list, (theirs.meta["filename"], theirs.meta["md5"])])
    by_content = {(root / theirs.base_folder / name).read_bytes(): digest for name, digest in known.items()}

    class Sum:
        def __init__(self, content, usedforsecurity):
            self.hexdigest = lambda: by_content[content]

    monkeypatch.setattr(hashlib, "md5", Sum)


def test_cifar_100_is_read_from_its_files_in_twenty_tasks_of_five(tmp_path, monkeypatch):
    originals(write_cifar(tmp_path, "cifar-100-python"), monkeypatch)
    data = load_dataset(CIFAR.stream, tmp_path)
    assert (data.name, data.image_shape, data.num_classes) == ("CIFAR-100", (3, 32, 32), 100)
    stream = build_stream(replace(CIFAR, seed=3), data)
    assert stream.partition == split_cifar100(data, seed=3).partition
    assert len(build_stream(replace(CIFAR, tasks=2), data)) == 2
    refuse_impossible(CIFAR, data)
    problem = build_problem(CIFAR, data, CPU)
    assert problem.num_labels == 5
    assert sum(entry.size for entry in problem.network().task_buffers) == 2 * 150


def test_cifar_100_of_another_content_is_refused(tmp_path):
    write_cifar(tmp_path, "cifar-100-python")
    with pytest.raises(DataUnavailable, match="its MD5 sum is"):
        load_dataset(CIFAR.stream, tmp_path)


@pytest.fixture(scope="module")
def wnids(tmp_path_factory):
    """A data root with an image for each of the 1000 classes of ImageNet, and files of partitions beside them."""
    root = tmp_path_factory.mktemp("data")
    picture(0, 8, 8).save(root / "image.png")
    for part in ("train", "val"):
        for number in range(1000):
            folder = root / "imagenet" / part / f"n{number:08d}"
            folder.mkdir(parents=True)
            (folder / "x.JPEG").hardlink_to(root / "image.png")
    lines = [" ".join(f"n{10 * task + place:08d}" for place in range(9, -1, -1)) for task in range(99, -1, -1)]
    (root / "imagenet" / "ours.txt").write_text("# from the last class to the first\n" + "\n".join(lines))
    (root / "imagenet" / "short.txt").write_text("n00000001 n00000003\nn00000002 n00000004\n")
    (root / "imagenet" / "unknown.txt").write_text("n00000001 ant\n")
    return root


def test_imagenet_stays_in_files_and_its_classes_go_by_their_names(wnids):
    data = load_dataset(IMAGENET.stream, wnids)
    assert isinstance(data, FileDataset)
    assert (data.name, data.image_shape) == ("ImageNet", (3, 224, 224))
    stream = build_stream(IMAGENET, data)
    assert stream.partition == tuple(tuple(range(10 * task, 10 * task + 10)) for task in range(100))
    assert len(build_stream(replace(IMAGENET, tasks=3), data)) == 3


def test_a_partition_is_read_from_the_file_beside_the_images(wnids):
    stream = replace(IMAGENET.stream, partition="ours.txt")
    found = build_stream(replace(IMAGENET, tasks=4, stream=stream), load_dataset(stream, wnids))
    assert found.partition == tuple(tuple(range(1000 - 10 * task - 1, 990 - 10 * task - 1, -1)) for task in range(4))
    assert found[0].train.labels.tolist() == list(range(9, -1, -1))
    pairs = replace(IMAGENET, tasks=1, stream=replace(stream, partition="short.txt"))
    assert build_stream(pairs, load_dataset(stream, wnids)).partition == ((1, 3),)


def test_a_partition_may_have_more_tasks_of_fewer_classes(wnids):
    lines = (" ".join(f"n{number:08d}" for number in range(start, start + 5)) for start in range(0, 1000, 5))
    (wnids / "imagenet" / "fives.txt").write_text("\n".join(lines))
    stream = replace(IMAGENET.stream, partition="fives.txt")
    recipe = replace(IMAGENET, tasks=200, stream=stream, backbone=replace(IMAGENET.backbone, outputs=5))
    data = load_dataset(stream, wnids)
    refuse_impossible(recipe, data)
    assert len(build_stream(recipe, data)) == 200


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ("n00000001 n00000003\nn00000005 n00000007\n", "2 tasks of 2 classes"),
        ("n00000001 n00000003\nn00000005\n", "2 tasks of 1 or 2 classes"),
    ],
)
def test_a_partition_with_too_few_tasks_or_of_several_sizes_is_refused_before_the_run(content, held, wnids):
    (wnids / "imagenet" / "odd.txt").write_text(content)
    stream = replace(IMAGENET.stream, partition="odd.txt")
    tasks = 3 if "or" not in held else 2
    with pytest.raises(UsageError) as refused:
        build_stream(replace(IMAGENET, tasks=tasks, stream=stream), load_dataset(stream, wnids))
    assert str(refused.value).startswith(
        f"--stream.partition odd.txt: it has {held}, where --tasks {tasks} of one size"
    )


def test_tasks_of_unequal_size_are_not_put_side_by_side(tmp_path):
    make_folder(tmp_path / "pets", classes=("ant", "bee", "cat", "dog"), images=3)
    backbone = FullyConnected(hidden=(8,), outputs=2)
    even = replace(FOLDER, backbone=backbone)
    refuse_impossible(even, load_dataset(even.stream, tmp_path), tasks_at_once=2)
    picture(99).save(tmp_path / "pets" / "train" / "ant" / "9.png")
    with pytest.raises(UsageError, match="--tasks-at-once 2: supsup learns one task after the other here"):
        refuse_impossible(even, load_dataset(even.stream, tmp_path), tasks_at_once=2)


@pytest.mark.parametrize(
    ("name", "message"), [("none.txt", "no such file"), ("unknown.txt", "line 1: no class 'ant'; the data set has n0")]
)
def test_a_partition_that_is_missing_or_of_other_classes_is_named(name, message, wnids):
    stream = replace(IMAGENET.stream, partition=name)
    with pytest.raises(DatasetError, match=f"{re.escape(str(wnids / 'imagenet' / name))}.*{message}"):
        build_stream(replace(IMAGENET, stream=stream), load_dataset(stream, wnids))


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (SplitCifar100(), "split-cifar100"),
        (SplitImageFolder(), "split-image-folder"),
        (SplitImageNet(), "split-imagenet"),
    ],
)
def test_data_that_comes_with_no_library_needs_a_root(stream, kind):
    with pytest.raises(UsageError) as refused:
        load_dataset(stream, None)
    assert str(refused.value) == (
        f"--data-root: {kind} needs data that comes with no library; name the folder it lies in"
    )


@pytest.mark.parametrize(
    ("stream", "place"),
    [(SplitImageFolder(folder="none"), "none"), (SplitImageNet(), "imagenet")],
)
def test_data_that_is_not_there_is_named(stream, place, tmp_path):
    with pytest.raises(DataUnavailable, match=f"{re.escape(str(tmp_path / place))}: no such folder"):
        load_dataset(stream, tmp_path)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tasks": 3}, "--tasks 3: with 2 classes each they need 6, and pets has 5; ask for 2 or fewer"),
        (
            {"stream": SplitImageFolder(folder="pets", classes_per_task=3)},
            "--tasks 2: with 3 classes each they need 6, and pets has 5; ask for 1 or fewer",
        ),
        (
            {"stream": SplitCifar100(), "tasks": 2},
            "--tasks 2: with 5 classes each they need 10, and pets has 5; ask for 1 or fewer",
        ),
        (
            {"stream": SplitImageNet(), "tasks": 1},
            "--stream.kind split-imagenet: a task has 10 classes, and pets has 5; choose other data",
        ),
    ],
)
def test_more_tasks_than_classes_are_refused_in_one_line(changes, line, pets):
    data = load_dataset(FOLDER.stream, pets)
    for refuse in (build_stream, refuse_impossible):
        with pytest.raises(UsageError) as refused:
            refuse(replace(FOLDER, **changes), data)
        assert str(refused.value) == line
    build_stream(replace(FOLDER, tasks=1), data)


@pytest.mark.parametrize(
    "stream", [PermutedMnist(), RotatedMnist(), SplitMnist(), RecurringPermutedMnist()], ids=lambda stream: stream.kind
)
def test_streams_of_digits_are_for_images_in_memory(stream, wnids):
    with pytest.raises(UsageError) as refused:
        build_stream(replace(IMAGENET, stream=stream, tasks=2), load_dataset(IMAGENET.stream, wnids))
    assert str(refused.value) == (
        f"--stream.kind {stream.kind}: it is made of images in memory, and these stay in files"
    )


def test_streams_of_digits_are_of_their_kinds_over_the_embedded_ones():
    data = load_dataset(PermutedMnist(), None)
    assert data.digest == embedded_mnist().digest
    made = {
        kind: build_stream(Recipe("x", 4, stream=kind()), data)
        for kind in (PermutedMnist, RotatedMnist, SplitMnist, RecurringPermutedMnist)
    }
    assert [type(stream) for stream in made.values()] == [PermutedStream, RotatedStream, SplitStream, RecurringStream]
    assert all(len(stream) == 4 for stream in made.values())
    few = build_stream(Recipe("x", 9, stream=RecurringPermutedMnist(distinct=3)), data)
    assert {few.identity(stretch) for stretch in range(9)} == {0, 1, 2}


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith(("table2", "tiny", "figure11", "split"))])
def test_a_recipe_of_colour_images_is_of_the_papers_sizes(name):
    recipe = RECIPES[name]
    assert recipe.evaluation.scenario == "GG"
    if name.startswith("split"):
        assert (recipe.tasks, recipe.backbone) == (100, TorchvisionModel(model="resnet50", outputs=10))
        training = recipe.method.training
        # 5 of 100 epochs of 50 batches: 250 steps that rise, from a 250th of the rate.
        assert [training.schedule.share(step, 5000) for step in (0, 249, 250)] == [1 / 250, 1.0, 1.0]
        assert (training.epochs, training.batch_size, training.learning_rate) == (100, 256, 1e-3)
    else:
        assert (recipe.tasks, recipe.backbone) == (20, CifarResNet18(channels=20, outputs=5))
        training = recipe.method.training
        assert (training.batch_size, training.schedule.shape, training.schedule.warm_up) == (128, "cosine", 0.0)
        expected = {"right": 50 if name.endswith("transfer") else 100}.get("right" if "figure11" in name else "", 250)
        assert training.epochs == expected
        assert training.of_task(0).epochs == 250
    if recipe.method.kind == "supsup":
        factor = float(re.search(r"-c(\d+)", name).group(1))
        assert (recipe.method.masks.budget_factor, recipe.method.masks.transfer) == (factor, "transfer" in name)
        assert recipe.method.training.optimizer == "adam"
        assert recipe.method.statistics == "float16"
    assert isinstance(recipe.stream, SplitImageFolder) == name.startswith("tiny")


def test_images_of_a_folder_reach_the_network_normalised(pets):
    data = load_dataset(FOLDER.stream, pets)
    task = build_stream(FOLDER, data)[0]
    (batch,) = task.test.in_order(100)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)))
    members = [index for index, label in enumerate(data.test.labels.tolist()) if label in task.classes]
    # Three roundings of numbers up to 3.
    assert (batch.images - (data.test.images[members] / 255 - mean) / std).abs().max() <= 12 * 2**-23

"""From a recipe's words to what they mean, and the recipes whose parts do not go together, refused in one line each."""

import os
from dataclasses import replace

import pytest
import torch
from supsup_datasets import LabelledImages, LabelSpace, PermutedStream, RotatedStream, SplitStream, embedded_mnist
from supsup_methods import assembly
from supsup_methods.assembly import build_problem, default_processes, refuse_impossible, stored_bytes
from supsup_methods.backbone_assembly import backbone_shapes
from supsup_methods.data_assembly import build_stream
from supsup_methods.errors import UsageError
from supsup_methods.experiment import (
    Evaluation,
    FullyConnected,
    NormalisedFullyConnected,
    PermutedMnist,
    Recipe,
    RotatedMnist,
    SmallConvolutional,
    SplitMnist,
)
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.psp import PspSettings
from supsup_methods.recipes import RECIPES
from supsup_methods.registry import kind_of
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.task_guessing import EveryTask, Gamma, OneShot
from supsup_methods.upper_bound import UpperBoundSettings
from torch import nn

CPU = torch.device("cpu")
HOPSUPSUP = Recipe(
    name="small",
    tasks=5,
    stream=SplitMnist(),
    backbone=NormalisedFullyConnected(hidden=(8, 6)),
    method=HopSupSupSettings(),
)
SUPSUP = Recipe(name="small", tasks=5)


@pytest.fixture(scope="module")
def data():
    return embedded_mnist()


@pytest.mark.parametrize(
    ("recipe", "threads", "processes"),
    [
        ("demo", 2, 2),
        ("demo", 1, 1),
        ("table3-supsup-h", 4, 4),
        ("table3-supsup-h", 64, 8),
        ("table3-upper-bound", 2, 2),
        ("table3-batche", 2, 2),
        ("table3-psp", 2, 1),
        ("table8-lower-bound", 2, 1),
        ("table5-nns", 2, 1),
    ],
)
def test_long_runs_of_tasks_apart_are_shared_by_processes_on_a_cpu(recipe, threads, processes, data, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert default_processes(RECIPES[recipe], data) == processes


def test_few_tasks_or_little_memory_or_short_runs_take_fewer_processes(data, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    demo, long = RECIPES["demo"], RECIPES["table3-supsup-h"]
    assert default_processes(replace(long, tasks=8), data) == 8
    assert default_processes(replace(demo, tasks=1), data) == 1
    assert default_processes(replace(RECIPES["table4-batche"], tasks=6), data) == 5, "the first trains what all share"
    short = replace(demo.method, training=replace(demo.method.training, batches=100))
    assert default_processes(replace(demo, method=short), data) == 1
    assert default_processes(replace(demo, method=short, tasks=100), data) == 8
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 10 * 2**18, "SC_PAGE_SIZE": 4096}[name])
    assert default_processes(long, data) == 4, "10 GiB"


@pytest.mark.parametrize("tasks", [1, 3, 5])
def test_split_mnist_is_the_first_pairs_of_digits_under_their_own_labels(tasks, data):
    stream = build_stream(replace(HOPSUPSUP, tasks=tasks), data)
    assert isinstance(stream, SplitStream)
    assert len(stream) == tasks
    for number in range(tasks):
        task = stream[number]
        assert (task.label_space, task.num_labels) == (LabelSpace.GLOBAL, 10)
        for images in (task.train, task.test):
            assert images.labels.unique().tolist() == [2 * number, 2 * number + 1]


def test_other_streams_are_what_they_were(data):
    assert isinstance(build_stream(SUPSUP, data), PermutedStream)
    assert isinstance(build_stream(replace(SUPSUP, stream=RotatedMnist()), data), RotatedStream)


@pytest.mark.parametrize(
    ("backbone", "weights"),
    [
        (FullyConnected(hidden=(8, 6)), [(8, 784), (6, 8), (100, 6)]),
        (NormalisedFullyConnected(hidden=(8, 6)), [(8, 784), (6, 8), (10, 6)]),
        (SmallConvolutional(channels=(4, 6)), [(4, 1, 3, 3), (6, 4, 3, 3), (10, 6 * 7 * 7)]),
    ],
)
def test_a_backbone_is_made_for_the_images_of_the_data(backbone, weights, data):
    problem = build_problem(replace(HOPSUPSUP, backbone=backbone), data, CPU)
    module = problem.backbone()
    assert [tuple(weight.shape) for weight in module.parameters()] == weights
    assert module(data.train.images[:3].float()).shape == (3, weights[-1][0])
    normalised = [isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in module.modules()]
    assert any(normalised) == (not isinstance(backbone, FullyConnected))
    assert problem.num_labels == 10


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tasks": 1},
        {"backbone": SmallConvolutional(channels=(4, 6))},
        {"evaluation": Evaluation(scenario="GNs")},
        {"stream": PermutedMnist(), "tasks": 50, "evaluation": Evaluation(scenario="GNs")},
        {"stream": RotatedMnist(), "tasks": 36, "evaluation": Evaluation(scenario="GNs")},
        {"method": SupSupSettings(), "backbone": FullyConnected()},
    ],
)
def test_what_goes_together_is_not_refused(changes, data):
    refuse_impossible(replace(HOPSUPSUP, **changes), data)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (replace(HOPSUPSUP, tasks=6), "--tasks 6: split-mnist has five pairs of digits; ask for 5 or fewer"),
        (
            replace(SUPSUP, stream=SplitMnist(), tasks=6),
            "--tasks 6: split-mnist has five pairs of digits; ask for 5 or fewer",
        ),
        (
            replace(HOPSUPSUP, stream=RotatedMnist(), tasks=37),
            "--tasks 37: rotated-mnist turns by ten degrees a task, so 36 come full circle; ask for fewer",
        ),
        (
            replace(HOPSUPSUP, backbone=NormalisedFullyConnected(hidden=(8,), outputs=9)),
            "--backbone.outputs 9: a task has 10 labels, and each needs an output; ask for 10 or more",
        ),
        (
            replace(HOPSUPSUP, evaluation=Evaluation(scenario="GG")),
            "--evaluation.scenario GG: hopsupsup keeps no mask by task; choose GNs or GNu",
        ),
        (
            replace(HOPSUPSUP, stream=PermutedMnist()),
            "--evaluation.scenario GNu: hopsupsup answers with a label and no task, and permuted-mnist has the same labels in "
            "all tasks; choose GNs, or a stream whose labels name their task (split-mnist)",
        ),
        (
            replace(HOPSUPSUP, stream=RotatedMnist()),
            "--evaluation.scenario GNu: hopsupsup answers with a label and no task, and rotated-mnist has the same labels in "
            "all tasks; choose GNs, or a stream whose labels name their task (split-mnist)",
        ),
        (
            replace(HOPSUPSUP, backbone=FullyConnected()),
            "--backbone.kind fully-connected: hopsupsup masks the units of normalisation layers, and this network has "
            "none; choose normalised-fully-connected or small-convolutional, with at least one hidden layer",
        ),
        (
            replace(HOPSUPSUP, evaluation=Evaluation(scenario="GNu", batch_size=1)),
            "--evaluation.batch-size 1: batch norm takes its statistics over a batch, of at least two images; choose a larger "
            "one",
        ),
        (
            replace(SUPSUP, evaluation=Evaluation(scenario="NNs")),
            "--evaluation.scenario NNs: supsup is told the task in training; choose GG or GNs or GNu",
        ),
        (
            replace(
                SUPSUP,
                tasks=2,
                stream=SplitMnist(),
                method=UnknownTasksSettings(),
                evaluation=Evaluation(scenario="NNs"),
            ),
            "--evaluation.scenario NNs: the labels of split-mnist name their task, which is not hidden then; choose a "
            "stream whose tasks share labels",
        ),
        (
            replace(SUPSUP, method=UnknownTasksSettings()),
            "--evaluation.scenario GNu: supsup-unknown-tasks is never told the task; choose NNs",
        ),
        (
            replace(SUPSUP, backbone=NormalisedFullyConnected()),
            "--method.inference.images-per-guess 1: under a superposition batch norm takes its statistics over the images that "
            "infer the task, of which it needs two here; choose 2 or more",
        ),
        (
            replace(
                SUPSUP,
                backbone=SmallConvolutional(),
                method=PspSettings(),
                evaluation=Evaluation(scenario="GG"),
            ),
            "--backbone.kind small-convolutional: psp rotates the inputs of chains of linear layers without dropout, which this "
            "network is not; choose fully-connected, or another method",
        ),
        (
            replace(
                SUPSUP,
                backbone=NormalisedFullyConnected(),
                method=UnknownTasksSettings(),
                evaluation=Evaluation(scenario="NNs"),
            ),
            "--backbone.kind normalised-fully-connected: supsup-unknown-tasks keeps no running statistics by mask, which batch "
            "norm needs; choose fully-connected, or another method",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(recipe, line, data):
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe, data)
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("scenario", "inference", "together", "line"),
    [
        ("GNu", OneShot(images_per_guess=2), 128, None),
        ("GNu", OneShot(images_per_guess=2), 999, "999: of task 0's 1000 test images the last is a batch of its own"),
        ("GNu", OneShot(images_per_guess=2), 333, "under a superposition; choose another, 334 for example"),
        ("GNu", OneShot(images_per_guess=8), 1, "--evaluation.batch-size 1: under a superposition batch norm takes"),
        ("GNu", Gamma(images_per_guess=1), 128, "--method.inference.images-per-guess 1: under a superposition"),
        ("GNu", EveryTask(images_per_guess=1), 999, None),
        ("GG", OneShot(), 999, None),
    ],
)
def test_too_few_images_are_refused_where_batch_norm_looks_at_a_superposition(
    scenario, inference, together, line, data
):
    settings = replace(SupSupSettings(), inference=inference)
    evaluation = Evaluation(scenario=scenario, batch_size=together)
    recipe = replace(SUPSUP, backbone=NormalisedFullyConnected(), method=settings, evaluation=evaluation)
    if line is None:
        refuse_impossible(recipe, data)
    else:
        with pytest.raises(UsageError) as refused:
            refuse_impossible(recipe, data)
        assert line in str(refused.value)
    if together > 1:  # images with values enough in each channel
        refuse_impossible(replace(recipe, backbone=SmallConvolutional()), data)


def test_where_each_batch_size_leaves_one_image_another_is_named(data):
    seven, single = (
        replace(data, test=LabelledImages(data.test.images[:images], data.test.labels[:images], 10))
        for images in (7, 1)
    )
    settings = replace(SupSupSettings(), inference=OneShot(images_per_guess=2))
    recipe = replace(SUPSUP, backbone=NormalisedFullyConnected(), method=settings)
    for size, way_out in ((2, "4 for example"), (6, "7 for example")):  # 7 is 2 · 3 + 1, and 3 · 2 + 1
        with pytest.raises(
            UsageError, match=f"7 test images the last is a batch of its own, .*choose another, {way_out}"
        ):
            refuse_impossible(replace(recipe, evaluation=Evaluation(scenario="GNu", batch_size=size)), seven)
    with pytest.raises(UsageError, match=r"give it more, or choose --evaluation\.scenario GG"):
        refuse_impossible(replace(recipe, evaluation=Evaluation(scenario="GNu", batch_size=128)), single)


def test_a_last_training_batch_of_one_image_is_passed_over(data):
    training = replace(SUPSUP.method.training, batch_size=31, batches=200)  # of 4,000 images one is left over
    for method in (
        SupSupSettings(training=training),
        UpperBoundSettings(training=replace(UpperBoundSettings().training, batch_size=31)),
    ):
        recipe = replace(
            SUPSUP, backbone=NormalisedFullyConnected(), method=method, evaluation=Evaluation(scenario="GG")
        )
        refuse_impossible(recipe, data)


def test_masks_in_one_reservoir_are_not_learned_side_by_side(data):
    with pytest.raises(UsageError) as refused:
        refuse_impossible(HOPSUPSUP, data, tasks_at_once=2)
    assert str(refused.value) == "--tasks-at-once 2: hopsupsup learns one task after the other here; choose 1"


def test_a_reservoir_that_no_memory_holds_is_refused_and_not_made(data):
    wide = replace(HOPSUPSUP, backbone=NormalisedFullyConnected(hidden=(100_000, 100_000)))
    with pytest.raises(
        UsageError, match=r"training takes about .* GB of memory .*; choose a narrower network"
    ) as refused:
        refuse_impossible(wide, data)
    assert "\n" not in str(refused.value)


def test_tasks_side_by_side_must_fit_where_they_are_trained(data, monkeypatch):
    recipe = RECIPES["demo"]
    working = kind_of(recipe.method).working_bytes(backbone_shapes(recipe, data))
    stored = stored_bytes(recipe, data)
    monkeypatch.setattr(assembly, "memory_bytes", lambda device: 4 * working + stored)
    gpus = [torch.device("cuda:0"), torch.device("cuda:1")]
    refuse_impossible(recipe, data, tasks_at_once=4, devices=gpus)  # four on each
    with pytest.raises(UsageError, match=r"training takes about .* and cuda:0 has .*; choose .* or fewer at once"):
        refuse_impossible(recipe, data, tasks_at_once=5, devices=gpus)
    refuse_impossible(recipe, data, tasks_at_once=2, devices=[CPU, CPU])
    with pytest.raises(UsageError, match="and this machine has"):
        refuse_impossible(recipe, data, tasks_at_once=3, devices=[CPU, CPU])


def test_what_a_reservoir_takes_is_told_before_it_is_made_and_is_the_same_for_any_number_of_tasks(data):
    for tasks in (1, 5):
        assert stored_bytes(replace(HOPSUPSUP, tasks=tasks), data) == 4 * (8 * 9 // 2 + 8 + 6 * 7 // 2 + 6)

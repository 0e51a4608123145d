"""From a recipe's backbone to a network: the same for a seed, with the weights it came with where that is asked, or refused."""

import sys
from dataclasses import replace

import pytest
import torch
from supsup_core import CorruptBank, NetworkMismatch
from supsup_datasets import ImageDataset, Normalization
from supsup_methods.assembly import build_problem, open_method, refuse_impossible, stored_bytes
from supsup_methods.backbone_assembly import backbone_shapes, build_backbone, describe_backbone
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.data_assembly import build_stream
from supsup_methods.dense_training import DenseTraining
from supsup_methods.errors import UsageError
from supsup_methods.experiment import (
    CifarResNet18,
    Evaluation,
    FullyConnected,
    NormalisedFullyConnected,
    OwnModel,
    PermutedMnist,
    Recipe,
    SmallConvolutional,
    TorchvisionModel,
)
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.mask_rules import EdgePopupMasks
from supsup_methods.mask_training import MaskTraining
from supsup_methods.separate_heads import SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.training_length import TaskTraining
from supsup_methods.upper_bound import UpperBoundSettings
from torch import nn

from .problems import labelled
from .vision_problems import CPU

OWN = "own_networks_of_these_tests"
SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(20, 9), nn.BatchNorm1d(9), nn.ReLU())
        self.head = nn.Linear(9, outputs)

    def forward(self, images):
        return self.head(self.body(images))

def build(outputs):
    return Net(outputs)

def build_without_tensors_of_the_meta_device(outputs):
    net = Net(outputs)
    net.body[1].weight.data.mul_(float(net.body[1].weight.data.abs().max()))
    return net

def wide(outputs):
    return Net(outputs + 1)

def of_images(outputs):
    return nn.Sequential(nn.Conv2d(1, outputs, 1), nn.Flatten())

def of_colours(outputs):
    return nn.Sequential(nn.Conv2d(3, outputs, 1), nn.Flatten())

class Two(Net):
    def forward(self, images):
        return super().forward(images), images

class Bare(Net):
    def forward(self, images):
        assert images.shape[-1] == 28

class Lost(Net):
    def forward(self, images):
        return [][0]

def failing(outputs):
    raise ValueError("no such size")

def no_arguments():
    return Net(3)

def _normalised(**options):
    return nn.Sequential(nn.Flatten(), nn.Linear(20, 8), nn.BatchNorm1d(8, **options), nn.Linear(8, 3))

def without_statistics(outputs):
    return _normalised(track_running_stats=False)

def averaging_over_all_batches(outputs):
    return _normalised(momentum=None)
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / f"{OWN}.py").write_text(SOURCE)
    yield tmp_path
    sys.modules.pop(OWN, None)


@pytest.fixture(scope="module")
def data():
    return ImageDataset("blobs", labelled(60, 0), labelled(21, 1), Normalization((0.5,), (0.25,)))


def recipe(factory="build", weights="signed-constant", seed=0, **changes):
    masks = SupSupSettings(training=MaskTraining(batches=6, batch_size=20), masks=EdgePopupMasks())
    backbone = OwnModel(factory=f"{OWN}:{factory}", weights=weights, outputs=3)
    whole = Recipe("own", 2, seed=seed, backbone=backbone, method=masks, evaluation=Evaluation(scenario="GG"))
    return replace(whole, **changes)


METHODS = [
    SupSupSettings(),
    UpperBoundSettings(),
    BatchESettings(),
    SeparateHeadsSettings(trunk="random"),
    HopSupSupSettings(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_weights_of_ones_own_stay_to_the_bit_in_every_method(method, workplace, data):
    asked = recipe(weights="own", method=method)
    torch.manual_seed(123)  # which should not matter
    made = build_backbone(asked, data)
    net = open_method(asked, build_problem(asked, data, CPU), workplace / "none", None).method.net
    assert list(dict(net.module.named_parameters())) == [name for name, _ in made.named_parameters()]
    for name, value in net.module.named_parameters():
        assert torch.equal(value, dict(made.named_parameters())[name])
    assert net.module.head.bias.abs().max() > 0, "biases too"


@pytest.mark.parametrize("method", [SupSupSettings(), HopSupSupSettings()], ids=lambda method: method.kind)
@pytest.mark.parametrize("weights", ["own", "signed-constant"])
def test_networks_are_made_on_the_cpu_and_moved(weights, method, workplace, data):
    asked, made = recipe(weights=weights, method=method), []

    def backbone():
        made.append(torch.empty(0).device)  # where a module would draw a parameter of its own
        return build_backbone(asked, data)

    problem = replace(build_problem(asked, data, CPU), backbone=backbone, device=torch.device("meta"))
    net = open_method(asked, problem, workplace / "none", None).method.net
    assert (made, net.device.type) == ([CPU], "meta")


def test_batch_ensemble_keeps_biases_of_ones_own_behind_the_task_that_trains_the_trunk(workplace, data):
    training = TaskTraining(batches=2, batch_size=20)
    asked = recipe(weights="own", method=BatchESettings(training=training))
    method = open_method(asked, build_problem(asked, data, CPU), workplace / "none", None).method
    before = {name: value.clone() for name, value in method.net.module.named_parameters()}
    method.learn([build_stream(asked, data)[0]], lambda: None)
    method.save(workplace / "bank")
    again = open_method(asked, build_problem(asked, data, CPU), workplace / "bank", None).method
    for net in (method.net, again.net):
        after = dict(net.module.named_parameters())
        assert not torch.equal(after["head.weight"], before["head.weight"]), "task 0 trains the trunk"
        for name in ("head.bias", "body.1.bias"):
            assert before[name].abs().max() > 0
            assert torch.equal(after[name], before[name])


@pytest.mark.parametrize("carry_on", [False, True])
def test_the_upper_bound_trains_weights_of_ones_own_on(carry_on, workplace, data):
    training = DenseTraining(batches=1, batch_size=20, learning_rate=1e-6)
    asked = recipe(weights="own", method=UpperBoundSettings(training=training, carry_on=carry_on))
    method = open_method(asked, build_problem(asked, data, CPU), workplace / "none", None).method
    method.learn([build_stream(asked, data)[task] for task in range(2)], lambda: None)
    *trunk, head = (entry.name for entry in method.net.maskable)
    for model in (*method.models, *method.first(1).models):
        assert all((model[name] - method.net.frozen[name]).abs().max() < 1e-4 for name in trunk)
    heads = [model[head] for model in method.models]
    assert (heads[0] - heads[1]).abs().max() > 0.01, "each task has a new one"


def test_without_asking_for_them_weights_are_signed_constants(workplace, data):
    net = build_problem(recipe(), data, CPU).network()
    assert set(net.frozen["body.1.weight"].abs().unique().tolist()) == {float(torch.tensor(0.1).sqrt())}
    assert net.module.head.bias.abs().max() == 0


def test_a_seed_gives_the_same_random_weights_and_leaves_the_global_generator_alone(workplace, data):
    prints = []
    for seed, before in ((0, 1), (0, 2), (5, 1)):
        torch.manual_seed(before)
        state = torch.random.get_rng_state()
        prints.append(build_problem(recipe(weights="own", seed=seed), data, CPU).network().fingerprint)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert prints[0] == prints[1] != prints[2]


def test_what_was_learned_over_weights_of_ones_own_opens_again_and_over_others_does_not(workplace, data):
    asked = recipe(weights="own")
    problem = build_problem(asked, data, CPU)
    method = open_method(asked, problem, workplace / "bank", None).method
    method.learn([build_stream(asked, data)[0]], lambda: None)
    method.save(workplace / "bank")
    again = open_method(asked, build_problem(asked, data, CPU), workplace / "bank", None).method
    images = data.test.images.float()
    assert torch.equal(again.logits(images, 0), method.logits(images, 0))
    for other in (recipe(weights="own", seed=1), recipe()):
        with pytest.raises((NetworkMismatch, CorruptBank)):
            open_method(other, build_problem(other, data, CPU), workplace / "bank", None)


def test_shapes_are_known_without_making_a_weight(workplace, data):
    for backbone in (
        FullyConnected(hidden=(8,), outputs=3),
        NormalisedFullyConnected(hidden=(8,), outputs=3),
        SmallConvolutional(channels=(4,), outputs=3),
        CifarResNet18(channels=2, outputs=3),
        TorchvisionModel(model="resnet18", outputs=3),
    ):
        shapes = backbone_shapes(recipe(backbone=backbone), data)
        assert shapes.device.type == "meta"
        assert shapes.maskable[-1].shape[0] == 3
    assert backbone_shapes(recipe(), data).device.type == "cpu"
    assert backbone_shapes(recipe("build_without_tensors_of_the_meta_device"), data).num_bits == 20 * 9 + 9 * 3
    assert stored_bytes(recipe(), data) == 2 * (32 + 4 * 2 * 9)  # 207 bits in whole words, and 18 statistics


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        (
            "wide",
            "--backbone.kind own: for two images of 4 × 5 pixels and 1 channel it answers in shape (2, 4), not (2, 3); choose "
            "another backbone, stream or --backbone.outputs",
        ),
        (
            "of_images",
            "--backbone.kind own: for two images of 4 × 5 pixels and 1 channel it answers in shape (2, 60), not (2, 3); choose "
            "another backbone, stream or --backbone.outputs",
        ),
    ],
)
def test_outputs_of_another_shape_are_refused_in_one_line(factory, line, workplace, data):
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe(factory), data)
    assert str(refused.value) == line
    refuse_impossible(recipe(), data)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("Two", "it answers with a tuple; a network returns one tensor of outputs"),
        ("Bare", "it does not take images of 4 × 5 pixels and 1 channel (AssertionError)"),
        ("Lost", "it does not take images of 4 × 5 pixels and 1 channel (list index out of range)"),
        ("without_statistics", "its batch norm keeps no running statistics, or averages over all batches"),
        ("averaging_over_all_batches", "its batch norm keeps no running statistics, or averages over all batches"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_the_run(factory, reason, workplace, data):
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe(factory), data)
    assert str(refused.value).startswith(f"--backbone.kind own: {reason}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        ("failing", "it fails for 3 outputs (no such size); mend it"),
        (
            "no_arguments",
            "it fails for 3 outputs (no_arguments() takes 0 positional arguments but 1 was given); mend it",
        ),
    ],
)
def test_a_function_that_fails_is_refused_in_one_line(factory, line, workplace, data):
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe(factory), data)
    assert str(refused.value) == f"--backbone.factory {OWN}:{factory}: {line}"


def test_a_module_that_does_not_parse_is_refused_in_one_line(workplace, data):
    (workplace / "broken.py").write_text("def build(o:\n")
    with pytest.raises(UsageError, match=r"--backbone\.factory broken:build: .*; name a module that can be imported"):
        refuse_impossible(replace(recipe(), backbone=OwnModel(factory="broken:build", outputs=3)), data)


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        (OwnModel(factory=f"{OWN}:of_colours", outputs=3), "own"),
        (CifarResNet18(channels=2, outputs=3), "cifar-resnet18"),
        (TorchvisionModel(model="resnet18", outputs=3), "torchvision"),
        (TorchvisionModel(model="vit_b_16", outputs=3), "torchvision"),
    ],
)
def test_images_that_a_network_does_not_take_are_refused_in_one_line(backbone, kind, workplace, data):
    with pytest.raises(UsageError) as refused:
        refuse_impossible(recipe(backbone=backbone), data)
    line = str(refused.value)
    start = f"--backbone.kind {kind}: it does not take images of 4 × 5 pixels and 1 channel ("
    assert line.startswith(start)
    assert line.endswith("); choose another backbone or stream")
    assert len(line) > len(start) + len("); choose another backbone or stream")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (FullyConnected(hidden=(300, 100), outputs=500), "300-100-500"),
        (NormalisedFullyConnected(hidden=(7, 6), outputs=5), "7-6-5"),
        (SmallConvolutional(channels=(7, 6), outputs=5), "7-6-5"),
        (CifarResNet18(channels=20, outputs=5), "a ResNet-18 of 20 channels and 5 outputs"),
        (TorchvisionModel(model="resnet50", outputs=10), "resnet50 of 10 outputs"),
        (OwnModel(factory="my.networks:build", outputs=4), "my.networks:build of 4 outputs"),
    ],
)
def test_a_headline_names_the_network(backbone, words):
    assert describe_backbone(recipe(backbone=backbone)) == words


def test_the_image_decides_the_inputs(data):
    for backbone, channels in ((CifarResNet18(channels=2, outputs=3), 1), (FullyConnected(hidden=(8,), outputs=3), 20)):
        first = next(build_backbone(recipe(backbone=backbone, stream=PermutedMnist()), data).parameters())
        assert first.shape[1] == channels
    assert isinstance(build_backbone(recipe(backbone=FullyConnected()), data), nn.Sequential)

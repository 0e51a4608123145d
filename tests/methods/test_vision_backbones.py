"""The ResNet of Table 2 against a network written by hand, torchvision's networks, and networks of one's own."""

import copy
import math
import sys
from typing import ClassVar

import pytest
import torch
from supsup_core import (
    FrozenNetwork,
    MaskBank,
    entropy,
    erdos_renyi_budget,
    every_task,
    every_task_each,
    keep_weights,
    one_shot,
    one_shot_each,
)
from supsup_methods.errors import UsageError
from supsup_methods.vision_backbones import (
    BasicBlock,
    cifar_resnet18,
    in_channels_last,
    own_model,
    torchvision_model,
    without_norm_parameters,
)
from torch import nn
from torch.func import functional_call
from torch.nn import functional

BATCH_NORMS = nn.modules.batchnorm._BatchNorm


def shapes_of(make) -> FrozenNetwork:
    with torch.device("meta"):
        return FrozenNetwork(make(), seed=0, init=keep_weights)


@pytest.fixture(scope="module")
def table2():
    return shapes_of(lambda: cifar_resnet18(3, 20, 5))


def test_weights_and_channels_are_those_of_the_paper(table2):
    *trunk, head = table2.maskable
    assert (sum(entry.size for entry in trunk), head.size) == (1_090_140, 800)
    assert sum(entry.size for entry in table2.task_buffers) == 2 * 1_500
    assert sum(sum(entry.shape[:2]) for entry in trunk) == 2_703
    assert len(list(table2.module.parameters())) == len(table2.maskable) == 21, "no bias and no scale"
    assert [entry.shape for entry in trunk if entry.shape[2:] == (1, 1)] == [
        (40, 20, 1, 1),
        (80, 40, 1, 1),
        (160, 80, 1, 1),
    ]


def test_densities_at_c_1_are_those_of_the_paper(table2):
    budget = erdos_renyi_budget(table2, 1.0)
    assert round(sum(budget.values()) / table2.num_bits, 4) == 0.0026
    assert round(min(budget[entry.name] / entry.size for entry in table2.maskable), 4) == 0.0014


@pytest.mark.parametrize(
    ("factor", "size"), [(1, 65_678), (2, 116_779), (4, 204_281), (8, 351_090), (16, 587_942), (32, 949_910)]
)
def test_twenty_masks_of_a_budget_hold_so_much_information(factor, size, table2):
    """The order-0 entropies of PAPER.md, in bytes."""
    budget, total = erdos_renyi_budget(table2, float(factor)), 0.0
    for entry in table2.maskable:
        density = budget[entry.name] / entry.size
        total -= entry.size * (density * math.log2(density) + (1 - density) * math.log2(1 - density))
    assert round(20 * total / 8) == size


@pytest.mark.parametrize(("channels", "base", "outputs"), [(3, 20, 5), (1, 4, 7)])
def test_stages_halve_the_image_and_double_the_channels(channels, base, outputs):
    with torch.device("meta"):
        module = cifar_resnet18(channels, base, outputs)
        seen = []
        for layer in module:
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(tuple(output.shape[1:])))
        assert module(torch.zeros(2, channels, 32, 32)).shape == (2, outputs)
    stages = ((5, 1, 32), (2, 2, 16), (2, 4, 8), (2, 8, 4))
    expected = [(multiple * base, side, side) for layers, multiple, side in stages for _ in range(layers)]
    assert seen == [*expected, (8 * base, 1, 1), (outputs, 1, 1), (outputs,)]


def by_hand(weights, statistics, images, training):
    """The ResNet-18 of Table 2 as formulas: weights and (mean, variance) in the order in which they are met."""
    weights, statistics = iter(weights), iter(statistics)

    def normalised(x):
        mean, variance = next(statistics)
        if training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        return (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()

    x = normalised(functional.conv2d(images, next(weights), padding=1)).clamp_min(0)
    for block in range(8):
        stride = 2 if block in (2, 4, 6) else 1
        inner = normalised(functional.conv2d(x, next(weights), stride=stride, padding=1)).clamp_min(0)
        inner = normalised(functional.conv2d(inner, next(weights), padding=1))
        around = normalised(functional.conv2d(x, next(weights), stride=2)) if stride == 2 else x
        x = (inner + around).clamp_min(0)
    return torch.einsum("nc,oc->no", x.mean((2, 3)), next(weights)[:, :, 0, 0])


@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_network_that_the_paper_describes(training):
    generator = torch.Generator().manual_seed(0)
    module = cifar_resnet18(3, 4, 5).double().train(training)
    norms = [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS)]
    for layer in norms:
        layer.running_mean.normal_(generator=generator)
        layer.running_var.uniform_(0.5, 2.0, generator=generator)
    statistics = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in norms]
    images = torch.randn(3, 3, 32, 32, generator=generator, dtype=torch.float64)
    expected = by_hand([weight.detach() for weight in module.parameters()], statistics, images, training)
    with torch.no_grad():
        found = module(images)
    # 21 layers, each a sum of at most 9 · 32 + 2 terms in another order, and batch norms that may lift small differences: 1e-15
    # · 21 · 290 in the worst case, relative to outputs of the size of 1; a hundred times that is far below any mistake.
    assert (found - expected).abs().max() <= 100 * 21 * 290 * torch.finfo(torch.float64).eps
    assert found.abs().max() > 0.1


class Layout(nn.Module):
    """Says how the images that it, or a copy of it, was shown lie in memory."""

    seen: ClassVar[list[bool]] = []

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4, affine=False)

    def forward(self, x):
        self.seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return self.norm(self.conv(x))


def test_images_lie_channels_last_in_every_way_of_calling_a_network():
    net, images = FrozenNetwork(in_channels_last(nn.Sequential(Layout())), seed=0), torch.zeros(2, 3, 8, 8)
    assert not images.is_contiguous(memory_format=torch.channels_last)
    ways = (
        lambda: net(images),
        lambda: functional_call(net.module, dict(net.frozen), (images,)),
        lambda: copy.deepcopy(net.module)(images),
        lambda: net.in_training(images, {**net.frozen, **net.fresh_buffers()}),
        lambda: net.on_batch_statistics(images, net.frozen),
        lambda: net.to(dtype=torch.float64)(images.double()),
    )
    for way in ways:
        Layout.seen.clear()
        way()
        assert Layout.seen == [True]
    Layout.seen.clear()
    Layout()(images)
    assert Layout.seen == [False]


def test_the_layout_changes_no_values_and_both_makers_ask_for_it():
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.device("meta"):
        modules = cifar_resnet18(3, 2, 5), torchvision_model("resnet18", 5)
    for module in modules:
        (hook,) = module._forward_pre_hooks.values()
        (shown,) = hook(module, (images,))
        assert shown.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(shown, images)


@pytest.mark.parametrize(
    ("name", "side", "weights"),
    [
        ("resnet50", 64, 23_454_912 + 10 * 2048),
        ("googlenet", 64, None),
        ("inception_v3", 96, None),
        ("vgg11_bn", 32, None),
    ],
)
def test_networks_of_torchvision_answer_with_one_tensor_in_training_too(name, side, weights):
    with torch.device("meta"):
        module = torchvision_model(name, 10)
        for training in (False, True):
            assert module.train(training)(torch.zeros(2, 3, side, side)).shape == (2, 10)
    for layer in module.modules():
        if isinstance(layer, BATCH_NORMS):
            assert list(layer.parameters()) == []
            assert layer.running_mean is not None
    if weights:
        assert sum(entry.size for entry in shapes_of(lambda: torchvision_model(name, 10)).maskable) == weights


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_loses_its_parameters_and_the_function_stays(training):
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144, eps=0.1))
    ).train(training)
    images = torch.randn(5, 3, 8, 8, generator=generator)
    expected = copy.deepcopy(module)(images)
    assert without_norm_parameters(module) is module
    assert [name for name, _ in module.named_parameters()] == ["0.weight", "0.bias"]
    assert list(module.state_dict()) == list(without_norm_parameters(copy.deepcopy(module)).state_dict())
    assert torch.equal(module(images), expected)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet51", "did you mean resnet50?"),
        ("zzzzzz", "there are alexnet, convnext_base, convnext_large and "),
        ("fcn_resnet50", "did you mean "),
    ],
)
def test_a_name_that_torchvision_does_not_know_is_refused_in_one_line(name, hint):
    with pytest.raises(UsageError) as refused:
        torchvision_model(name, 10)
    line = str(refused.value)
    assert line.startswith(f"--backbone.model {name}: torchvision has no classification network of that name; {hint}")
    assert "\n" not in line


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder that one works in, with networks of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "networks_of_mine.py").write_text(
        "from torch import nn\n"
        "def build(outputs): return nn.Linear(4, outputs)\n"
        "def number(outputs): return outputs\n"
        "nothing = None\n"
    )
    (tmp_path / "missing_import.py").write_text("import there_is_no_such_module\n")
    yield tmp_path
    for name in ("networks_of_mine", "missing_import"):
        sys.modules.pop(name, None)


def test_a_network_of_ones_own_is_found_where_one_works(workplace):
    module = own_model("networks_of_mine:build", 6)
    assert isinstance(module, nn.Linear)
    assert module.out_features == 6
    assert sys.path.count(str(workplace)) == 1
    own_model("networks_of_mine:build", 6)
    assert sys.path.count(str(workplace)) == 1


def test_what_python_has_comes_before_what_lies_in_the_folder(workplace):
    (workplace / "colorsys.py").write_text("raise SystemExit('the folder came first')\n")
    with pytest.raises(UsageError, match="colorsys has no function build; define it there"):
        own_model("colorsys:build", 6)


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        (
            "there_is_none:build",
            "--backbone.factory there_is_none:build: No module named 'there_is_none'; name a module that can be imported from "
            "here",
        ),
        (
            "missing_import:build",
            "--backbone.factory missing_import:build: No module named 'there_is_no_such_module'; name a module that can be "
            "imported from here",
        ),
        (
            "networks_of_mine:make",
            "--backbone.factory networks_of_mine:make: networks_of_mine has no function make; define it there",
        ),
        (
            "networks_of_mine:nothing",
            "--backbone.factory networks_of_mine:nothing: networks_of_mine has no function nothing; define it there",
        ),
        (
            "networks_of_mine:number",
            "--backbone.factory networks_of_mine:number: it returned a int; return an nn.Module",
        ),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(factory, line, workplace):
    with pytest.raises(UsageError) as refused:
        own_model(factory, 6)
    assert str(refused.value) == line


@pytest.mark.parametrize("make", [lambda: cifar_resnet18(3, 2, 4), lambda: torchvision_model("resnet18", 4)])
def test_guesses_of_several_groups_of_images_are_those_of_each_group_alone(make):
    net = FrozenNetwork(make(), seed=0).to(dtype=torch.float64)
    bank = MaskBank(net)
    for task in range(3):
        generator = torch.Generator().manual_seed(task)
        masks = {name: torch.randn(value.shape, generator=generator) > 0 for name, value in net.frozen.items()}
        bank.append(masks, net.fresh_buffers())
    x = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    by_gradient = one_shot_each(entropy, net, bank, x, images_per_guess=3)
    by_trying = every_task_each(entropy, net, bank, x, images_per_guess=3)
    for group, images in enumerate((x[:3], x[3:])):
        torch.testing.assert_close(by_gradient.slopes[0][group], one_shot(entropy, net, bank, images).slopes[0])
        torch.testing.assert_close(by_trying.values[group], every_task(entropy, net, bank, images).values)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_shortcut_looks_at_every_second_pixel_as_a_stride_would(layout):
    block = BasicBlock(2, 4, 2).double()  # so narrow that torch's own gradient of it may write beyond its memory
    around, _ = block.shortcut
    x = torch.randn(3, 2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x.contiguous(memory_format=layout).requires_grad_()
    found, expected = around(x), torch.nn.functional.conv2d(x.detach()[..., ::2, ::2], around.weight)
    assert (found - expected).abs().max() < 1e-12
    slopes = torch.autograd.grad(found.square().sum(), [x, around.weight])
    # Σ y² of y = w x: its gradients are 2 wᵀ y at the pixels that count, 0 elsewhere, and 2 Σ y xᵀ.
    of_x = torch.zeros_like(x)
    of_x[..., ::2, ::2] = 2 * torch.einsum("oi,nohw->nihw", around.weight[..., 0, 0], expected)
    of_weight = 2 * torch.einsum("nohw,nihw->oi", expected, x.detach()[..., ::2, ::2])
    assert (slopes[0] - of_x).abs().max() < 1e-12
    assert (slopes[1][..., 0, 0] - of_weight).abs().max() < 1e-12

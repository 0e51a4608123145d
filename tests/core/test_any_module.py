"""Masks over modules of every kind: shapes, tied weights, running statistics, compilers, copies, precisions."""

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
from supsup_core import (
    FrozenNetwork,
    InvalidArgument,
    MaskBank,
    NetworkMismatch,
    belief_slopes,
    binary,
    binary_each,
    entropy,
    every_task,
    every_task_each,
    keep_weights,
)
from torch import nn
from torchvision.models import VisionTransformer, resnet18

from .networks import random_masks

ROUNDING = 1e5 * torch.finfo(torch.float64).eps


class Tied(nn.Module):
    """An embedding and a head on one and the same weight, as language models have it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.relu(self.middle(self.embed(tokens)).mean(dim=1)))


def small_vit() -> nn.Module:
    return VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=6
    )


MODULES = {
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 6)), (3, 16, 16)),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(96, 6)),
        (3, 16, 16),
    ),
    "grouped": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(24, 6)), (4, 4, 4)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Flatten(), nn.Linear(48, 6)),
        (2, 2, 2),
    ),
    "resnet-18": (lambda: resnet18(num_classes=6), (3, 64, 64)),
    "vision transformer": (small_vit, (3, 16, 16)),
}


def network(kind: str) -> tuple[FrozenNetwork, torch.Tensor]:
    torch.manual_seed(0)  # modules draw the parameters that stay theirs: class tokens, position embeddings
    build, shape = MODULES[kind]
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return FrozenNetwork(build(), seed=0).to(dtype=torch.float64), x


def bank_of(net: FrozenNetwork, tasks: int, **keywords) -> MaskBank:
    bank = MaskBank(net, **keywords)
    for task in range(tasks):
        bank.append(random_masks(net, task), own_statistics(net, task))
    return bank


def own_statistics(net: FrozenNetwork, seed: int) -> dict[str, torch.Tensor]:
    """Return running statistics such as training might leave: means around 0, variances around 1."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.1 * torch.rand(value.shape, generator=generator) for name, value in net.fresh_buffers().items()
    }


@pytest.mark.parametrize("kind", MODULES)
def test_slopes_equal_autograd_through_an_explicit_blend(kind):
    net, x = network(kind)
    bank = bank_of(net, 3)
    alpha = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
    blended = {
        name: frozen * sum(alpha[task] * bank.masks(task)[name].double() for task in range(3))
        for name, frozen in net.frozen.items()
    }
    value = entropy(net.on_batch_statistics(x, blended)).mean()
    (expected,) = torch.autograd.grad(value, alpha)
    slopes = belief_slopes(entropy, net, bank, x, alpha.detach())
    assert (slopes - expected).abs().max() <= ROUNDING * (1 + expected.abs().max())


@pytest.mark.parametrize("kind", MODULES)
def test_each_image_gets_what_it_gets_alone(kind):
    net, x = network(kind)
    bank = bank_of(net, 4)
    guesses = binary_each(entropy, net, bank, x)
    for image in range(len(x)):
        alone = binary(entropy, net, bank, x[image : image + 1])
        assert guesses.tasks[image] == alone.task
        size = 1 + alone.slopes[0].abs().max()
        assert (guesses.slopes[0][image] - alone.slopes[0]).abs().max() <= ROUNDING * size


@pytest.mark.parametrize("kind", MODULES)
def test_a_one_hot_blend_is_the_task(kind):
    """Exactly so for networks without running statistics, and with batch statistics on both sides for the others."""
    net, x = network(kind)
    bank = bank_of(net, 3)
    blended, weights = bank.blend(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)), bank.weights(1)
    assert torch.equal(net.on_batch_statistics(x, blended), net.on_batch_statistics(x, weights))
    if not net.task_buffers:
        assert torch.equal(net.on_batch_statistics(x, blended), net(x, weights))
    else:
        assert not torch.equal(net.on_batch_statistics(x, blended), net(x, weights))


@pytest.mark.parametrize("kind", MODULES)
def test_a_bank_in_files_answers_as_before(kind, tmp_path):
    net, x = network(kind)
    bank = bank_of(net, 2)
    bank.save(tmp_path)
    again = MaskBank.open(tmp_path, net)
    for task in range(2):
        assert torch.equal(net(x, again.weights(task)), net(x, bank.weights(task)))


@pytest.mark.parametrize("kind", MODULES)
def test_copies_and_pickles_answer_alike(kind):
    net, x = network(kind)
    bank = bank_of(net, 2)
    expected = net(x, bank.weights(1))
    net.on_batch_statistics(x, bank.weights(1))
    for each in (copy.deepcopy((net, bank)), pickle.loads(pickle.dumps((net, bank)))):  # noqa: S301 - our own objects
        assert torch.equal(each[0](x, each[1].weights(1)), expected)
        assert torch.equal(
            each[0].on_batch_statistics(x, each[1].weights(1)), net.on_batch_statistics(x, bank.weights(1))
        )


def test_what_is_maskable_by_default():
    masked = {entry.name for entry in network("vision transformer")[0].maskable}
    assert "conv_proj.weight" in masked
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in masked
    assert "encoder.layers.encoder_layer_0.self_attention.out_proj.weight" in masked
    assert "encoder.layers.encoder_layer_0.mlp.0.weight" in masked
    assert "heads.head.weight" in masked
    assert not any("ln" in name or "bias" in name or "token" in name or "pos_embedding" in name for name in masked)


def test_separate_attention_projections_are_masked_with_their_own_fan_in():
    net = FrozenNetwork(nn.MultiheadAttention(8, 2, kdim=5, vdim=3), seed=0)
    fan_in = {entry.name: entry.fan_in for entry in net.maskable}
    assert fan_in == {"q_proj_weight": 8, "k_proj_weight": 5, "v_proj_weight": 3, "out_proj.weight": 8}


def test_a_tied_weight_has_one_mask_that_works_in_both_places():
    net = FrozenNetwork(Tied(), seed=0).to(dtype=torch.float64)
    assert [entry.name for entry in net.maskable] == ["embed.weight", "middle.weight"]
    tokens = torch.arange(10).view(2, 5)
    mask = random_masks(net, 0)
    weights = {name: net.frozen[name] * part for name, part in mask.items()}
    hidden = torch.relu((weights["embed.weight"][tokens] @ weights["middle.weight"].T).mean(dim=1))
    assert (net(tokens, weights) - hidden @ weights["embed.weight"].T).abs().max() <= ROUNDING


def batch_norm_network() -> FrozenNetwork:
    layers = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)
    )
    return FrozenNetwork(layers, seed=0).to(dtype=torch.float64)


def samples(count=6):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_training_updates_the_statistics_given_and_no_others():
    net, x = batch_norm_network(), samples()
    buffers = net.fresh_buffers()
    assert [entry.name for entry in net.task_buffers] == ["1.running_mean", "1.running_var"]
    net.in_training(x, net.frozen | buffers)
    hidden = x @ net.frozen["0.weight"].T
    assert (buffers["1.running_mean"] - 0.1 * hidden.mean(dim=0)).abs().max() <= ROUNDING
    assert (buffers["1.running_var"] - (0.9 + 0.1 * hidden.var(dim=0))).abs().max() <= ROUNDING
    assert all(
        torch.equal(value, net.fresh_buffers()[name]) for name, value in batch_norm_network().fresh_buffers().items()
    )


def test_training_without_statistics_of_its_own_is_refused():
    net = batch_norm_network()
    with pytest.raises(
        InvalidArgument, match=r"weights: no '1.running_mean'; training updates it, so pass fresh_buffers"
    ):
        net.in_training(samples(), net.frozen)


def test_training_switches_dropout_on_and_nothing_else_does():
    net, x = batch_norm_network(), samples()
    weights = net.frozen | net.fresh_buffers()
    torch.manual_seed(0)
    assert not torch.equal(net.in_training(x, weights), net.in_training(x, weights))
    assert torch.equal(net(x, weights), net(x, weights))
    assert torch.equal(net.on_batch_statistics(x, weights), net.on_batch_statistics(x, weights))


def test_batch_statistics_are_those_of_the_batch_and_leave_no_trace():
    net, x = batch_norm_network(), samples()
    buffers = {name: value.clone() for name, value in net.fresh_buffers().items()}
    hidden = x @ net.frozen["0.weight"].T
    normal = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, unbiased=False) + 1e-5).sqrt()
    expected = torch.relu(normal) @ net.frozen["4.weight"].T
    assert (net.on_batch_statistics(x, net.frozen | buffers) - expected).abs().max() <= ROUNDING
    assert all(torch.equal(value, net.fresh_buffers()[name]) for name, value in buffers.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_statistics_are_rounded_when_a_task_is_stored_and_come_back_bitwise(tmp_path, dtype):
    net, x = batch_norm_network(), samples()
    bank = bank_of(net, 3, buffer_dtype=dtype)
    assert bank.buffer_bytes == 3 * 10 * dtype.itemsize
    for name, value in own_statistics(net, 1).items():
        assert torch.equal(bank.weights(1)[name], value.to(dtype).double())
    bank.save(tmp_path)
    again = MaskBank.open(tmp_path, net)
    assert again.buffers.dtype == dtype
    assert torch.equal(net(x, again.weights(1)), net(x, bank.weights(1)))


def test_a_folder_with_other_statistics_is_refused(tmp_path):
    net = batch_norm_network()
    bank_of(net, 1, buffer_dtype=torch.float16).save(tmp_path)
    with pytest.raises(NetworkMismatch, match="it keeps other running statistics than this bank"):
        bank_of(net, 1, buffer_dtype=torch.float32).save(tmp_path)


def test_wrong_statistics_are_refused():
    net = batch_norm_network()
    good, bank = net.fresh_buffers(), MaskBank(net)
    for buffers, message in (
        ({}, "buffers: none for '1.running_mean'; each task has its own"),
        ({**good, "x": good["1.running_mean"]}, r"buffers: \['x'\] are no running statistics"),
        ({**good, "1.running_mean": torch.zeros(4)}, r"buffers\['1.running_mean'\]: shape \(4,\); pass one of \(5,\)"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            bank.append(random_masks(net, 0), buffers)
    with pytest.raises(InvalidArgument, match=r"buffers: shape \(1, 0\); 1 tasks of this network have shape \(1, 10\)"):
        bank.append_rows(torch.zeros(1, bank.row_bytes, dtype=torch.uint8))
    assert len(bank) == 0


@pytest.mark.parametrize("counted", [False, True])
def test_replacing_and_removing_tasks_leaves_the_others_as_they_were(counted):
    net = batch_norm_network()
    bank = bank_of(net, 5)
    if counted:
        bank.blend(torch.full((5,), 0.2, dtype=torch.float64))
    bank.replace(1, random_masks(net, 50), own_statistics(net, 50))
    bank.remove(3)
    bank.remove(0)
    expected = MaskBank(net)
    for seed in (50, 2, 4):
        expected.append(random_masks(net, seed), own_statistics(net, seed))
    assert torch.equal(bank.rows, expected.rows)
    assert torch.equal(bank.buffers, expected.buffers)
    assert bank.checksums == expected.checksums
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert torch.equal(net.flatten(bank.blend(uniform)), net.flatten(expected.blend(uniform)))
    for change in (lambda: bank.remove(3), lambda: bank.replace(-1, random_masks(net, 0), net.fresh_buffers())):
        with pytest.raises(InvalidArgument, match="the bank holds tasks 0 to 2"):
            change()


def test_under_autocast_masks_still_decide():
    net = FrozenNetwork(nn.Linear(8, 6), seed=0)
    bank = bank_of(net, 3)
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(x, bank.weights(1))
    assert logits.dtype == torch.bfloat16
    # bfloat16 has 8 bits: a sum of eight products of size |w||x| is off by a few 2^-8 of their magnitudes.
    exact = net(x, bank.weights(1))
    magnitude = x.abs() @ bank.weights(1)["weight"].abs().T
    assert ((logits.float() - exact).abs() <= 4 * 2**-8 * magnitude).all()


def test_in_double_precision_weights_are_the_same_numbers():
    net = FrozenNetwork(nn.Linear(8, 6), seed=0)
    double = net.to(dtype=torch.float64)
    assert double.dtype == torch.float64
    assert torch.equal(double.frozen["weight"], net.frozen["weight"].double())
    assert net.frozen["weight"].unique().abs().max().item() == pytest.approx(math.sqrt(2 / 8), rel=2**-23)


def test_keeping_weights_keeps_a_pretrained_network_as_it_is():
    torch.manual_seed(0)
    module = resnet18(num_classes=6).eval()
    net = FrozenNetwork(module, seed=0, init=keep_weights)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(net(x), module(x))


def test_a_network_can_be_compiled(tmp_path):
    """In a process of its own: run-time type checks, which other tests switch on, do not work under the compiler."""

    code = """
import torch
from supsup_core import FrozenNetwork
net = FrozenNetwork(torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4)), seed=0)
weights = {name: value * (torch.arange(value.numel()).view_as(value) % 3 > 0) for name, value in net.frozen.items()}
x = torch.randn(5, 8)
compiled = torch.compile(lambda x, weights: net(x, weights), backend="eager", fullgraph=True)
assert torch.equal(compiled(x, weights), net(x, weights))
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr


class Mixed(nn.Module):
    """Half-precision layers around a batch norm in float32, as mixed precision has it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3).half()
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(144, 6).half()

    def forward(self, x):
        return self.last(self.norm(self.first(x).float()).relu().flatten(1).half())


def test_running_statistics_have_the_dtype_of_their_layer():
    net = FrozenNetwork(Mixed(), seed=0)
    bank, x = bank_of(net, 2), torch.ones(2, 1, 8, 8, dtype=torch.float16)
    weights = bank.weights(1)
    assert weights["norm.running_var"].dtype == torch.float32
    assert torch.equal(weights["norm.running_var"], own_statistics(net, 1)["norm.running_var"])
    assert net(x, weights).dtype == torch.float16


def test_a_statistic_beyond_the_networks_dtype_is_refused():
    net = FrozenNetwork(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), seed=0)
    bank = MaskBank(net)
    bank.append(random_masks(net, 0), {**net.fresh_buffers(), "1.running_var": torch.tensor([1.0, 1e5, 1.0])})
    narrow = net.to(dtype=torch.float16)
    message = r"buffers\['1.running_var'\]: 100000, and the network's torch.float16 holds numbers up to 65504; keep"
    with pytest.raises(InvalidArgument, match=message):
        bank.to(narrow).weights(0)
    assert torch.equal(
        bank.to(net.to(dtype=torch.bfloat16)).weights(0)["1.running_var"].float(), torch.tensor([1.0, 99840.0, 1.0])
    )


class Recurrent(nn.Module):
    """A recurrent layer, whose steps cannot be batched over images of several guesses."""

    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(5, 16, batch_first=True)
        self.head = nn.Linear(16, 6)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Deciding(nn.Module):
    """A forward pass that depends on a value."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(15, 6))

    def forward(self, x):
        return self.layers(x if float(x.mean()) > 0 else -x)


@pytest.mark.parametrize("module", [Recurrent, Deciding])
@pytest.mark.parametrize("shown", [1, 2])
def test_forward_passes_that_cannot_be_batched_go_one_by_one(module, shown):
    torch.manual_seed(0)
    net = FrozenNetwork(module(), seed=0).to(dtype=torch.float64)
    bank = bank_of(net, 4)
    x = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guesses, tried = binary_each(entropy, net, bank, x, shown), every_task_each(entropy, net, bank, x, shown)
    for group in range(6 // shown):
        images = x[group * shown : (group + 1) * shown]
        alone = binary(entropy, net, bank, images)
        assert guesses.tasks[group] == alone.task
        for found, expected in zip(guesses.slopes, alone.slopes, strict=True):
            assert torch.allclose(found[group], expected, rtol=0, atol=ROUNDING)
        assert torch.allclose(tried.values[group], every_task(entropy, net, bank, images).values, rtol=0, atol=ROUNDING)


def test_what_fails_alone_fails_in_groups_with_its_own_message():
    net, x = network("convolution")
    with pytest.raises(RuntimeError, match="expected input"):
        binary_each(entropy, net, bank_of(net, 2), x[:, :1])


@pytest.mark.parametrize("layers", [(nn.Linear(5, 6),), (nn.Conv1d(3, 3, 1), nn.Linear(5, 6))])
def test_a_network_with_an_output_for_each_position_is_asked_for_their_mean(layers):
    net = FrozenNetwork(nn.Sequential(*layers), seed=0).to(dtype=torch.float64)
    bank = bank_of(net, 4)
    x = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for shown in (1, 3):
        expected = [
            [float(entropy(net(images, bank.weights(task))).mean()) for task in range(4)] for images in x.split(shown)
        ]
        tried = every_task_each(entropy, net, bank, x, shown).values
        assert torch.allclose(tried, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=ROUNDING)

"""Gradients by hand, held to autograd's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_core import FrozenNetwork
from supsup_datasets import Batch
from supsup_methods.gradients import ByAutograd, ChainGradients, forward_gradients, network_gradients
from supsup_methods.mask_training import task_gradients
from torch import nn
from torch.nn.functional import cross_entropy


def batch_of(images, width, outputs, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(images, 1, width, 2, generator=generator).to(dtype)
    return Batch(pixels, torch.randint(0, outputs, (images,), generator=generator))


def frozen(*layers, dtype=torch.float64):
    return FrozenNetwork(nn.Sequential(nn.Flatten(), *layers), seed=0).to(dtype=dtype)


def by_names(net, weights, gradients, batch):
    out = {name: torch.full_like(weight, torch.nan) for name, weight in weights.items()}
    gradients.write(weights, batch, out)
    return out


def assert_close(ours, theirs, bound):
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert (gradient - theirs[name]).abs().max() <= bound


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    rectified=st.lists(st.booleans(), min_size=4, max_size=4),
    biased=st.lists(st.booleans(), min_size=4, max_size=4),
    images=st.integers(1, 5),
    trained=st.sets(st.integers(0, 3), min_size=1),
    seed=st.integers(0, 10**6),
)
def test_chains_of_any_shape_have_autograds_gradients(widths, rectified, biased, images, trained, seed):
    layers = []
    for place, (fan_in, fan_out) in enumerate(zip([2 * widths[0], *widths[1:]], widths[1:], strict=False)):
        layers += [nn.Linear(fan_in, fan_out, bias=biased[place])] + [nn.ReLU()] * rectified[place]
    layers = layers[:-1] if isinstance(layers[-1], nn.ReLU) else layers
    net = frozen(*layers)
    names = [entry.name for entry in net.maskable]
    weights = {names[place % len(names)]: net.frozen[names[place % len(names)]] for place in sorted(trained)}
    fixed = {name: net.frozen[name] for name in names if name not in weights}
    batch = batch_of(images, widths[0], widths[-1], seed=seed)
    by_hand = ChainGradients.of(net, fixed)
    assert by_hand is not None
    autograd = forward_gradients(net, "float32", lambda shown, own: net(shown, {**fixed, **own}))
    found = by_names(net, weights, by_hand, batch)
    assert_close(found, by_names(net, weights, autograd, batch), 1e-12)


def test_in_single_precision_they_differ_by_the_rounding_of_their_sums():
    layers = nn.Linear(784, 300, bias=False), nn.ReLU(), nn.Linear(300, 100, bias=False), nn.ReLU()
    net, exact = (
        frozen(*layers, nn.Linear(100, 10, bias=False), dtype=dtype) for dtype in (torch.float32, torch.float64)
    )
    batch = batch_of(128, 392, 10, torch.float32)
    doubles = Batch(batch.images.double(), batch.labels)
    truth = by_names(exact, exact.frozen, network_gradients(exact, "float32", {}), doubles)
    for gradients in (task_gradients(net), forward_gradients(net, "float32", net)):
        found = by_names(net, net.frozen, gradients, batch)
        for name, gradient in found.items():
            # Sums of up to 784 and of 128 products, and no factor above 1 in size on the way: far below n ε of the largest.
            assert (gradient - truth[name]).abs().max() <= 784 * 2**-24 * truth[name].abs().max()


def test_weights_that_are_not_trained_are_the_fixed_ones_or_the_networks_own():
    net = frozen(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False))
    batch, last = batch_of(5, 3, 3), {"3.weight": net.frozen["3.weight"]}
    own = by_names(net, last, network_gradients(net, "float32", {}), batch)["3.weight"]
    fixed = by_names(net, last, network_gradients(net, "float32", {"1.weight": -net.frozen["1.weight"]}), batch)[
        "3.weight"
    ]
    for found, sign in ((own, 1), (fixed, -1)):
        leaf = net.frozen["3.weight"].clone().requires_grad_()
        logits = (batch.images.flatten(1) @ (sign * net.frozen["1.weight"]).t()).relu() @ leaf.t()
        (expected,) = torch.autograd.grad(cross_entropy(logits, batch.labels), [leaf])
        assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    assert not torch.equal(own, fixed)


def test_images_are_not_changed():
    net = frozen(nn.Linear(6, 4, bias=False))
    batch = batch_of(5, 3, 4)
    before = batch.images.clone()
    by_names(net, net.frozen, task_gradients(net), batch)
    assert torch.equal(batch.images, before)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Linear(6, 4), nn.LeakyReLU(), nn.Linear(4, 3)),
        (nn.Linear(6, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 3)),
        (nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
        (nn.Linear(6, 4), nn.ReLU()),
        (nn.ReLU(), nn.Linear(6, 4)),
    ],
    ids=["another activation", "batch norm", "layer norm", "ReLU behind the last layer", "ReLU before the first"],
)
def test_all_other_networks_are_left_to_autograd(layers):
    net = frozen(*layers)
    assert ChainGradients.of(net, {}) is None
    assert isinstance(task_gradients(net), ByAutograd)
    assert isinstance(network_gradients(net, "float32", net.fresh_buffers()), ByAutograd)


def test_networks_that_do_not_flatten_all_of_an_image_are_left_to_autograd():
    for module in (
        nn.Sequential(nn.Linear(6, 4)),
        nn.Sequential(nn.Flatten(1, 2), nn.Linear(6, 4)),
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(6, 4)),
    ):
        assert ChainGradients.of(FrozenNetwork(module, seed=0), {}) is None


def test_bfloat16_products_are_left_to_autograd():
    net = frozen(nn.Linear(6, 4), dtype=torch.float32)
    assert isinstance(task_gradients(net), ChainGradients)
    assert isinstance(task_gradients(net, "bfloat16"), ByAutograd)
    assert isinstance(network_gradients(net, "bfloat16", {}), ByAutograd)

"""The networks with batch norm, against what their docstrings say in torch's functions."""

import pytest
import torch
from supsup_core.unit_masks import unit_masked, unit_widths
from supsup_methods.backbones import normalised_fully_connected, small_convolutional
from torch.nn.functional import batch_norm, conv2d, silu

EPS = torch.finfo(torch.float64).eps


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def normalised(values):
    """By the mean and variance of the batch at hand, without scale and shift."""
    return batch_norm(values, None, None, training=True)


@pytest.mark.parametrize("hidden", [(7,), (7, 5), (4, 4, 6)])
def test_the_fully_connected_network_is_equation_8_without_its_masks(hidden):
    module, images = normalised_fully_connected(12, hidden, 3).double(), drawn(9, 1, 3, 4)
    *weights, last = module.parameters()  # nothing else: no bias, no scale, no shift
    assert [tuple(weight.shape) for weight in (*weights, last)] == list(zip((*hidden, 3), (12, *hidden), strict=True))
    values = images.flatten(1)
    for weight in weights:
        values = silu(normalised(values @ weight.T))
    # Sums of 12 products, normalised, a few times over: what an error of one is multiplied by stays below 1e3.
    assert (module(images) - values @ last.T).abs().max() <= 12 * len(hidden) * 1e3 * EPS
    assert list(unit_widths(module).values()) == list(hidden)


@pytest.mark.parametrize("size", [(28, 28), (5, 8), (1, 1)])
@pytest.mark.parametrize(("image_channels", "channels"), [(1, (4,)), (3, (4, 6, 5))])
def test_the_small_convolutional_network_halves_the_image_and_looks_at_all_places(image_channels, channels, size):
    module = small_convolutional((image_channels, *size), channels, 3).double()
    images = drawn(9, image_channels, *size)
    *kernels, head = module.parameters()
    assert [tuple(kernel.shape) for kernel in kernels] == [
        (wide, narrow, 3, 3) for wide, narrow in zip(channels, (image_channels, *channels[:-1]), strict=True)
    ]
    values, places = images, size
    for kernel in kernels:
        values, places = silu(normalised(conv2d(values, kernel, stride=2, padding=1))), [-(-n // 2) for n in places]
        assert list(values.shape[2:]) == list(places)
    assert head.shape == (3, channels[-1] * places[0] * places[1])
    expected = values.flatten(1) @ head.T
    # As above, with sums of at most 6 · 9 products, or as many as the last layer has inputs.
    assert (module(images) - expected).abs().max() <= max(54, head.shape[1]) * len(channels) * 1e3 * EPS
    assert list(unit_widths(module).values()) == list(channels)


@pytest.mark.parametrize(
    ("module", "shape"),
    [(normalised_fully_connected(20, (6, 5), 3), (20,)), (small_convolutional((1, 8, 8), (6, 5), 3), (1, 8, 8))],
    ids=["fully connected", "convolutional"],
)
def test_a_mask_takes_whole_units_away(module, shape):
    net, images = unit_masked(module, seed=0).to(dtype=torch.float64), drawn(4, *shape)
    assert net.num_bits == 11
    first, last = (entry.name for entry in net.maskable)
    off = {first: torch.ones(6, dtype=torch.float64), last: torch.zeros(5, dtype=torch.float64)}
    assert not net(images, off).any(), "nothing passes a layer all of whose units are masked, as Swish of 0 is 0"
    for unit in range(5):
        one = dict(off) | {last: torch.eye(5, dtype=torch.float64)[unit]}
        assert net(images, one).count_nonzero() == 4 * 3

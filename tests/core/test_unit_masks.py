import pytest
import torch
from supsup_core import FrozenNetwork, InvalidArgument, keep_weights
from supsup_core.unit_masks import normalisation_scale, unit_masked, unit_widths
from torch import nn
from torch.nn.functional import silu


def hopsupsup(width=6):
    """Eq. 8 in small, its batch norms without parameters."""
    return nn.Sequential(
        nn.Linear(5, width, bias=False),
        nn.BatchNorm1d(width, affine=False),
        nn.SiLU(),
        nn.Linear(width, width, bias=False),
        nn.BatchNorm1d(width, affine=False),
        nn.SiLU(),
        nn.Linear(width, 3, bias=False),
    ).double()


def images(count=8):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def masks(net, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return {entry.name: torch.rand(entry.shape, generator=generator) < 0.5 for entry in net.maskable}


def floats(some):
    return {name: mask.double() for name, mask in some.items()}


def test_the_masked_network_is_equation_8():
    net = unit_masked(hopsupsup(), seed=3)
    first, second, third = (layer.weight for layer in net.module if isinstance(layer, nn.Linear))
    m = floats(masks(net))

    def batch_norm(x):
        return (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt()

    hidden = silu(m["1.weight"] * batch_norm(images() @ first.T))
    hidden = silu(m["4.weight"] * batch_norm(hidden @ second.T))
    torch.testing.assert_close(net(images(), m), hidden @ third.T, rtol=1e-12, atol=1e-12)


def test_weights_are_those_of_a_frozen_network_and_nothing_belongs_to_a_task_but_its_mask():
    plain, net = FrozenNetwork(hopsupsup(), seed=3), unit_masked(hopsupsup(), seed=3)
    for name, weight in plain.frozen.items():
        assert torch.equal(dict(net.module.named_parameters())[name], weight)
    assert [entry.shape for entry in net.maskable] == [(6,), (6,)]
    assert net.task_buffers == ()
    assert all(bool((scale == 1).all()) for scale in net.frozen.values())


@pytest.mark.parametrize(
    ("layer", "width"),
    [
        (nn.BatchNorm2d(4), 4),
        (nn.BatchNorm2d(4, affine=False), 4),
        (nn.InstanceNorm2d(4), 4),
        (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), 4),
        (nn.GroupNorm(2, 4), 4),
        (nn.GroupNorm(2, 4, affine=False), 4),
        (nn.LayerNorm((4, 3, 3)), 36),
        (nn.LayerNorm((4, 3, 3), bias=False), 36),
        (nn.RMSNorm((4, 3, 3)), 36),
    ],
    ids=lambda value: str(value),
)
def test_every_normalisation_layer_gets_a_scale_of_one_and_no_shift(layer, width):
    if "weight" in dict(layer.named_parameters()):
        nn.init.constant_(layer.weight, 7.0)
    if "bias" in dict(layer.named_parameters()):
        nn.init.constant_(layer.bias, 7.0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    assert unit_widths(module) == {"1.weight": width}
    net = unit_masked(module, seed=0)
    x = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    off = {entry.name: torch.zeros(entry.shape) for entry in net.maskable}
    assert not bool(net(x, off).any()), "a unit that is masked and has no bias says nothing"
    assert bool(net(x, net.frozen).any())
    assert all(bool((scale == 1).all()) for scale in net.frozen.values())
    assert net.num_bits == width
    if "weight" in dict(layer.named_parameters()):
        assert bool((layer.weight == 7).all()), "the module given is not touched"


def test_a_network_without_normalisation_is_refused():
    with pytest.raises(InvalidArgument, match="module=Linear: it has no normalisation layer"):
        unit_masked(nn.Linear(2, 2), 0)


def test_the_selector_alone_also_serves_pretrained_scales():
    module = hopsupsup()
    module[1] = nn.BatchNorm1d(6, dtype=torch.float64)
    net = FrozenNetwork(module, 0, select=normalisation_scale, init=keep_weights)
    assert [entry.name for entry in net.maskable] == ["1.weight"]

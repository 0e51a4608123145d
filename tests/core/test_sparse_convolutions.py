"""Convolutions by the ones of a mask alone, against `torch.conv2d` and against the whole network's forward pass."""

import pickle
import threading
import time

import numpy
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from supsup_core import (
    FrozenNetwork,
    InvalidArgument,
    MaskBank,
    SparseForward,
    density_budget,
    machine_code,
    sparse_convolutions,
    sparse_loops,
    top_k_masks,
)
from supsup_core.sparse_loops import Geometry, SparseKernel
from torch import nn
from torch.nn.functional import conv2d

pytestmark = pytest.mark.skipif(not machine_code.is_installed(), reason="needs numba (extra fast)")


def pair(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def geometries(draw):
    return Geometry(draw(pair(1, 9)), draw(pair(1, 4)), draw(pair(1, 3)), draw(pair(0, 4)), draw(pair(1, 3)))


def sparse_weight(outputs, inputs, kernel, share, generator, dtype=torch.float64):
    weight = torch.randn(outputs, inputs, *kernel, generator=generator, dtype=dtype)
    return weight * (torch.rand(weight.shape, generator=generator) < share)


def convolved(x, weight, geometry):
    return conv2d(x, weight, None, geometry.stride, geometry.padding, geometry.dilation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=150)
@given(
    geometry=geometries(),
    images=st.integers(1, 3),
    channels=pair(1, 5),
    share=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 1000),
)
def test_it_is_torchs_convolution(dtype, geometry, images, channels, share, seed):
    assume(min(geometry.output) >= 1)
    generator = torch.Generator().manual_seed(seed)
    weight = sparse_weight(*channels, geometry.kernel, share, generator, dtype)
    x = torch.randn(images, channels[1], *geometry.image, generator=generator, dtype=dtype)
    found, expected = SparseKernel.of(weight, geometry).convolved(x), convolved(x, weight, geometry)
    # Two sums of the same n products in two orders differ by at most 2 n eps times the sum of their magnitudes.
    terms = weight[0].numel() + 1
    bound = 2 * terms * torch.finfo(dtype).eps * convolved(x.abs(), weight.abs(), geometry)
    assert found.shape == expected.shape
    assert bool(((found - expected).abs() <= bound).all())


@pytest.mark.parametrize("images", [1, 2, 7])
def test_threads_share_images_or_outputs_and_change_no_bit(monkeypatch, images):
    generator = torch.Generator().manual_seed(0)
    geometry = Geometry((9, 8), (3, 3), (2, 1), (1, 1), (1, 1))
    weight = sparse_weight(5, 4, (3, 3), 0.4, generator)
    x = torch.randn(images, 4, 9, 8, generator=generator, dtype=torch.float64)
    alone = SparseKernel.of(weight, geometry).convolved(x)
    pieces, in_threads = [], sparse_loops.in_threads
    monkeypatch.setattr(
        sparse_loops, "in_threads", lambda work, starts: pieces.append(len(starts)) or in_threads(work, starts)
    )
    monkeypatch.setattr(sparse_loops, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(SparseKernel.of(weight, geometry).convolved(x), alone)
    assert pieces == [3], "of 1 and 2 images the outputs, of 7 the images"


def small_resnet():
    """What its layers do otherwise than most: strides, a bias, groups, padding by a word, and a linear layer behind."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, 2, padding=3),
        nn.BatchNorm2d(16, affine=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(16, 24, 3, padding="same", bias=False),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, (2, 1), padding=1, dilation=2),
        nn.Conv2d(32, 16, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(16, 8, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def tasks_of(net, density, tasks=2):
    bank = MaskBank(net)
    for task in range(tasks):
        generator = torch.Generator().manual_seed(task)
        budget = density_budget(net, density)
        scores = [torch.rand(entry.shape, generator=generator) for entry in net.maskable]
        masks = top_k_masks(scores, [budget[entry.name] for entry in net.maskable], [0] * len(scores))
        statistics = {name: value + 0.1 * (task + 1) for name, value in net.fresh_buffers().items()}
        bank.append({entry.name: mask for entry, mask in zip(net.maskable, masks, strict=True)}, statistics)
    return bank


@pytest.fixture
def net():
    net = FrozenNetwork(small_resnet(), 0).to(dtype=torch.float64)
    for layer in net.module.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            layer.bias.data.normal_(generator=torch.Generator().manual_seed(1))
    return net


@pytest.fixture
def by_ones(monkeypatch):
    """The number of images of each convolution that went over ones alone."""
    calls, real = [], SparseKernel.convolved
    monkeypatch.setattr(sparse_convolutions, "_WORTH_A_LOOP", 1)
    monkeypatch.setattr(SparseKernel, "convolved", lambda kernel, x: calls.append(len(x)) or real(kernel, x))
    return calls


def images(number=4, side=20, dtype=torch.float64):
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(7), dtype=dtype)


def close(found, expected):
    # Seven layers of sums of at most 400 float64 products, of outputs near 1.
    return bool(((found - expected).abs() <= 1e-10 * (1 + expected.abs())).all())


def test_a_task_answers_as_the_network_under_its_weights(net, by_ones):
    bank = tasks_of(net, 0.1)
    of_tasks = [SparseForward(net, bank.weights(task)) for task in range(2)]
    for x in (images(), images(1), images(4, 24), images()):
        for task, answer in enumerate(of_tasks):
            assert close(answer(x), net(x, bank.weights(task)))
    assert by_ones == [4] * 8 + [1] * 8 + [4] * 16, "four of six convolutions: not those in groups or padded by a word"
    assert not torch.equal(of_tasks[0](images()), of_tasks[1](images()))


def test_images_whose_channels_lie_innermost_are_taken(net, by_ones):
    bank = tasks_of(net, 0.1)
    weights = bank.weights(0)
    x = images().contiguous(memory_format=torch.channels_last)
    assert torch.equal(SparseForward(net, weights)(x), SparseForward(net, weights)(images()))


def test_where_the_ones_lie_is_found_once_a_size(net, by_ones, monkeypatch):
    found, real = [], SparseKernel.of.__func__
    monkeypatch.setattr(SparseKernel, "of", classmethod(lambda cls, *shown: found.append(1) or real(cls, *shown)))
    answer = SparseForward(net, tasks_of(net, 0.1).weights(0))
    for x in (images(), images(2), images(4, 24), images()):
        answer(x)
    assert len(found) == 2 * 4


@pytest.mark.parametrize("why", ["dense", "small", "no extra", "autocast"])
def test_where_it_does_not_pay_torch_computes(net, by_ones, monkeypatch, why):
    bank = tasks_of(net, 0.3 if why == "dense" else 0.1)
    weights, x = bank.weights(1), images()
    if why == "small":
        monkeypatch.setattr(sparse_convolutions, "_WORTH_A_LOOP", 2**30)
    if why == "no extra":
        monkeypatch.setattr(sparse_convolutions, "is_installed", lambda: False)
    with torch.autocast("cpu", torch.bfloat16, enabled=why == "autocast"):
        assert torch.equal(SparseForward(net, weights)(x), net(x, weights))
    assert by_ones == []
    SparseForward(net, weights, most_density=1.0)(x)
    assert (by_ones == []) == (why in ("small", "no extra"))


def test_a_mask_without_ones_leaves_the_biases(net, by_ones):
    weights = {name: torch.zeros_like(value) for name, value in net.frozen.items()}
    assert close(SparseForward(net, weights)(images()), net(images(), weights))
    assert len(by_ones) == 4


def test_no_gradient_is_kept(net, by_ones):
    weights = {name: value.clone().requires_grad_() for name, value in tasks_of(net, 0.1).weights(0).items()}
    assert not SparseForward(net, weights)(images().requires_grad_()).requires_grad
    assert by_ones


def test_what_the_network_refuses_is_refused(net):
    with pytest.raises(InvalidArgument, match="the module has no such parameter"):
        SparseForward(net, {"5.weight": torch.zeros(1)})(images())
    with pytest.raises(RuntimeError, match="expected input"):
        SparseForward(net, tasks_of(net, 0.1).weights(0))(images()[:, :2])
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size can't be greater than actual input size"):
        SparseForward(net, tasks_of(net, 0.1).weights(0))(torch.zeros(0, 3, 0, 0, dtype=torch.float64))


def test_a_copy_through_pickle_answers_the_same(net, by_ones):
    answer = SparseForward(net, tasks_of(net, 0.1).weights(0))
    expected = answer(images())
    copied = pickle.loads(pickle.dumps(answer))  # noqa: S301  # of our own making
    del answer
    by_ones.clear()
    assert torch.equal(copied(images()), expected)
    assert by_ones == [4] * 4


def test_of_many_sizes_the_last_are_kept(net, by_ones):
    weights = tasks_of(net, 0.1).weights(0)
    answer = SparseForward(net, weights)
    for side in (16, 20, 24, 28, 32, 36, 16):
        assert close(answer(images(2, side)), net(images(2, side), weights))
    assert {len(kept) for kept in answer._convolutions._found.values()} == {4}


class Convolving(nn.Module):
    """A convolution that is called in a way of its own."""

    def __init__(self, call, outputs=4):
        super().__init__()
        self.layer, self.call = nn.Conv2d(3, outputs, 3, bias=False), call

    def forward(self, x):
        return self.call(x, self.layer.weight).flatten(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, weight: conv2d(x, 2.0 * weight),  # a weight that is no task's, and another one in each call
        lambda x, weight: torch.vmap(lambda each: conv2d(each.unsqueeze(0), weight)[0])(x),
        lambda x, weight: conv2d(x, weight, groups=1, padding="valid"),
        lambda x, weight: torch.stack([conv2d(image, weight) for image in x]),
    ],
    ids=["a weight of its own", "vmap", "padding by a word", "no axis of images"],
)
def test_what_a_loop_does_not_take_is_left_to_torch(by_ones, call):
    net = FrozenNetwork(Convolving(call), 0).to(dtype=torch.float64)
    weights = tasks_of(net, 0.1).weights(0)
    answer = SparseForward(net, weights)
    assert torch.equal(answer(images()), net(images(), weights))
    assert by_ones == []
    assert answer._convolutions._found == {}


@pytest.mark.parametrize(
    "call",
    [
        lambda x, weight: conv2d(input=x, weight=weight, bias=None, stride=(2, 1), padding=[1], dilation=2),
        lambda x, weight: conv2d(x, weight, torch.ones(4, dtype=torch.float64), numpy.int64(2)),
        lambda x, weight: conv2d(x, weight) + conv2d(x, weight, None, 1, 0, 1),
    ],
    ids=["by name", "a bias and NumPy's number", "a weight used twice"],
)
def test_what_torch_takes_is_taken(by_ones, call):
    net = FrozenNetwork(Convolving(call), 0).to(dtype=torch.float64)
    weights = tasks_of(net, 0.1).weights(0)
    assert close(SparseForward(net, weights)(images()), net(images(), weights))
    assert by_ones


@pytest.mark.parametrize(
    "call",
    [
        lambda x, weight: conv2d(x, weight, torch.ones(4)),
        lambda x, weight: conv2d(x, weight, torch.ones(1, dtype=torch.float64)),
        lambda x, weight: conv2d(x, weight, padding=-1),
        lambda x, weight: conv2d(x, weight, dilation=0),
        lambda x, weight: conv2d(x, weight, stride=0),
        lambda x, weight: conv2d(x, weight, stride=(1, 1, 1)),
    ],
    ids=["bias of another dtype", "short bias", "padding", "dilation", "stride", "three strides"],
)
def test_what_torch_refuses_is_refused(by_ones, call):
    net = FrozenNetwork(Convolving(call), 0).to(dtype=torch.float64)
    with pytest.raises(RuntimeError):
        SparseForward(net, tasks_of(net, 0.1).weights(0))(images())
    assert by_ones == []


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(net, share):
    with pytest.raises(InvalidArgument, match=f"most_density={share}: a share of the weights lies between 0 and 1"):
        SparseForward(net, {}, most_density=share)


def test_large_planes_are_not_kept(monkeypatch):
    monkeypatch.setattr(sparse_loops, "_KEPT_BYTES", 64)
    monkeypatch.setattr(sparse_loops, "_OF_THREAD", of_thread := threading.local())
    geometry = Geometry((9, 8), (3, 3), (1, 1), (1, 1), (1, 1))
    generator = torch.Generator().manual_seed(0)
    weight = sparse_weight(5, 4, (3, 3), 0.4, generator)
    x = torch.randn(2, 4, 9, 8, generator=generator, dtype=torch.float64)
    assert close(SparseKernel.of(weight, geometry).convolved(x), convolved(x, weight, geometry))
    assert not hasattr(of_thread, "memory")


def test_threads_are_waited_for_where_one_fails():
    done = []

    def work(start):
        if start == 0:
            raise KeyError("the first")
        time.sleep(0.2)
        done.append(start)

    with pytest.raises(KeyError, match="the first"):
        machine_code.in_threads(work, range(4))
    assert sorted(done) == [1, 2, 3]

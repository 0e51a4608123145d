"""How BatchE trains: torch's own Adam over effective weights is the oracle."""

import dataclasses

import pytest
import torch
from supsup_core import FrozenNetwork, kaiming_normal
from supsup_core.linear_chain import LinearChain
from supsup_methods.backbones import fully_connected
from supsup_methods.batch_ensemble import BatchE
from supsup_methods.training_length import TaskTraining
from supsup_methods.vector_training import (
    effective_weights,
    fresh_head,
    fresh_vectors,
    of_kind,
    training_forward,
    vectorised_logits,
)
from torch import nn

from .test_batch_ensemble import convolutional_module, linear_module, problem, settings, stream


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_task_0_trains_w_and_its_vectors_together_by_adam(decay):
    """The textbook loop: torch's own Adam on W, r and s, over the effective weights."""
    method = BatchE(settings(training=TaskTraining(5, 20), weight_decay=decay), problem())
    task, net = stream()[0], problem().network(kaiming_normal)
    values = {**fresh_vectors(net, 0, 0), **{f"trunk.{name}": value.clone() for name, value in net.frozen.items()}}
    leaves = {name: value.requires_grad_() for name, value in values.items()}
    seen = []
    shuffled = task.train.shuffled

    class Recorder:
        def __len__(self):
            return len(task.train)

        def shuffled(self, *args, **options):
            for batch in shuffled(*args, **options):
                seen.append(batch)
                yield batch

    method.learn([dataclasses.replace(task, train=Recorder())], lambda: None)
    optimizer = torch.optim.Adam(leaves.values(), lr=0.003, weight_decay=decay)
    for batch in seen:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch.images, effective_weights(net, leaves)), batch.labels).backward()
        optimizer.step()
    assert len(seen) == 5
    # Five steps of at most about lr each; Adam turns rounding in a gradient of almost 0 into part of a step, so most must
    # agree to single precision and none may be a step away.
    for name, value in of_kind(leaves, "trunk").items():
        apart = (method.net.frozen[name] - value.detach()).abs()
        assert float(apart.max()) < 0.003
        assert float(apart.median()) < 1e-6
        assert float((value.detach() - net.frozen[name]).abs().median()) > 0.003


def test_a_later_task_is_trained_with_the_decay_as_well():
    plain, decayed = (
        BatchE(settings(training=TaskTraining(20, 20), trunk="random", weight_decay=decay), problem())
        for decay in (0.0, 1.0)
    )
    for method in (plain, decayed):
        method.learn([stream()[0]], lambda: None)
    for name, value in plain.net.frozen.items():
        assert torch.equal(decayed.net.frozen[name], value), "W is nobody's to decay"
    first, second = (method.bank.blend(torch.ones(1)) for method in (plain, decayed))
    assert all(first[name].norm() > 1.1 * second[name].norm() for name in first)


def float64_values(net, last_layer):
    part = net
    if last_layer == "head":
        part = FrozenNetwork(fully_connected(20, (64, 32), 12)[:-1], 0, init=kaiming_normal).to(dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    values = fresh_vectors(part, 0, 3) | (fresh_head(net, 0, 3) if last_layer == "head" else {})
    values |= {f"trunk.{name}": value.clone() for name, value in part.frozen.items()}
    noise = {name: torch.randn(value.shape, generator=generator, dtype=torch.float64) for name, value in values.items()}
    return {name: (value + noise[name] / 3).requires_grad_() for name, value in values.items()}


@pytest.mark.parametrize("last_layer", ["rank-one", "head"])
def test_vectorised_and_effective_weights_give_the_same_logits_and_gradients(last_layer):
    net = problem().network(kaiming_normal).to(dtype=torch.float64)
    values = float64_values(net, last_layer)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(7, 1, 4, 5, generator=generator, dtype=torch.float64)
    upstream = torch.randn(7, 12, generator=generator, dtype=torch.float64)
    chain = LinearChain.of(net)

    def both(values, images, upstream):
        for logits in (
            vectorised_logits(chain, net, values, images),
            net(images, effective_weights(net, values)),
        ):
            yield logits.detach(), torch.autograd.grad((logits * upstream).sum(), list(values.values()))

    (fast, fast_gradients), (slow, slow_gradients) = both(values, images, upstream)
    # A logit or gradient is a sum of products; the same sum over absolute values (no ReLU is off there) bounds it, and each
    # of the two computations is off by at most that, times the unit roundoff, times the roundings on the way: the terms of
    # each sum, forward and backward, and three products a layer.
    size = {name: value.detach().abs().requires_grad_() for name, value in values.items()}
    logits_size, gradients_size = next(both(size, images.abs(), upstream.abs()))
    widths = (20, 64, 32, 12)
    roundings = 2 * (2 * sum(widths) + 7 + 3 * 2 * len(widths))
    unit = 2.0**-53
    assert bool(((fast - slow).abs() <= roundings * unit * logits_size).all())
    for one, other, bound in zip(fast_gradients, slow_gradients, gradients_size, strict=True):
        assert bool(other.abs().max() > 0)
        assert bool(((one - other).abs() <= roundings * unit * bound).all())


def test_which_networks_train_vectorised(monkeypatch):
    formed = []
    monkeypatch.setattr("supsup_methods.vector_training.effective_weights", lambda *given: formed.append(1) or {})
    for module, images, expected in (
        (linear_module, torch.ones(2, 1, 4, 5), 0),
        (convolutional_module, torch.ones(2, 1, 4, 5), 1),
    ):
        formed.clear()
        net = problem(module=module).network(kaiming_normal)
        training_forward(net, net.fresh_buffers())(images, fresh_vectors(net, 0, 0))
        assert len(formed) == expected


def test_dropout_drops_where_tasks_are_trained():
    net = FrozenNetwork(nn.Sequential(nn.Flatten(), nn.Linear(6, 40), nn.Dropout(0.5), nn.Linear(40, 3)), 0)
    forward, values = training_forward(net, {}), fresh_vectors(net, 0, 0)
    images = torch.ones(4, 6)
    assert not torch.equal(forward(images, values), forward(images, values))
    assert torch.equal(net(images, effective_weights(net, values)), net(images, effective_weights(net, values)))

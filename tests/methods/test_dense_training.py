"""Training all weights of a network with batch norm, held to torch's optimisers and schedule."""

import copy
from dataclasses import replace

import pytest
import torch
from supsup_datasets.seeds import generator
from supsup_methods.dense_training import DenseTask, DenseTraining, train_weights
from supsup_methods.gradients import network_gradients
from supsup_methods.training_length import Schedule
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from .vision_problems import in_doubles, network, stream

IMAGES, STEPS, RATE = 24, 9, 0.01
TRAINING = DenseTraining(epochs=3, batch_size=8, schedule=Schedule("cosine"), learning_rate=RATE)
TORCHS = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}


def trained(training, on_batch=lambda: None, task=0):
    net = network(dtype=torch.float64)
    statistics, shown = net.fresh_buffers(), in_doubles(stream(IMAGES)[task])
    of = DenseTask(net, shown, training, on_batch)
    gradients = network_gradients(net, training.precision, statistics)
    return net, train_weights(of, gradients, net.frozen, training.descent, statistics), statistics


@pytest.mark.parametrize("optimizer", TORCHS)
def test_it_equals_the_textbook_loop_with_torchs_optimizer_and_cosine(optimizer):
    net, weights, statistics = trained(replace(TRAINING, optimizer=optimizer))
    leaves = {name: value.clone().requires_grad_() for name, value in net.frozen.items()}
    module = copy.deepcopy(net.module).train()
    by = TORCHS[optimizer](leaves.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(by, T_max=STEPS)
    task = in_doubles(stream(IMAGES)[0])
    for batch in task.train.shuffled(8, STEPS, generator(0, "training order", 0)):
        by.zero_grad()
        cross_entropy(functional_call(module, leaves, batch.images), batch.labels).backward()
        by.step()
        schedule.step()
    # A gradient is right to about 1e-15, and what it is divided by is 1e-8 at the least: a step is right to 1e-7 rates.
    for name, leaf in leaves.items():
        assert (weights[name] - leaf.detach()).abs().max() <= STEPS * RATE * 1e-7
        assert (weights[name] - net.frozen[name]).abs().max() > RATE
    for name, value in statistics.items():
        assert torch.allclose(value, dict(module.named_buffers())[name], rtol=0, atol=1e-7)
        assert not torch.equal(value, net.fresh_buffers()[name])


@pytest.mark.parametrize(("task", "steps"), [(0, 3), (1, STEPS)])
def test_task_0_may_be_trained_for_another_time(task, steps):
    seen = []
    trained(replace(TRAINING, first_epochs=1), lambda: seen.append(1), task)
    assert len(seen) == steps

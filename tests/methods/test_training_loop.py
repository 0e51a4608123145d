"""The steps of a task: what layers draw at random, batches that are passed over, and how steps are counted."""

import pytest
import torch
from supsup_core import FrozenNetwork
from supsup_core.random_streams import stream_key
from supsup_datasets import Batch
from supsup_methods.mask_rules import Threshold, fresh_scores
from supsup_methods.mask_training import MaskTraining, train_masks
from supsup_methods.snapshots import Snapshots
from supsup_methods.training_length import Schedule, TaskTraining
from supsup_methods.training_loop import TrainingLoop
from torch import nn

from .vision_problems import LABELS, batches, network

STEPS = 6


def with_dropout(share: float = 0.5) -> FrozenNetwork:
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(40, 16, bias=False), nn.Dropout(share), nn.Linear(16, LABELS, bias=False)
    )
    return FrozenNetwork(layers, seed=0)


def plain() -> FrozenNetwork:
    return FrozenNetwork(nn.Sequential(nn.Flatten(), nn.Linear(40, LABELS, bias=False)), seed=0)


def loop_of(net, tasks=(0,), on_batch=lambda: None, snapshots=None, training=None) -> TrainingLoop:
    training = training or TaskTraining(batches=STEPS, batch_size=8)
    return TrainingLoop(net, tasks, training, 24, on_batch, snapshots or Snapshots())


def draws(net, tasks=(0,), snapshots=None, steps=STEPS) -> list[torch.Tensor]:
    """What steps of a training draw from the generator that layers draw from."""
    drawn: list[torch.Tensor] = []
    data = batches(steps, torch.float32)
    loop = loop_of(net, tasks, snapshots=snapshots)
    loop.run(lambda skip: data[skip:], lambda batch, share: drawn.append(torch.rand(3)), {"x": torch.zeros(1)})
    return drawn


def test_what_layers_draw_hangs_on_seed_task_and_step_alone():
    torch.manual_seed(1)
    first = draws(plain())
    torch.manual_seed(2)
    torch.rand(7)
    assert all(torch.equal(one, other) for one, other in zip(first, draws(plain()), strict=True))
    for number, drawn in enumerate(first):
        generator = torch.Generator().manual_seed(stream_key(0, "layers", 0, number))
        assert torch.equal(drawn, torch.rand(3, generator=generator))
    others = draws(plain(), tasks=(1,)) + draws(FrozenNetwork(nn.Linear(3, 3), seed=1))
    assert len({tuple(drawn.tolist()) for drawn in first + others}) == 3 * STEPS


def test_the_global_generator_is_left_as_it_was_even_if_a_step_fails():
    net = plain()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    draws(net)
    assert torch.equal(torch.random.get_rng_state(), before)

    def fail(batch, share):
        torch.rand(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop_of(net).run(lambda skip: batches(1, torch.float32), fail, {})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_training_that_goes_on_draws_what_it_would_have_drawn(tmp_path):
    whole = draws(plain())
    begun = draws(plain(), snapshots=Snapshots(tmp_path / "state", 0.0), steps=4)
    rest = draws(plain(), snapshots=Snapshots(tmp_path / "state", 0.0))
    assert len(rest) == STEPS - 4
    assert all(torch.equal(one, other) for one, other in zip(begun + rest, whole, strict=True))


def dropout_scores(seed_before: int, share: float = 0.5) -> torch.Tensor:
    torch.manual_seed(seed_before)
    net, data = with_dropout(share), batches(STEPS, torch.float32)
    training = MaskTraining(batches=STEPS, batch_size=8, learning_rate=0.01)
    scores = fresh_scores(net, 0, 0)
    train_masks(loop_of(net, training=training), training, scores, Threshold(), lambda skip: data[skip:], {})
    return scores


def test_dropout_trains_to_the_same_bits_whatever_was_drawn_before():
    assert torch.equal(dropout_scores(1), dropout_scores(2))


def test_dropout_drops_in_training():
    """The same layers under the same names, and so the same W: only the share that is dropped differs."""
    assert not torch.equal(dropout_scores(1), dropout_scores(1, share=0.0))


def single(count: int) -> Batch:
    return Batch(torch.zeros(count, 2, 4, 5), torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize(("make", "taken"), [(network, [8, 2, 8]), (plain, [8, 1, 2, 8, 1])])
def test_a_batch_of_one_image_is_passed_over_where_a_network_looks_at_a_whole_batch(make, taken):
    sizes, told, shares = [], [], []
    training = TaskTraining(batches=5, batch_size=8, schedule=Schedule("cosine"))

    def step(batch, share):
        sizes.append(len(batch))
        shares.append(share)

    data = [single(count) for count in (8, 1, 2, 8, 1)]
    loop_of(make(), on_batch=lambda: told.append(1), training=training).run(lambda skip: data, step, {})
    assert sizes == taken
    assert len(told) == 5, "it counts all the same"
    expected = [training.schedule.share(number, 5) for number in ((0, 2, 3) if len(taken) == 3 else range(5))]
    assert shares == expected


def test_steps_are_those_of_the_training_and_each_gets_its_share():
    shares = []
    training = TaskTraining(epochs=2, batch_size=10, schedule=Schedule("cosine", warm_up=0.3))
    loop = loop_of(plain(), training=training)
    assert loop.steps == 6  # 24 images: two batches of 10 and one of 4, twice
    loop.run(lambda skip: batches(6, torch.float32), lambda batch, share: shares.append(share), {})
    assert shares == [training.schedule.share(number, 6) for number in range(6)]


@pytest.mark.parametrize("tasks", [(0,), (3, 4, 5)])
def test_every_step_is_told_once_for_each_task_also_those_that_were_taken_before(tasks, tmp_path):
    def told(steps):
        calls, state = [], {"x": torch.zeros(1)}
        loop = loop_of(plain(), tasks, lambda: calls.append(1), Snapshots(tmp_path / "state", 0.0))
        loop.run(lambda skip: batches(steps, torch.float32)[skip:], lambda batch, share: None, state)
        return len(calls)

    assert told(4) == 4 * len(tasks)
    assert told(STEPS) == STEPS * len(tasks)

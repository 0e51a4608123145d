import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_methods.training_length import EpochsATask, Schedule, TaskTraining, TrainingLength, steps_of_task
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

schedules = st.builds(
    Schedule, shape=st.sampled_from(["constant", "cosine"]), warm_up=st.floats(0, 1, exclude_max=True)
)


@given(images=st.integers(1, 300), epochs=st.integers(1, 5), batch_size=st.integers(1, 310))
def test_epochs_are_all_batches_of_all_images_so_often(images, epochs, batch_size):
    """Counted as they are made; the last of each epoch may be smaller."""
    made = [part for _ in range(epochs) for part in torch.arange(images).split(batch_size)]
    assert EpochsATask(epochs, batch_size).steps(images) == len(made)
    assert sum(len(part) for part in made) == epochs * images


@given(images=st.integers(1, 300), batches=st.integers(1, 5), batch_size=st.integers(1, 310))
def test_batches_are_as_many_for_every_task(images, batches, batch_size):
    assert TrainingLength(batches, batch_size).steps(images) == batches


def test_defaults_are_the_papers():
    assert TrainingLength() == TrainingLength(batches=1000, batch_size=128)
    assert EpochsATask() == EpochsATask(epochs=1, batch_size=128)
    assert TaskTraining() == TaskTraining(
        batches=1000,
        batch_size=128,
        epochs=None,
        schedule=Schedule("constant", 0.0),
        precision="float32",
        first_epochs=None,
    )


@given(images=st.integers(1, 300), epochs=st.integers(1, 5), batch_size=st.integers(1, 310))
def test_epochs_take_the_place_of_a_number_of_batches(images, epochs, batch_size):
    length = TrainingLength(batches=7, batch_size=batch_size, epochs=epochs)
    assert length.steps(images) == EpochsATask(epochs, batch_size).steps(images)
    assert TrainingLength(batches=7, batch_size=batch_size).steps(images) == 7


def test_task_0_may_have_epochs_of_its_own():
    training = TaskTraining(epochs=50, first_epochs=250, batch_size=100, schedule=Schedule("cosine"))
    assert training.of_task(0) == TaskTraining(
        epochs=250, first_epochs=250, batch_size=100, schedule=Schedule("cosine")
    )
    assert training.of_task(1) is training
    assert [steps_of_task(training, task, 2450) for task in (0, 1, 19)] == [250 * 25, 50 * 25, 50 * 25]
    alike = TaskTraining(epochs=50)
    assert alike.of_task(0) is alike
    in_batches = TaskTraining(batches=10, first_epochs=2, batch_size=100)
    assert [steps_of_task(in_batches, task, 2450) for task in (0, 1)] == [50, 10]
    assert [steps_of_task(EpochsATask(2, 100), task, 2450) for task in (0, 1)] == [50, 50]


def by_torch(schedule: Schedule, steps: int) -> list[float]:
    """What torch's schedulers give the steps: a straight line from a rate's share of one step, then the cosine, or all of it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rising = round(schedule.warm_up * steps)
    parts = []
    if rising:
        parts.append(LinearLR(optimizer, start_factor=1 / rising, end_factor=1.0, total_iters=max(1, rising - 1)))
    if schedule.shape == "cosine":
        parts.append(CosineAnnealingLR(optimizer, T_max=steps - rising))
    if not parts:
        return [1.0] * steps
    along = SequentialLR(optimizer, parts, milestones=[rising]) if len(parts) == 2 else parts[0]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        along.step()
    return rates


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # SequentialLR's own
@pytest.mark.parametrize("shape", ["constant", "cosine"])
@pytest.mark.parametrize(("warm_up", "steps"), [(0.0, 40), (0.05, 100), (0.25, 40), (0.5, 7), (0.9, 20)])
def test_shares_are_those_of_torchs_schedulers(shape, warm_up, steps):
    schedule = Schedule(shape, warm_up)
    expected = by_torch(schedule, steps)
    # torch goes from each rate to the next, in a few roundings of numbers of at most 1, and a cosine that falls amplifies none.
    tolerance = 8 * steps * torch.finfo(torch.float64).eps
    found = [schedule.share(step, steps) for step in range(steps)]
    assert found == pytest.approx(expected, abs=tolerance)


@given(schedule=schedules, steps=st.integers(1, 400))
def test_shares_rise_in_a_straight_line_to_all_and_then_never_rise_again(schedule, steps):
    shares = [schedule.share(step, steps) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    rising = round(schedule.warm_up * steps)
    assert shares[:rising] == [(step + 1) / rising for step in range(rising)]
    if rising < steps:
        assert shares[rising] == 1.0, "the step behind the rise takes all"
    later = shares[rising:]
    assert later == sorted(later, reverse=True)
    if schedule.shape == "constant":
        assert set(later) <= {1.0}


@given(steps=st.integers(1, 1000))
def test_a_cosine_ends_just_above_nothing_and_is_half_in_the_middle(steps):
    schedule = Schedule("cosine")
    # (1 + cos(π - x)) / 2 = sin²(x / 2), and a cosine near -1 is known to one rounding of 1.
    last = math.sin(math.pi / (2 * steps)) ** 2
    assert schedule.share(steps - 1, steps) == pytest.approx(last, rel=0, abs=2.0**-52)
    assert schedule.share(0, steps) == 1.0
    assert schedule.share(steps, 2 * steps) == pytest.approx(0.5, abs=2.0**-52)

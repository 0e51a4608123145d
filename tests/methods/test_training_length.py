import torch
from hypothesis import given
from hypothesis import strategies as st
from supsup_methods.training_length import EpochsATask, TrainingLength


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

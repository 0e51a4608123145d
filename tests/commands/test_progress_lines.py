"""The line for each task where nobody watches: task 0 may take another number of steps than the others."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from supsup_datasets import embedded_mnist
from supsup_methods.commands.progress import RunProgress
from supsup_methods.data_assembly import build_stream
from supsup_methods.experiment import Recipe
from supsup_methods.mask_training import MaskTraining
from supsup_methods.supsup import SupSupSettings

TRAINING = MaskTraining(epochs=2, batch_size=1000)  # four batches of 1000 digits in an epoch


@pytest.mark.parametrize(("first_epochs", "steps"), [(None, [8, 8, 8]), (5, [20, 8, 8]), (1, [4, 8, 8])])
def test_the_rate_counts_the_steps_of_the_task_itself(first_epochs, steps):
    recipe = Recipe("small", 3, method=SupSupSettings(training=replace(TRAINING, first_epochs=first_epochs)))
    screen = io.StringIO()
    with RunProgress(Console(file=screen, width=100), recipe, build_stream(recipe, embedded_mnist())) as progress:
        progress.begun(0)
        for task in range(3):
            progress.task_learned(task + 1, seconds=1.0)
    lines = screen.getvalue().splitlines()
    assert [line.split(" steps/s")[0] for line in lines] == [
        f"task {task + 1}/3 learned · {count}" for task, count in enumerate(steps)
    ]
    assert lines[-1].endswith("· 0 s left")

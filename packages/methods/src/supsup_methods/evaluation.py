"""Scoring a method on test batches of the tasks it has learned, under a scenario (Table 1)."""

from collections.abc import Callable
from dataclasses import dataclass

from supsup_datasets import Scenario, Task

from supsup_methods.continual_method import ContinualMethod


@dataclass(frozen=True)
class TaskScore:
    """Counts over the test set of one task. A guess is made once for each test batch."""

    task: int
    images: int
    images_right: int
    guesses: int
    guesses_right: int

    @property
    def accuracy(self) -> float:
        """Fraction of the images that are right."""
        return self.images_right / self.images


@dataclass(frozen=True)
class Checkpoint:
    """Scores of all tasks learned so far."""

    tasks_learned: int
    scores: tuple[TaskScore, ...]
    seconds: float

    @property
    def accuracy(self) -> float:
        """Fraction of images that are right, averaged over tasks."""
        return sum(score.accuracy for score in self.scores) / len(self.scores)

    @property
    def task_inference_accuracy(self) -> float | None:
        """Fraction of test batches whose task was found, or None where it was given."""
        guesses = sum(score.guesses for score in self.scores)
        return sum(score.guesses_right for score in self.scores) / guesses if guesses else None


def evaluate_task(
    method: ContinualMethod,
    task: Task,
    scenario: Scenario,
    batch_size: int,
    on_batch: Callable[[], None] = lambda: None,
) -> TaskScore:
    """Score one task's test set, in batches, in order.

    What the method sees is the images of a batch, and the task where the scenario gives it; the comparison with labels
    and with the true task happens here, after the method has answered.
    """
    images = images_right = guesses = guesses_right = 0
    for batch in task.test.in_order(batch_size):
        if scenario.task_given_at_test:
            answered = task.index
        else:
            answered = method.infer(batch.images).task
            guesses += 1
            guesses_right += answered == task.index
        predicted = method.logits(batch.images, answered).argmax(dim=-1)
        right = scenario.right(predicted, batch.labels, answered_task=answered, true_task=task.index)
        images += len(batch)
        images_right += int(right.sum())
        on_batch()
    return TaskScore(task.index, images, images_right, guesses, guesses_right)

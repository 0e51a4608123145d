"""Scoring a method on test batches of the tasks it has learned, under a scenario (Table 1)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from supsup_datasets import Batch, Scenario, Task
from supsup_datasets.seeds import generator
from torch import Tensor

from supsup_methods.continual_method import (
    AnswersByTask,
    AnyMethod,
    InferByAll,
    InferEach,
    RecoversMasks,
    TaskGuess,
)
from supsup_methods.errors import UsageError
from supsup_methods.recovery_scoring import RecoveryTrace, score_recovery

TEST_ORDER = "of each task's own"
"""Of test images, as runs and answers have it on record; in runs of earlier versions it was the data's."""

_WINDOW_FLOATS = 2**24  # of test images in memory at once


@dataclass(frozen=True)
class TaskScore:
    """Counts over the test set of one task. A guess is made once for each test batch, or a mask recovered once for all."""

    task: int
    images: int
    images_right: int
    guesses: int
    guesses_right: int
    guessed: dict[int, int] = field(default_factory=dict)
    """How many test batches were given to each task, for those that were given any: a row of the confusion of tasks. In NNs to
    each mask. Where a mask was recovered, the task of the nearest one, which is not right before it is the very same."""
    recovery: RecoveryTrace | None = None
    """How the mask was recovered, where it was."""

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


def evaluation_batches(task: Task, batch_size: int) -> Iterator[Batch]:
    """Yield a task's test images in batches, in an order of the task's own: always the same, and no other task's.

    Where some images of each batch are asked for its task, they would otherwise be the same few in every task, and one that is
    hard to tell would count as often as there are tasks.
    """
    return task.test.mixed(batch_size, generator(0, "test order", task.index))


def evaluate_task(
    method: AnyMethod,
    task: Task,
    scenario: Scenario,
    batch_size: int,
    on_batch: Callable[[], None] = lambda: None,
    owners: Mapping[int, int] | None = None,
) -> TaskScore:
    """Score one task's test set, in batches (`evaluation_batches`).

    Where masks are no tasks (NNs), a guess is right if the mask is one of this task: if `owners` of masks says so.

    What the method sees is the images of a batch, and the task where the scenario gives it; the comparison with labels
    and with the true task happens here, after the method has answered.

    Raises:
        UsageError: the scenario hides the task and the method cannot infer it.
    """
    if isinstance(method, RecoversMasks):
        return _evaluate_recovery(method, task, scenario, batch_size, on_batch)
    if scenario.task_given_at_test:
        told = [TaskGuess(task.index, 1.0)]
        (score,) = evaluate_searches(
            method, task, scenario, batch_size, lambda batches: [told * len(batches)], 1, on_batch
        )
        return replace(score, guesses=0, guesses_right=0, guessed={})
    infer_each = _inference(method, scenario)
    (score,) = evaluate_searches(
        method, task, scenario, batch_size, lambda batches: [infer_each(batches)], 1, on_batch, owners
    )
    return score


def evaluate_searches(
    method: AnswersByTask,
    task: Task,
    scenario: Scenario,
    batch_size: int,
    infer_all: InferByAll,
    searches: int,
    on_batch: Callable[[], None] = lambda: None,
    owners: Mapping[int, int] | None = None,
) -> list[TaskScore]:
    """Score one task's test set as `evaluate_task` does, once for each of several ways to infer the task.

    Args:
        method: what was learned.
        task: whose test set it is.
        scenario: by which predictions are scored.
        batch_size: images that belong together.
        infer_all: the ways to infer.
        searches: how many these are.
        on_batch: called after each batch.
        owners: of masks, where these are no tasks (NNs).
    """
    images, images_right, guessed = 0, [0] * searches, [Counter[int]() for _ in range(searches)]
    for window in _windows(evaluation_batches(task, batch_size)):
        found = infer_all([batch.images for batch in window])
        answers = [[guess.task for guess in guesses] for guesses in found]
        predicted = _predictions(method, window, answers)
        for number, batch in enumerate(window):
            images += len(batch)
            for search, answered in enumerate(answers):
                answer = answered[number]
                labels = predicted[number, answer]
                right = scenario.right(labels, batch.labels, answered_task=answer, true_task=task.index)
                images_right[search] += int(right.sum())
                guessed[search][answer] += 1
            on_batch()
    return [
        TaskScore(task.index, images, right, counts.total(), _right(task, counts, owners), dict(sorted(counts.items())))
        for right, counts in zip(images_right, guessed, strict=True)
    ]


def _right(task: Task, guessed: Counter[int], owners: Mapping[int, int] | None) -> int:
    """Return how many guesses are right."""
    if owners is None:
        return guessed[task.index]
    return sum(count for mask, count in guessed.items() if owners.get(mask) == task.identity)


def _evaluate_recovery(
    method: RecoversMasks, task: Task, scenario: Scenario, batch_size: int, on_batch: Callable[[], None]
) -> TaskScore:
    if scenario.task_given_at_test:
        raise UsageError(
            f"--evaluation.scenario {scenario.value}: this method keeps no mask by task, so a given one says nothing to it; "
            "choose GNu, or GNs where tasks share labels"
        )
    score = score_recovery(method, task, scenario, batch_size, on_batch)
    guessed = {} if score.nearest is None else {score.nearest: 1}
    return TaskScore(
        task.index, score.images, score.images_right, len(guessed), int(score.exact or False), guessed, score.trace
    )


def _inference(method: AnswersByTask, scenario: Scenario) -> InferEach:
    infer_each = method.infer_each
    if infer_each is None:
        raise UsageError(
            f"--evaluation.scenario {scenario.value}: this method must be given the task of test images; choose GG"
        )
    return infer_each


def _windows(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Yield batches, as many at a time as fit the memory for a window, and at least one."""
    window: list[Batch] = []
    for batch in batches:
        window.append(batch)
        if sum(each.images.numel() for each in window) >= _WINDOW_FLOATS:
            yield window
            window = []
    if window:
        yield window


def _predictions(
    method: AnswersByTask, batches: list[Batch], answers: list[list[int]]
) -> dict[tuple[int, int], Tensor]:
    """Return the labels of each batch's images under each task that it was given to, by the two numbers.

    Batches of one task share a forward pass.
    """
    members: defaultdict[int, set[int]] = defaultdict(set)
    for answered in answers:
        for number, task in enumerate(answered):
            members[task].add(number)
    predicted: dict[tuple[int, int], Tensor] = {}
    for task, numbers in sorted(members.items()):
        shown = sorted(numbers)
        labels = method.logits(torch.cat([batches[number].images for number in shown]), task).argmax(dim=-1)
        for number, part in zip(shown, labels.split([len(batches[number]) for number in shown]), strict=True):
            predicted[number, task] = part
    return predicted

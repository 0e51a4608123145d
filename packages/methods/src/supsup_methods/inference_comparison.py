"""Several ways to find the task of test images, on the same learned tasks and images: how often right, how sure, how fast.

Confidences are compared with how often the guesses are right, before and after a temperature is fitted. It is fitted on
training images of the learned tasks, whose tasks are known; test images and labels only score what was answered.
"""

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from supsup_core import ContextStore, FrozenNetwork, expected_calibration_error, fit_temperature
from supsup_datasets import Scenario, Task
from supsup_datasets.seeds import generator
from torch import Tensor

from supsup_methods.errors import UsageError
from supsup_methods.evaluation import TaskScore, evaluation_batches
from supsup_methods.task_guessing import ScoreEach, TaskInference, score_by

_WINDOW_FLOATS = 2**24  # of the images that guesses are made from, in memory at once
_MOST_CALIBRATION_GUESSES = 4096  # each has a value for every task, and one number is fitted


@dataclass(frozen=True)
class Compared:
    """What a search came to. Accuracies and errors are fractions."""

    settings: TaskInference
    """Which search."""
    scores: tuple[TaskScore, ...]
    """Of each task, under GNu: a wrong task makes every image of its batch wrong."""
    temperature: float
    """Fitted on training images: confidences are softmax(-values / temperature)."""
    calibration_error: float
    """Expected calibration error of the confidences at temperature 1."""
    calibrated_error: float
    """The same at the fitted temperature."""
    median_seconds_per_guess: float
    """Time of a search over many guesses at once, divided by their number; the median over such windows."""

    @property
    def guesses(self) -> int:
        """Number of guesses: one for each test batch."""
        return sum(score.guesses for score in self.scores)

    @property
    def task_inference_accuracy(self) -> float:
        """Fraction of the guesses that are right."""
        return sum(score.guesses_right for score in self.scores) / self.guesses

    @property
    def accuracy(self) -> float:
        """Fraction of the images whose label and task are right (GNu), averaged over tasks."""
        return sum(score.accuracy for score in self.scores) / len(self.scores)


def compare(
    net: FrozenNetwork,
    store: ContextStore,
    num_labels: int,
    tasks: Sequence[Task],
    settings: Sequence[TaskInference],
    batch_size: int,
    calibration_guesses_per_task: int,
    seed: int = 0,
) -> list[Compared]:
    """Return what each search comes to on the test sets of `tasks`, in batches, one guess a batch, in order.

    Args:
        net: the network.
        store: the contexts of all tasks learned; a search chooses among all of them.
        num_labels: labels of a task; outputs from there on are superfluous neurons.
        tasks: those whose test images are shown; task i is the store's context `task.index`.
        settings: the searches; each reads the first `images_per_guess` images of a batch.
        batch_size: test images that belong together.
        calibration_guesses_per_task: guesses on training images of each of `tasks` that a temperature is fitted on; of many
            tasks fewer, but one at least, and in all no more than 4,096 where that is possible.
        seed: which training images these are.

    Raises:
        UsageError: there is no task, the store has no context for one, or a number is below 1.
        InvalidArgument: a search cannot be made (`supsup_core`): no superfluous neuron for G, images that are not finite.
    """
    _refuse_unanswerable(store, tasks, batch_size, calibration_guesses_per_task)
    runs = [
        _Run(each, score_by(each, net, store, num_labels), min(each.images_per_guess, batch_size)) for each in settings
    ]
    some = max(1, min(calibration_guesses_per_task, _MOST_CALIBRATION_GUESSES // len(tasks)))
    for run in runs:
        run.temperature = _temperature(run, tasks, some, seed)
    shown = max((run.images_per_guess for run in runs), default=1)
    for task in tasks:
        for window in _windows(net, store, task, batch_size, shown):
            for run in runs:
                run.answer(window, task.index)
        for run in runs:
            run.close(task.index)
    return [run.result() for run in runs]


@dataclass(frozen=True)
class _Batch:
    """What a comparison keeps of a test batch."""

    shown: Tensor
    """Images for guesses."""
    images: int
    right: int
    """How many labels are right under the true task, which is what counts where the guess is right."""


@dataclass
class _Run:
    """A search on its way through the test sets."""

    settings: TaskInference
    score_each: ScoreEach
    images_per_guess: int
    temperature: float = 1.0
    scores: list[TaskScore] = field(default_factory=list)
    answered: list[tuple[_Batch, int]] = field(default_factory=list)  # of the task that is being tested
    right: list[Tensor] = field(default_factory=list)
    confidences: list[Tensor] = field(default_factory=list)
    calibrated: list[Tensor] = field(default_factory=list)
    seconds_per_guess: list[float] = field(default_factory=list)

    def answer(self, window: Sequence[_Batch], true_task: int) -> None:
        """Guess the task of each batch of a window, and time it."""
        images = [batch.shown for batch in window]
        _finish(images[0].device)
        started = time.perf_counter()
        scored = self.score_each(images)
        _finish(images[0].device)
        self.seconds_per_guess.append((time.perf_counter() - started) / len(window))
        self.answered.extend(zip(window, scored.tasks.tolist(), strict=True))
        self.right.append((scored.tasks == true_task).cpu())
        self.confidences.append(scored.confidences().cpu())
        self.calibrated.append(scored.confidences(self.temperature).cpu())

    def close(self, task: int) -> None:
        """Count what was answered on a task's test set."""
        guessed = Counter(guess for _, guess in self.answered)
        images = sum(batch.images for batch, _ in self.answered)
        right = sum(batch.right for batch, guess in self.answered if guess == task)
        guesses = len(self.answered)
        self.scores.append(TaskScore(task, images, right, guesses, guessed[task], dict(sorted(guessed.items()))))
        self.answered.clear()

    def result(self) -> Compared:
        """Return what it came to."""
        right = torch.cat(self.right)
        return Compared(
            self.settings,
            tuple(self.scores),
            self.temperature,
            expected_calibration_error(torch.cat(self.confidences), right),
            expected_calibration_error(torch.cat(self.calibrated), right),
            statistics.median(self.seconds_per_guess),
        )


def _temperature(run: _Run, tasks: Sequence[Task], guesses_per_task: int, seed: int) -> float:
    """Return the temperature fitted on guesses about training images.

    A guess that ruled its true task out on the way says nothing about a temperature and is left out; where none is left, it
    is 1.
    """
    values, truths = [], []
    for task in tasks:
        draws = generator(seed, "calibration images", task.index)
        batches = task.train.shuffled(run.images_per_guess, guesses_per_task, draws)
        scored = run.score_each([batch.images for batch in batches])
        values.append(scored.values)
        truths.append(torch.full_like(scored.tasks, task.index))
    all_values, all_truths = torch.cat(values), torch.cat(truths)
    possible = torch.isfinite(all_values.gather(1, all_truths.unsqueeze(1)).squeeze(1))
    return fit_temperature(all_values[possible], all_truths[possible]) if bool(possible.any()) else 1.0


def _windows(
    net: FrozenNetwork, store: ContextStore, task: Task, batch_size: int, shown: int
) -> Iterator[list[_Batch]]:
    """Yield a task's test batches, as many at a time as fit the memory for the images that are shown."""
    weights = store.weights(task.index)
    window: list[_Batch] = []
    for batch in evaluation_batches(task, batch_size):
        with torch.no_grad():
            predicted = net(batch.images, weights).argmax(dim=-1)
        right = Scenario.GNu.right(predicted, batch.labels, answered_task=task.index, true_task=task.index)
        window.append(_Batch(batch.images[:shown].clone(), len(batch), int(right.sum())))
        if sum(each.shown.numel() for each in window) >= _WINDOW_FLOATS:
            yield window
            window = []
    if window:
        yield window


def _refuse_unanswerable(
    store: ContextStore, tasks: Sequence[Task], batch_size: int, calibration_guesses_per_task: int
) -> None:
    if not tasks:
        raise UsageError("tasks: none to compare searches on; pass at least one")
    for task in tasks:
        if task.index >= len(store):
            raise UsageError(
                f"tasks: task {task.index} is not among the {len(store)} learned; learn it or leave it out"
            )
    for name, number in (("batch_size", batch_size), ("calibration_guesses_per_task", calibration_guesses_per_task)):
        if number < 1:
            raise UsageError(f"{name}={number}: ask for at least 1")


def _finish(device: torch.device) -> None:
    """Wait for a GPU, so that a clock read next tells how long its work took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

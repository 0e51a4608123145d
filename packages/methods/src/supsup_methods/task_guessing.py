"""How a method over a store of contexts finds the task of test images when nobody gives it: which search, with what objective.

| settings | search | rounds or passes for k tasks |
|---|---|---|
| `OneShot` | one gradient of the blend (Algorithm 1) | 1 |
| `Gamma` | keep a share γ of the tasks, again and again; 1/2 is Binary (Algorithm 2, Appendix F) | log k / log 1/γ |
| `EveryTask` | each task's own network, and whose is surest (Appendix C) | k, forward only |
| `Descent` | gradient descent on the beliefs (Eq. 3) | `steps` |

Every search gives each task a value, the lower the likelier; a confidence is softmax(-values / T) at the answer. The values are
slopes of the last round (`OneShot`, `Gamma`), objectives (`EveryTask`), or -log α (`Descent`), so that at T = 1 its confidence
is its belief.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, assert_never

import torch
from jaxtyping import Float, Int64
from supsup_core import (
    ContextStore,
    FrozenNetwork,
    Objective,
    answer_confidences,
    belief_descent_each,
    entropy,
    every_task_each,
    gamma_each,
    image_values,
    max_confidence,
    max_logit,
    one_shot_each,
    superfluous_logsumexp,
)
from torch import Tensor

from supsup_methods.bounds import Bounds, ByKind
from supsup_methods.continual_method import InferByAll, InferEach, TaskGuess

# Values, and beliefs and slopes of every round, of the guesses that one search makes.
_ANSWER_FLOATS = 2**24

ImagesPerGuess: TypeAlias = Annotated[int, Bounds(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class OneShot:
    """One gradient of an objective at the superposition of all tasks (Algorithm 1)."""

    kind: Literal["one-shot"] = "one-shot"
    """Which search."""
    objective: Literal["H", "G"] = "H"
    """H: entropy of the outputs; G: logsumexp with gradient through the superfluous neurons only."""
    images_per_guess: ImagesPerGuess = 1
    """Images of a test batch that infer the task of the whole batch; more than it has means all."""


@dataclass(frozen=True)
class Gamma:
    """Tasks drop out in rounds until one is left (Algorithm 2, Appendix F)."""

    kind: Literal["gamma"] = "gamma"
    """Which search."""
    share: Annotated[float, Bounds(gt=0, lt=1)] = 0.5
    """Share γ of the tasks that stay in each round; 0.5 is Binary."""
    objective: Literal["H", "G"] = "H"
    """H: entropy of the outputs; G: logsumexp with gradient through the superfluous neurons only."""
    images_per_guess: ImagesPerGuess = 1
    """Images of a test batch that infer the task of the whole batch; more than it has means all."""


@dataclass(frozen=True)
class EveryTask:
    """Each task's network sees the images, and the surest names the task (Appendix C): a forward pass for each task."""

    kind: Literal["every-task"] = "every-task"
    """Which search."""
    objective: Literal["H", "M", "max-logit"] = "H"
    """H: entropy of the outputs; M: negated largest probability; max-logit: negated largest output before the softmax."""
    images_per_guess: ImagesPerGuess = 1
    """Images of a test batch that infer the task of the whole batch; more than it has means all."""


MOST_STEPS = 10_000
"""Of a descent: what it believed and saw at each of them is kept."""


@dataclass(frozen=True)
class Descent:
    """Gradient descent on the beliefs, from equal ones (Eq. 3): a gradient of the superposition for each step."""

    kind: Literal["descent"] = "descent"
    """Which search."""
    objective: Literal["H", "G"] = "H"
    """H: entropy of the outputs; G: logsumexp with gradient through the superfluous neurons only."""
    steps: Annotated[int, Bounds(ge=1, le=MOST_STEPS)] = 10
    """How often the beliefs move; the first step alone answers as one-shot does."""
    learning_rate: Annotated[float, Bounds(gt=0, le=1e6)] = 1.0
    """Change of the log-odds of two tasks for each unit by which their slopes differ."""
    images_per_guess: ImagesPerGuess = 1
    """Images of a test batch that infer the task of the whole batch; more than it has means all."""


TaskInference: TypeAlias = Annotated[OneShot | Gamma | EveryTask | Descent, ByKind()]
"""The searches that a recipe can ask for."""


@dataclass(frozen=True)
class ScoredGuesses:
    """The answers of a search, and what they were chosen by.

    Attributes:
        tasks: the task of each guess.
        values: of every task for each guess, the lower the likelier; infinite for a task that dropped out before the end.
    """

    tasks: Int64[Tensor, " guesses"]
    values: Float[Tensor, "guesses tasks"]

    def confidences(self, temperature: float = 1.0) -> Float[Tensor, " guesses"]:
        """Return the answer's share of softmax(-values / temperature) for each guess."""
        return answer_confidences(self.values, self.tasks, temperature)


ScoreEach: TypeAlias = Callable[[Sequence[Float[Tensor, "images *input"]]], ScoredGuesses]
"""Batches of images to a guess for each, from its own images alone."""


def infer_by(
    settings: TaskInference, net: FrozenNetwork, store: ContextStore, num_labels: int, temperature: float = 1.0
) -> InferEach:
    """Return the search over a store: batches to the task of each, from its first `images_per_guess` images.

    Args:
        settings: which search.
        net: the network.
        store: the contexts of all tasks.
        num_labels: labels of a task; outputs from there on are superfluous neurons.
        temperature: T of the confidences, such as `supsup_core.fit_temperature` finds; it changes no answer.
    """
    score_each = score_by(settings, net, store, num_labels)

    def infer_each(batches: Sequence[Float[Tensor, "images *input"]]) -> list[TaskGuess]:
        if not batches:
            return []
        return _as_guesses(score_each(batches), temperature)

    return infer_each


def infer_by_all(settings: Sequence[EveryTask], net: FrozenNetwork, store: ContextStore, num_labels: int) -> InferByAll:
    """Return several searches over a store that try every task: they share forward passes where images cannot see each other.

    Args:
        settings: which searches.
        net: the network.
        store: the contexts of all tasks.
        num_labels: labels of a task.
    """
    names = list(dict.fromkeys(each.objective for each in settings))
    objectives = [_objective(name, num_labels) for name in names]
    most = max((each.images_per_guess for each in settings), default=1)
    alone = [infer_by(each, net, store, num_labels) for each in settings]

    def infer_all(batches: Sequence[Float[Tensor, "images *input"]]) -> list[list[TaskGuess]]:
        shown = [batch[:most] for batch in batches]
        answerable = bool(settings and shown) and all(map(len, shown))  # else each says of it what it does alone
        values = image_values(objectives, net, store, torch.cat(shown)) if answerable else None
        if values is None:
            return [infer_each(batches) for infer_each in alone]
        parts = values.split([len(images) for images in shown], dim=1)
        found = []
        for each in settings:
            of_objective = names.index(each.objective)
            means = torch.stack([part[of_objective, : each.images_per_guess].mean(dim=0) for part in parts])
            found.append(_as_guesses(ScoredGuesses(means.argmin(dim=1), means)))
        return found

    return infer_all


def _as_guesses(scored: ScoredGuesses, temperature: float = 1.0) -> list[TaskGuess]:
    confidences = scored.confidences(temperature).tolist()
    return [TaskGuess(task, sure) for task, sure in zip(scored.tasks.tolist(), confidences, strict=True)]


def score_by(settings: TaskInference, net: FrozenNetwork, store: ContextStore, num_labels: int) -> ScoreEach:
    """Return the search over a store as `infer_by` does, answering with the values of all tasks; at least one batch is shown."""

    def score_each(batches: Sequence[Float[Tensor, "images *input"]]) -> ScoredGuesses:
        shown = [batch[: settings.images_per_guess] for batch in batches]
        guesses_at_once = max(1, _ANSWER_FLOATS // (max(1, len(store)) * _rows_of_a_guess(settings, len(store))))
        found = [
            _search(settings, net, store, num_labels, images, size)
            for size, alike in itertools.groupby(shown, key=len)
            for images in torch.cat(list(alike)).split(size * guesses_at_once)
        ]
        return ScoredGuesses(torch.cat([each.tasks for each in found]), torch.cat([each.values for each in found]))

    return score_each


def _search(
    settings: TaskInference, net: FrozenNetwork, store: ContextStore, num_labels: int, images: Tensor, size: int
) -> ScoredGuesses:
    objective = _objective(settings.objective, num_labels)
    match settings:
        case OneShot():
            guesses = one_shot_each(objective, net, store, images, size)
            return ScoredGuesses(guesses.tasks, guesses.values)
        case Gamma(share=share):
            guesses = gamma_each(objective, net, store, images, share, size)
            return ScoredGuesses(guesses.tasks, guesses.values)
        case EveryTask():
            trials = every_task_each(objective, net, store, images, size)
            return ScoredGuesses(trials.tasks, trials.values)
        case Descent(steps=steps, learning_rate=rate):
            guesses = belief_descent_each(objective, net, store, images, size, steps=steps, learning_rate=rate)
            return ScoredGuesses(guesses.tasks, guesses.values)
        case _:
            assert_never(settings)


def _rows_of_a_guess(settings: TaskInference, tasks: int) -> int:
    """Return how many numbers a search keeps for each guess and task, at most."""
    match settings:
        case OneShot():
            return 3
        case Gamma(share=share):
            rounds = math.ceil(math.log(max(1, tasks)) / -math.log(share)) + 1  # each keeps at most γ of those left
            return 2 * min(max(1, tasks), rounds) + 1
        case EveryTask():
            return 1
        case Descent(steps=steps):
            return 2 * steps + 2
        case _:
            assert_never(settings)


def _objective(name: Literal["H", "G", "M", "max-logit"], num_labels: int) -> Objective:
    match name:
        case "H":
            return entropy
        case "G":
            return superfluous_logsumexp(num_labels)
        case "M":
            return max_confidence
        case "max-logit":
            return max_logit
        case _:
            assert_never(name)

"""How a method over a store of contexts finds the task of test images when nobody gives it: which search, with what objective.

| settings | search | rounds or passes for k tasks |
|---|---|---|
| `OneShot` | one gradient of the blend (Algorithm 1) | 1 |
| `Gamma` | keep a share γ of the tasks, again and again; 1/2 is Binary (Algorithm 2, Appendix F) | log k / log 1/γ |
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, assert_never

import torch
from jaxtyping import Float
from supsup_core import (
    ContextStore,
    FrozenNetwork,
    Guesses,
    Objective,
    entropy,
    gamma_each,
    one_shot_each,
    superfluous_logsumexp,
)
from torch import Tensor

from supsup_methods.bounds import Bounds
from supsup_methods.continual_method import InferEach, TaskGuess

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


TaskInference: TypeAlias = OneShot | Gamma
"""The searches that a recipe can ask for."""


def infer_by(settings: TaskInference, net: FrozenNetwork, store: ContextStore, num_labels: int) -> InferEach:
    """Return the search over a store: batches to the task of each, from its first `images_per_guess` images."""

    def infer_each(batches: Sequence[Float[Tensor, "images *input"]]) -> list[TaskGuess]:
        shown = [batch[: settings.images_per_guess] for batch in batches]
        found: list[TaskGuess] = []
        for size, alike in itertools.groupby(shown, key=len):
            guesses = _search(settings, net, store, num_labels, torch.cat(list(alike)), size)
            confidences = guesses.confidences.tolist()
            found.extend(TaskGuess(task, sure) for task, sure in zip(guesses.tasks.tolist(), confidences, strict=True))
        return found

    return infer_each


def _search(
    settings: TaskInference, net: FrozenNetwork, store: ContextStore, num_labels: int, images: Tensor, size: int
) -> Guesses:
    match settings:
        case OneShot():
            return one_shot_each(_objective(settings.objective, num_labels), net, store, images, images_per_guess=size)
        case Gamma():
            objective = _objective(settings.objective, num_labels)
            return gamma_each(objective, net, store, images, settings.share, images_per_guess=size)
        case _:
            assert_never(settings)


def _objective(name: Literal["H", "G"], num_labels: int) -> Objective:
    match name:
        case "H":
            return entropy
        case "G":
            return superfluous_logsumexp(num_labels)
        case _:
            assert_never(name)

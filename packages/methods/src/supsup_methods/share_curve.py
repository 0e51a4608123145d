"""Accuracy against the share γ of the tasks that a round of the search keeps, of any run (Figure 11, left; Appendix F).

One-Shot is one end of the curve, γ = 1/k, and Binary the other, γ = 1/2. Each point is an answer that is kept beside the run
(`reproduction.asked_again`), so that a curve can be looked at as far as it is known, and be measured on at any time.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from supsup_datasets import AnyDataset

from supsup_methods.errors import UsageError
from supsup_methods.reproduction.asked_again import Asked, as_accuracies
from supsup_methods.run_folder import RunFolder
from supsup_methods.task_guessing import Gamma, OneShot

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""γ of the points, but for One-Shot's."""


@dataclass(frozen=True)
class ShareQuestion:
    """Which curve.

    Attributes:
        tasks_learned: after how many learned tasks (in NNs stretches of the stream); all of them are searched.
        tasks_tested: whose test sets are shown, from the first on.
        contexts: k, how many contexts are searched; in NNs masks, of which there may be more or fewer than tasks.
        objective: H or G.
        images_per_guess: images of a test batch that infer the task of the whole batch.

    Raises:
        UsageError: no task is tested, or more than were learned.
    """

    tasks_learned: int
    tasks_tested: int
    contexts: int
    objective: Literal["H", "G"] = "H"
    images_per_guess: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.tasks_tested <= self.tasks_learned:
            raise UsageError(
                f"tasks_tested={self.tasks_tested}: {self.tasks_learned} tasks are learned; choose from 1 to that"
            )

    @property
    def searches(self) -> list[tuple[float, OneShot | Gamma]]:
        """γ and its search, in order: One-Shot at 1/k, and those of SHARES that lie above it.

        With one or two contexts every search is One-Shot.
        """
        one_shot = OneShot(objective=self.objective, images_per_guess=self.images_per_guess)
        gammas = [
            (share, Gamma(share=share, objective=self.objective, images_per_guess=self.images_per_guess))
            for share in SHARES
            if share > 1 / self.contexts
        ]
        return [(1 / self.contexts, one_shot), *gammas]


@dataclass(frozen=True)
class CurveProgress:
    """How far a measurement has come.

    Attributes:
        share: γ of the point in work.
        point, points: its place in the curve, from 1, and how many there are.
        tasks, tasks_tested: tasks of this point that are tested, and how many will be.
    """

    share: float
    point: int
    points: int
    tasks: int
    tasks_tested: int

    @property
    def fraction(self) -> float:
        """Of all points and tasks, from 0 to 1."""
        return (self.point - 1 + self.tasks / self.tasks_tested) / self.points


def known_curve(folder: RunFolder, question: ShareQuestion) -> pd.DataFrame:
    """Return what is known of a curve, without opening the run: nothing but small files are read.

    Returns:
        columns `share`, `search`, `tasks` (tested so far, of those asked for), `accuracy` and `task inferred right` (fractions,
        means over tasks; missing until all tasks asked for are tested).

    Raises:
        UsageError: a file of answers is damaged.
    """
    return pd.DataFrame([_point(folder, question, share, search) for share, search in question.searches])


def measure_curve(folder: RunFolder, dataset: AnyDataset, question: ShareQuestion) -> Generator[CurveProgress]:
    """Measure the points that are missing, by γ and by task, and tell after each task how far it has come.

    Whoever closes the iterator, or is stopped, keeps what was measured (`reproduction.asked_again`).

    Args:
        folder: of the run.
        dataset: of its stream, on the device to test on (the CPU).
        question: which curve.

    Raises:
        UsageError: the run's method infers no task, or a file of answers is damaged.
    """
    searches = question.searches
    for point, (share, search) in enumerate(searches, start=1):
        done = _point(folder, question, share, search)["tasks"]
        if done == question.tasks_tested:
            continue
        yield CurveProgress(share, point, len(searches), done, question.tasks_tested)
        asked = Asked(folder, search).ask(dataset, question.tasks_learned, question.tasks_tested)
        with closing(asked) as scores:
            for tasks, _ in enumerate(scores, start=done + 1):
                yield CurveProgress(share, point, len(searches), tasks, question.tasks_tested)


def _point(folder: RunFolder, question: ShareQuestion, share: float, search: OneShot | Gamma) -> dict[str, Any]:
    asked, wanted = Asked(folder, search), question.tasks_tested
    scores = list(asked.scores(question.tasks_learned))[:wanted]
    found = asked.accuracies(question.tasks_learned) if wanted == question.tasks_learned else None
    if found is None and len(scores) == wanted:
        found = as_accuracies(question.tasks_learned, scores)
    return {
        "share": share,
        "search": search_name(share, search),
        "tasks": len(scores) if found is None else wanted,
        "accuracy": None if found is None else found["accuracy"],
        "task inferred right": None if found is None else found["task_inference_accuracy"],
    }


def search_name(share: float, search: OneShot | Gamma) -> str:
    """Return what the paper calls a search that keeps this share of the tasks."""
    if isinstance(search, OneShot):
        return "One-Shot"
    return "Binary" if share == 0.5 else f"γ = {share:g}"

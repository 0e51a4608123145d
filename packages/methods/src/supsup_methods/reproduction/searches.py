"""Figures 10 and 11, left: what one run finds under many searches. The paper draws them and prints no numbers."""

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from supsup_methods.recipes import RECIPES
from supsup_methods.reporting.table_figures import accuracy_against_share, accuracy_against_tasks
from supsup_methods.reproduction.asked_again import accuracies_under
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.reproduction.tables import shortened
from supsup_methods.result_records import Accuracies
from supsup_methods.run_folder import RunFolder
from supsup_methods.share_curve import ShareQuestion, search_name
from supsup_methods.task_guessing import EveryTask, OneShot, TaskInference

_IMAGES = (1, 2, 4, 8, 16)
_ABATCHE = {"LeNet": "figure10-lenet", "FC": "figure10-fc"}
_ROTATED = "table6-supsup-h"


def figure10(bench: Bench) -> Findings:
    """Measure ABatchE: every task's vectors tried on b images, the surest by H or M (in the paper H leads, and b = 16 helps)."""
    rows: list[Row] = []
    lines: list[dict[str, Any]] = []
    runs: list[RunFolder] = []
    for network, recipe in _ABATCHE.items():
        found = list(bench.each_seed(shortened(RECIPES[recipe], bench)))
        runs += found
        for objective in _objectives():
            for images in _IMAGES:
                asked = EveryTask(objective=objective, images_per_guess=images)
                label = f"{network}, {objective}, b = {images}"
                by_seed = _asked(bench, found, asked)
                rows += _rows(label, by_seed)
                lines += [
                    {"row": label, "tasks": each["tasks_learned"], "accuracy": 100 * each["accuracy"], "paper": None}
                    for seed in by_seed
                    for each in seed
                ]
    return findings_of([run.summary() for run in runs], rows, {"accuracy": accuracy_against_tasks(pd.DataFrame(lines))})


def figure11_left(bench: Bench) -> Findings:
    """Measure accuracy on 36 rotations against the share γ that a round keeps: One-Shot at one end, Binary at the other."""
    recipe = shortened(RECIPES[_ROTATED], bench)
    found = list(bench.each_seed(recipe))
    question = ShareQuestion(recipe.tasks, recipe.tasks, recipe.tasks, "H", recipe.evaluation.batch_size)
    rows: list[Row] = []
    lines: list[dict[str, Any]] = []
    for share, asked in question.searches:
        ends = [seed[-1]["accuracy"] for seed in _asked(bench, found, asked)]
        name = f"γ = 1/{recipe.tasks}, One-Shot" if isinstance(asked, OneShot) else f"γ = {share:g}"
        rows.append(Row(f"{name}: accuracy", tuple(100 * accuracy for accuracy in ends)))
        lines += [
            {"share": share, "search": search_name(share, asked), "accuracy": 100 * accuracy} for accuracy in ends
        ]
    return findings_of([run.summary() for run in found], rows, {"gamma": accuracy_against_share(pd.DataFrame(lines))})


def _objectives() -> tuple[Literal["H", "M"], ...]:
    return ("H", "M")


def _asked(bench: Bench, runs: Sequence[RunFolder], inference: TaskInference) -> list[list[Accuracies]]:
    return [accuracies_under(bench, run, inference) for run in runs]


def _rows(label: str, by_seed: Sequence[Sequence[Accuracies]]) -> list[Row]:
    """Return a row for each number of tasks learned."""
    return [
        Row(f"{label}, {at['tasks_learned']} tasks", tuple(100 * seed[number]["accuracy"] for seed in by_seed))
        for number, at in enumerate(by_seed[0])
    ]

"""Figures 10 and 11, left: what one run finds under many searches. The paper draws them and prints no numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.recipes import RECIPES
from supsup_methods.reporting.table_figures import accuracy_against_share, accuracy_against_tasks
from supsup_methods.reproduction.asked_again import accuracies_under
from supsup_methods.reproduction.asked_together import accuracies_together
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
_OBJECTIVES: tuple[Literal["H", "M"], ...] = ("H", "M")
_WAYS = {
    f"{objective}, b = {images}": EveryTask(objective=objective, images_per_guess=images)
    for objective in _OBJECTIVES
    for images in _IMAGES
}


@dataclass(frozen=True)
class Panel:
    """Of Figure 10: the network that it is of."""

    label: str


FIGURE10 = tuple(Panel(network) for network in _ABATCHE)
"""Its panels, each of which can be measured alone."""


def figure10(bench: Bench) -> Findings:
    """Measure ABatchE: every task's vectors tried on b images, the surest by H or M (in the paper H leads, and b = 16 helps).

    Runs are tested with their tasks given, and then asked in all ways together: with k tasks each image goes through the network
    k times, which is nearly all of the work, and the same for each of them.
    """
    rows: list[Row] = []
    runs: list[RunFolder] = []
    figures: dict[str, go.Figure] = {}
    for panel in bench.chosen(FIGURE10):
        recipe = shortened(RECIPES[_ABATCHE[panel.label]], bench)
        given = replace(recipe, name=f"{recipe.name}-given", evaluation=replace(recipe.evaluation, scenario="GG"))
        found = list(bench.each_seed(given))
        runs += found
        by_search = zip(*(accuracies_together(bench, run, list(_WAYS.values())) for run in found), strict=True)
        curves = {"given": [run.summary()["checkpoints"] for run in found], **dict(zip(_WAYS, by_search, strict=True))}
        for label, by_seed in curves.items():
            rows += _rows(f"{panel.label}, {label}", by_seed)
        figures[panel.label.casefold()] = accuracy_against_tasks(pd.DataFrame(_lines(curves)))
    return findings_of([run.summary() for run in runs], rows, figures)


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


def _asked(bench: Bench, runs: Sequence[RunFolder], inference: TaskInference) -> list[list[Accuracies]]:
    return [accuracies_under(bench, run, inference) for run in runs]


def _rows(label: str, by_seed: Sequence[Sequence[Accuracies]]) -> list[Row]:
    """Return a row for each number of tasks learned."""
    return [
        Row(f"{label}, {at['tasks_learned']} tasks", tuple(100 * seed[number]["accuracy"] for seed in by_seed))
        for number, at in enumerate(by_seed[0])
    ]


def _lines(curves: Mapping[str, Sequence[Sequence[Accuracies]]]) -> Iterator[dict[str, Any]]:
    """Yield what `accuracy_against_tasks` draws, of the seeds of each curve."""
    for label, by_seed in curves.items():
        for seed in by_seed:
            for at in seed:
                yield {"row": label, "tasks": at["tasks_learned"], "accuracy": 100 * at["accuracy"], "paper": None}

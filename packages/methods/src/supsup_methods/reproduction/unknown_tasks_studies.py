"""Beyond the paper, scenario NNs: tasks that come back, and what depends on ε."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd

from supsup_methods.continual_method import AllocatesMasks
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, Recipe
from supsup_methods.recipes.table5 import TABLE5
from supsup_methods.recognition_rates import EPSILONS
from supsup_methods.reporting.stream_figures import decisions_along_stream, masks_by_epsilon
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import open_run
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings

_TASKS = 20


def recurring(bench: Bench) -> Findings:
    """Measure a stream of tasks that come back in random order: masks against tasks, accuracy, delay."""
    recipe = _recipe("nns-recurring")
    if bench.quick:
        recipe = replace(recipe, name=f"{recipe.name}-quick", tasks=6, evaluation=Evaluation(scenario="NNs"))
    runs = list(bench.each_seed(recipe))
    rows = _rows("tasks that come back", runs)
    figure = decisions_along_stream(_decisions(runs[0], bench), _settings(recipe).allocation.epsilon)
    return findings_of([run.summary() for run in runs], rows, {"decisions": figure})


def epsilon(bench: Bench) -> Findings:
    """Measure masks, purity and accuracy for ε from 1/32 to 1/2."""
    base, runs, rows, lines = _recipe("table5-nns"), list[RunFolder](), list[Row](), list[dict[str, Any]]()
    tasks = 3 if bench.quick else _TASKS
    for value in EPSILONS:
        settings = _settings(base)
        recipe = replace(
            base,
            name=f"nns-epsilon-{round(1 / value)}{'-quick' if bench.quick else ''}",
            tasks=tasks,
            method=replace(settings, allocation=replace(settings.allocation, epsilon=value)),
            evaluation=Evaluation(scenario="NNs"),
        )
        found = list(bench.each_seed(recipe))
        runs += found
        rows += _rows(f"ε = 1/{round(1 / value)}", found)
        lines += [{"epsilon": value, "masks": _book(run, "masks"), "tasks": _book(run, "tasks")} for run in found]
    figure = masks_by_epsilon(pd.DataFrame(lines).groupby("epsilon", as_index=False).mean())
    return findings_of([run.summary() for run in runs], rows, {"masks": figure})


def _recipe(name: str) -> Recipe:
    return next(recipe for recipe in TABLE5 if recipe.name == name)


def _settings(recipe: Recipe) -> UnknownTasksSettings:
    if not isinstance(recipe.method, UnknownTasksSettings):
        raise AssertionError("unreachable: these recipes are not told their tasks")
    return recipe.method


def _book(run: RunFolder, name: str) -> float:
    """Return an entry of the books; NaN where there is none."""
    entry = run.summary()["allocation"][name]
    return float("nan") if entry is None else float(entry)


def _rows(label: str, runs: list[RunFolder]) -> list[Row]:
    delays = tuple(_book(run, "delay_batches") for run in runs)
    accuracies = tuple(100 * run.summary()["checkpoints"][-1]["accuracy"] for run in runs)
    rows = [
        Row(f"{label}: accuracy", accuracies),
        Row(
            f"{label}: masks allocated",
            tuple(_book(run, "masks") for run in runs),
            f"for {_book(runs[0], 'tasks'):.0f} tasks",
        ),
        Row(f"{label}: purity", tuple(100 * _book(run, "purity") for run in runs)),
        Row(f"{label}: never found", tuple(_book(run, "missed") for run in runs), "beginnings"),
    ]
    if all(math.isfinite(delay) for delay in delays):  # where none was found there is none
        rows.insert(-1, Row(f"{label}: found after, decisions every 100", delays, "batches"))
    return rows


def _decisions(run: RunFolder, bench: Bench) -> pd.DataFrame:
    method = open_run(run.path, bench.device).method
    if not isinstance(method, AllocatesMasks):
        raise UsageError(f"{run.path}: it holds no decisions; remove it to have it made again")
    lines = [{"batch": each.batch, "ratio": each.ratio, "new": each.new} for each in method.decisions]
    return pd.DataFrame(lines)

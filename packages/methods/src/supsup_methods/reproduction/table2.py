"""Table 2 and Figure 2, right: accuracy and bytes of SupSup at six budgets, with and without Transfer, and of the baselines.

On CIFAR-100, and on Tiny-ImageNet-32 where that cannot be had: the paper's numbers then stand beside ours to show the order of
the rows, and nothing is said to be reproduced.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from supsup_core import MaskBank

from supsup_methods.byte_accounts import mask_account, paper_bytes
from supsup_methods.continual_method import OverContexts
from supsup_methods.experiment import CifarResNet18, Recipe
from supsup_methods.recipes import RECIPES
from supsup_methods.recipes.table2 import BUDGET_FACTORS
from supsup_methods.reporting.table_figures import accuracy_against_bytes
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.reproduction.paper_numbers import PaperNumber, paper_numbers
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import open_run
from supsup_methods.training_length import TaskTraining

_POINTS = 2.0  # how near the paper's accuracy a reproduced one is
_BUDGET = ", c = "


@dataclass(frozen=True)
class VisionRow:
    """A row of the table, or a point of a curve like its rows."""

    label: str
    suffix: str
    """Of the recipe's name."""
    paper: PaperNumber | None = None


def measure_table2(prefix: str, bench: Bench) -> Findings:
    """Measure the rows.

    Args:
        prefix: of the recipes: table2 for CIFAR-100, tiny for Tiny-ImageNet-32.
        bench: to work with.

    Raises:
        UsageError: rows are asked for, and no name holds that text.
    """
    return measure_rows(_rows(), prefix, bench, comparable=prefix == "table2")


def measure_rows(rows: Iterable[VisionRow], prefix: str, bench: Bench, *, comparable: bool) -> Findings:
    """Measure the accuracy and the bytes of those rows that are asked for, and draw one against the other.

    Args:
        rows: to choose from.
        prefix: of the names of their recipes.
        bench: to work with.
        comparable: whether the paper's accuracies are of the same data.

    Raises:
        UsageError: rows are asked for, and no name holds that text.
    """
    found: list[Row] = []
    lines: list[dict[str, Any]] = []
    runs: list[RunFolder] = []
    for row in bench.chosen(list(rows)):
        seeds = list(bench.each_seed(sized(RECIPES[f"{prefix}-{row.suffix}"], bench)))
        runs += seeds
        accuracies = tuple(100 * run.summary()["checkpoints"][-1]["accuracy"] for run in seeds)
        sizes = tuple(float(_stored_bytes(run, bench)) for run in seeds)
        found += _both(row, accuracies, sizes, comparable=comparable)
        lines += [
            {"row": row.label, "curve": curve_of(row.label), "bytes": size, "accuracy": accuracy}
            for size, accuracy in zip(sizes, accuracies, strict=True)
        ]
    figures = {"frontier": accuracy_against_bytes(pd.DataFrame(lines))}
    return findings_of([run.summary() for run in runs], found, figures)


def curve_of(label: str) -> str:
    """Return what rows that differ in their budget alone have in common."""
    return label.partition(_BUDGET)[0]


def expected_accuracies() -> Mapping[str, PaperNumber]:
    """Return the paper's numbers of Table 2, and the lower bound of Section 4.1, by what a record calls ours."""
    return {f"{row.label}: accuracy": row.paper for row in _rows() if row.paper is not None}


def sized(recipe: Recipe, bench: Bench) -> Recipe:
    """Return the recipe, cut to the tasks and epochs that were asked for, under a name that says so.

    Where task 0 is trained longer than later ones, all are cut in proportion.
    """
    name, tasks = recipe.name, min(recipe.tasks, bench.tasks or recipe.tasks)
    training, backbone = recipe.method.training, recipe.backbone
    if not (isinstance(training, TaskTraining) and training.epochs):
        raise AssertionError("unreachable: all of them train so")
    longest = max(training.epochs, training.first_epochs or 0)
    most = min(longest, bench.epochs or longest)
    if bench.quick:
        name, tasks, most, backbone = f"{name}-quick", 2, 1, CifarResNet18(channels=4)
    else:
        name += f"-{tasks}-tasks" if tasks < recipe.tasks else ""
        name += f"-{most}-epochs" if most < longest else ""
    cut = replace(
        training,
        epochs=max(1, round(training.epochs * most / longest)),
        first_epochs=None if training.first_epochs is None else most,
    )
    changed: Any = replace(recipe.method, training=cut)  # type: ignore[arg-type]
    return replace(recipe, name=name, tasks=tasks, backbone=backbone, method=changed)


def _rows() -> Iterator[VisionRow]:
    printed = [number for number in paper_numbers() if number.table == "2"]
    by_method: Mapping[str, list[PaperNumber]] = {
        method: [number for number in printed if number.method == method]
        for method in {each.method for each in printed}
    }
    for method, transfer in (("SupSup", ""), ("SupSup Transfer", "-transfer")):
        for factor, number in zip(BUDGET_FACTORS, by_method[method], strict=True):
            yield VisionRow(f"{method}{_BUDGET}{factor}", f"supsup-c{factor}{transfer}", number)
    for method, suffix in (
        ("BatchE", "batche"),
        ("BatchE - Rand W", "batche-random"),
        ("Separate Heads", "separate-heads"),
        ("Separate Heads - Rand W", "separate-heads-random"),
        ("Upper Bound", "upper-bound"),
    ):
        yield VisionRow(method, suffix, by_method[method][0])
    lower = next(number for number in paper_numbers() if number.table == "section 4.1")
    yield VisionRow("Lower Bound", "lower-bound", lower)


def _both(row: VisionRow, accuracies: tuple[float, ...], sizes: tuple[float, ...], *, comparable: bool) -> list[Row]:
    """Return the accuracy and the bytes of a row; the paper's are on CIFAR-100 and over 20 tasks."""
    paper = row.paper
    said = "" if paper is None else f"{paper.accuracy_percent:g} on CIFAR-100"
    value = paper.accuracy_percent if paper is not None and comparable else None
    stored = "" if paper is None or paper.bytes is None else f"{paper.bytes:,} for 20 tasks"
    return [
        Row(f"{row.label}: accuracy", accuracies, "%", said, value, _POINTS if comparable else None),
        Row(f"{row.label}: bytes", sizes, "bytes", stored),
    ]


def _stored_bytes(run: RunFolder, bench: Bench) -> int:
    """Return the bytes of all tasks: of masks entropy-coded with all but the manifest, of others as Table 2 counts them."""
    opened = open_run(run.path, bench.device)
    method = opened.method
    if isinstance(method, OverContexts) and isinstance(method.bank, MaskBank):
        ledger = mask_account(method.net, method.bank).coded[torch.float16]
        return ledger.total - ledger.manifest
    counted = paper_bytes(opened.recipe.method, opened.network, method.tasks_learned)
    if counted is None:
        raise AssertionError("unreachable: only masks are not counted so")
    return counted.total

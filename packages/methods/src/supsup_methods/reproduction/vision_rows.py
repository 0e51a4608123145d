"""Rows of accuracy and bytes over vision backbones, which Table 2 and Figure 11 (right) have.

They can be cut to fewer tasks and epochs, and trained in bfloat16. Such a row says so, and is not held against the paper's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from supsup_datasets import Scenario

from supsup_methods.byte_accounts import mask_account, paper_bytes, with_statistics_as
from supsup_methods.evaluation import evaluate_task
from supsup_methods.experiment import CifarResNet18, Recipe
from supsup_methods.recipes import RECIPES
from supsup_methods.reporting.table_figures import accuracy_against_bytes
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.reproduction.paper_numbers import PaperNumber
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import Run, open_run
from supsup_methods.supsup import SupSup, SupSupSettings
from supsup_methods.training_length import TaskTraining

_POINTS = 2.0  # how near the paper's accuracy a reproduced one is
_BUDGET = re.compile(r", c = \d+")


@dataclass(frozen=True)
class VisionRow:
    """A row of Table 2, or a point of a curve like its rows."""

    label: str
    suffix: str
    """Of the recipe's name."""
    paper: PaperNumber | None = None


@dataclass(frozen=True)
class Sized:
    """A recipe as it is run.

    Attributes:
        recipe: the one to run.
        cut: how its row's name goes on, to say what it lacks; nothing where it is whole.
    """

    recipe: Recipe
    cut: str


def measure_rows(rows: Iterable[VisionRow], prefix: str, bench: Bench, *, comparable: bool) -> Findings:
    """Measure the accuracy and the bytes of the rows that are asked for, and draw one against the other.

    Masks are trained once and tested with running statistics of 16 bits, as the paper counts them, and of 32.

    Args:
        rows: to choose from.
        prefix: of the names of their recipes.
        bench: to work with.
        comparable: whether the paper's accuracies are of the same data.
    """
    found: list[Row] = []
    lines: list[dict[str, Any]] = []
    runs: list[RunFolder] = []
    for row in bench.chosen(list(rows)):
        sizing = sized(RECIPES[f"{prefix}-{row.suffix}"], bench)
        seeds = list(bench.each_seed(sizing.recipe))
        runs += seeds
        tested = [_tested(run, bench) for run in seeds]  # one run's data in memory at a time
        named = replace(row, label=row.label + sizing.cut)
        accuracies, sizes, in_full = zip(*tested, strict=True)
        found += _both(named, accuracies, sizes, comparable=comparable and not sizing.cut)
        if isinstance(sizing.recipe.method, SupSupSettings):
            found.append(Row(f"{named.label}: accuracy with statistics of 32 bits", in_full))
        lines += [
            {"row": named.label, "curve": curve_of(named.label), "bytes": size, "accuracy": accuracy}
            for size, accuracy in zip(sizes, accuracies, strict=True)
        ]
    figures = {"frontier": accuracy_against_bytes(pd.DataFrame(lines))}
    return findings_of([run.summary() for run in runs], found, figures)


def curve_of(label: str) -> str:
    """Return what rows that differ in their budget alone have in common."""
    return _BUDGET.sub("", label)


def sized(recipe: Recipe, bench: Bench) -> Sized:
    """Return the recipe, cut to what was asked for, under a name that says so; masks keep statistics of 32 bits.

    Where task 0 is trained longer than later ones, all are cut in proportion.
    """
    training = recipe.method.training
    if not (isinstance(training, TaskTraining) and training.epochs):
        raise AssertionError("unreachable: all of them train so")
    longest = max(training.epochs, training.first_epochs or 0)
    tasks, most, backbone = min(recipe.tasks, bench.tasks or recipe.tasks), min(longest, bench.epochs or longest), None
    if bench.quick:
        tasks, most, backbone = 2, 1, CifarResNet18(channels=4)
    shorter = replace(
        training,
        epochs=max(1, round(training.epochs * most / longest)),
        first_epochs=None if training.first_epochs is None else most,
        precision=bench.precision,
    )
    changed: Any = replace(recipe.method, training=shorter)  # type: ignore[arg-type]
    names, said = ["quick"] if bench.quick else [], list[str]()
    if tasks < recipe.tasks and not bench.quick:
        names.append(f"{tasks}-tasks")
        said.append(f"{tasks} of {recipe.tasks} tasks")
    if most < longest and not bench.quick:
        names.append(f"{most}-epochs")
        said.append(f"{most} of {longest} epochs")
    if bench.precision != training.precision:
        names.append(bench.precision)
        said.append(f"in {bench.precision}")
    if isinstance(changed, SupSupSettings):
        changed = replace(changed, statistics="float32")  # they do not enter training, and can be rounded afterwards
        names.append("float32-statistics")
    name = "-".join([recipe.name, *names])
    cut = replace(recipe, name=name, tasks=tasks, backbone=backbone or recipe.backbone, method=changed)
    return Sized(cut, "".join(f", {each}" for each in said))


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


def _tested(folder: RunFolder, bench: Bench) -> tuple[float, float, float]:
    """Return a run's accuracy in percent, its bytes, and its accuracy as it was tested.

    Masks keep statistics of 32 bits; the first two are theirs with 16, as the paper counts them.
    """
    run = open_run(folder.path, bench.device)
    in_full = 100 * run.checkpoints[-1].accuracy
    if not isinstance(run.method, SupSup):
        return in_full, float(_bytes_as_printed(run)), in_full
    return _rounded_accuracy(run, run.method), float(_bytes_of_masks(run.method)), in_full


def _rounded_accuracy(run: Run, method: SupSup) -> float:
    """Return the mean accuracy over all tasks in percent, with statistics of 16 bits."""
    rounded = method.first(method.tasks_learned)
    rounded.bank = with_statistics_as(method.net, method.bank, torch.float16)
    scenario, batch_size = Scenario(run.recipe.evaluation.scenario), run.recipe.evaluation.batch_size
    scores = [evaluate_task(rounded, run.stream[task], scenario, batch_size) for task in range(rounded.tasks_learned)]
    return 100 * sum(score.accuracy for score in scores) / len(scores)


def _bytes_of_masks(method: SupSup) -> int:
    """Return the bytes of all tasks, entropy-coded, with statistics of 16 bits and all but the manifest."""
    ledger = mask_account(method.net, method.bank).coded[torch.float16]
    return ledger.total - ledger.manifest


def _bytes_as_printed(run: Run) -> int:
    """Return the bytes of all tasks as Table 2 counts them."""
    counted = paper_bytes(run.recipe.method, run.network, run.method.tasks_learned)
    if counted is None:
        raise AssertionError("unreachable: only masks are not counted so")
    return counted.total

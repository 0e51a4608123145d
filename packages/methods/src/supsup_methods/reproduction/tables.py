"""Tables 3 to 9: accuracy after so many tasks, ours beside the paper's.

A row is a run of a recipe, at the run's checkpoints. Rows that differ in nothing but how a task is inferred share the run of
one of them; a row that stands in two tables is run once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.experiment import Recipe
from supsup_methods.recipes import RECIPES
from supsup_methods.registry import inference_of
from supsup_methods.reporting.table_figures import accuracy_against_tasks, values_beside_paper
from supsup_methods.reproduction.asked_again import accuracies_under
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.reproduction.paper_numbers import PaperNumber, curve
from supsup_methods.result_records import Accuracies
from supsup_methods.run_folder import RunFolder
from supsup_methods.task_guessing import OneShot, TaskInference
from supsup_methods.training_length import TrainingLength

_SUPSUP_POINTS, _BASELINE_POINTS = 0.5, 2.0  # how near the paper's number a reproduced one is


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        label: of the row.
        recipe: name of the recipe whose run it is.
        paper: the row as the paper has it, by the number of tasks learned.
        inference: another search than the recipe's, which the run is asked for.
        points: how near the paper's numbers ours should be, in points.
    """

    label: str
    recipe: str
    paper: Mapping[int, PaperNumber]
    inference: TaskInference | None = None
    points: float = _BASELINE_POINTS


def measure_table(table: str, bench: Bench) -> Findings:
    """Measure the rows of a table.

    Args:
        table: "3" to "9".
        bench: to work with.
    """
    rows: list[Row] = []
    lines: list[dict[str, Any]] = []
    runs: dict[str, list[RunFolder]] = {}
    for row in bench.chosen(ROWS[table]):
        recipe = recipe_of(row, bench)
        found = list(bench.each_seed(recipe))
        runs[recipe.name] = found
        by_seed = [_accuracies(row, run, bench) for run in found]
        for at in sorted({each["tasks_learned"] for each in by_seed[0]}):
            ours = tuple(100 * each["accuracy"] for seed in by_seed for each in seed if each["tasks_learned"] == at)
            paper = row.paper.get(at)
            value = None if paper is None else paper.accuracy_percent
            rows.append(
                Row(f"{row.label}, {at} tasks", ours, "%", "" if value is None else f"{value:g}", value, row.points)
            )
            lines += [{"row": row.label, "tasks": at, "accuracy": accuracy, "paper": value} for accuracy in ours]
    summaries = [run.summary() for group in runs.values() for run in group]
    return findings_of(summaries, rows, {"accuracy": table_figure(pd.DataFrame(lines))})


def table_figure(lines: pd.DataFrame) -> go.Figure:
    """Draw a table as the paper does: curves over the tasks learned, or a point for each row where there is one checkpoint.

    Args:
        lines: columns `row`, `tasks`, `accuracy` (percent, a line for each seed) and `paper` (percent, or missing).
    """
    if lines["tasks"].nunique() > 1:
        return accuracy_against_tasks(lines)
    at = f"accuracy, mean over {lines['tasks'].iloc[0]} tasks (%)"
    return values_beside_paper(lines.rename(columns={"accuracy": "value"}), at)


def rows_like(recipe: Recipe) -> dict[str, list[TableRow]]:
    """Return the rows, by table, that a recipe is one of in all but its number of tasks, seed and length of training.

    That is on the same stream and backbone, by the same method in the same scenario, with tasks inferred by the same objective.
    """
    found = {
        table: [row for row in rows if _alike(recipe, RECIPES[row.recipe], row.inference)]
        for table, rows in ROWS.items()
    }
    return {table: rows for table, rows in found.items() if rows}


def recipe_of(row: TableRow, bench: Bench) -> Recipe:
    """Return the recipe whose run answers a row, cut to what was asked for.

    The row's own, unless the row is measured alone: then one that differs in the search alone, if it has more runs, or if
    there is no run at all and it searches as the row says, so that nothing is tested that was not asked for.
    """
    own = shortened(RECIPES[row.recipe], bench)
    if row.inference is None or bench.row is None:
        return own
    others = [shortened(each, bench) for each in RECIPES.values() if _differ_in_search(each, RECIPES[row.recipe])]
    searching = [each for each in others if inference_of(each.method) == row.inference]

    def runs(each: Recipe) -> int:
        return sum(bench.run_of(replace(each, seed=seed)).holds_run for seed in range(bench.seeds))

    most = max((own, *searching, *others), key=runs)
    return most if runs(most) else [*searching, own][0]


def _differ_in_search(one: Recipe, other: Recipe) -> bool:
    some, others = inference_of(one.method), inference_of(other.method)
    if some is None or others is None or type(one.method) is not type(other.method):
        return False
    method: Any = one.method
    return some != others and replace(one, name=other.name, method=replace(method, inference=others)) == other


def _alike(recipe: Recipe, printed: Recipe, asked: TaskInference | None) -> bool:
    theirs, ours = asked or inference_of(printed.method), inference_of(recipe.method)
    return (
        (recipe.stream, recipe.backbone, recipe.method.kind) == (printed.stream, printed.backbone, printed.method.kind)
        and recipe.evaluation.scenario == printed.evaluation.scenario
        and (ours and ours.objective) == (theirs and theirs.objective)
    )


def _accuracies(row: TableRow, run: RunFolder, bench: Bench) -> Sequence[Accuracies]:
    if row.inference is None:
        return run.summary()["checkpoints"]
    return accuracies_under(bench, run, row.inference)


def shortened(recipe: Recipe, bench: Bench) -> Recipe:
    """Return the recipe, cut to what was asked for, under a name that says so."""
    training = recipe.method.training
    if bench.quick and isinstance(training, TrainingLength):
        shorter: Any = replace(training, batches=100)
        recipe = replace(recipe, name=f"{recipe.name}-quick", method=replace(recipe.method, training=shorter))
    tasks = min(recipe.tasks, 4 if bench.quick else bench.tasks or recipe.tasks)
    if tasks == recipe.tasks:
        return recipe
    name = recipe.name if bench.quick else f"{recipe.name}-{tasks}-tasks"
    cut = replace(recipe.shortened(tasks), name=name)
    if cut.evaluation.checkpoints or not bench.quick:
        return cut
    return replace(cut, evaluation=replace(cut.evaluation, checkpoints=(2,)))


def _supsup(table: str, recipe: str, outputs: int) -> tuple[TableRow, ...]:
    """Return the rows of SupSup by H and by G: both are asked of the same masks, in the same way."""
    by_h = TableRow(
        f"SupSup, GNu, H, s = {outputs}",
        recipe,
        curve(table, "SupSup", "H", outputs, "GNu"),
        OneShot(objective="H"),
        _SUPSUP_POINTS,
    )
    by_g = TableRow(
        f"SupSup, GNu, G, s = {outputs}",
        recipe,
        curve(table, "SupSup", "G", outputs, "GNu"),
        OneShot(objective="G"),
        _SUPSUP_POINTS,
    )
    return by_h, by_g


def _other(table: str, method: str, recipe: str, scenario: str = "GG") -> TableRow:
    return TableRow(f"{method}, {scenario}", recipe, curve(table, method))


_LENET_BOUNDS, _FC_BOUNDS = ("table3-upper-bound", "table8-lower-bound"), ("table4-upper-bound", "table9-lower-bound")

ROWS: Mapping[str, tuple[TableRow, ...]] = {
    "3": (
        *_supsup("3", "table3-supsup-h", 100),
        _other("3", "PSP", "table3-psp"),
        _other("3", "BatchE", "table3-batche"),
        _other("3", "Upper Bound", _LENET_BOUNDS[0]),
    ),
    "4": (
        *_supsup("4", "table4-supsup-h", 500),
        _other("4", "PSP", "table4-psp"),
        _other("4", "BatchE", "table4-batche"),
        _other("4", "Upper Bound", _FC_BOUNDS[0]),
    ),
    "5": (
        *_supsup("5", "table5-supsup-h", 500),
        TableRow(
            "SupSup, NNs, H, s = 500",
            "table5-nns",
            curve("5", "SupSup", "H", 500, "NNs"),
            points=_SUPSUP_POINTS,
        ),
        _other("5", "Upper Bound", "table5-upper-bound"),
    ),
    "6": (
        TableRow(
            "SupSup, GNu, H, Binary, full batch",
            "table6-supsup-h",
            curve("6", "SupSup full batch, Binary"),
            points=_SUPSUP_POINTS,
        ),
        _other("6", "PSP", "table6-psp"),
        _other("6", "BatchE", "table6-batche"),
        _other("6", "Lower Bound", "table6-lower-bound"),
        _other("6", "Upper Bound", "table6-upper-bound"),
    ),
    "7": (
        _other("7", "BatchE full batch", "table7-batche-full-batch", "GNu"),
        TableRow("BatchE, GNu", "table7-batche-full-batch", curve("7", "BatchE"), OneShot()),
        TableRow(
            "SupSup, GNu, H, s = 500",
            "table4-supsup-h",
            curve("7", "SupSup"),
            OneShot(objective="H"),
            _SUPSUP_POINTS,
        ),
        _other("7", "Upper Bound", _FC_BOUNDS[0]),
    ),
    "8": (
        *_supsup("8", "table8-supsup-s200-h", 200),
        *_supsup("8", "table3-supsup-h", 100),
        *_supsup("8", "table8-supsup-s25-h", 25),
        _other("8", "Lower Bound", _LENET_BOUNDS[1]),
        _other("8", "Upper Bound", _LENET_BOUNDS[0]),
    ),
    "9": (
        *_supsup("9", "table9-supsup-s200-h", 200),
        *_supsup("9", "table9-supsup-s100-h", 100),
        *_supsup("9", "table9-supsup-s25-h", 25),
        _other("9", "Lower Bound", _FC_BOUNDS[1]),
        _other("9", "Upper Bound", _FC_BOUNDS[0]),
    ),
}
"""The rows of each table."""

PANELS: Mapping[str, str] = {
    "3": "Figure 3, left",
    "4": "Figure 3, right",
    "5": "Figure 4",
    "6": "Figure 5, left",
    "7": "Figure 5, right",
    "8": "Figure 6, left",
    "9": "Figure 6, right",
}
"""The figure of the paper that shows each table (Appendix G)."""

"""Figures 7 and 8: HopSupSup finds its masks again, as the paper has it and in two ways that lose fewer."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from supsup_methods.errors import UsageError
from supsup_methods.evaluation import TaskScore
from supsup_methods.experiment import Recipe
from supsup_methods.hopsupsup import HopSupSupSettings, UnitMaskTraining
from supsup_methods.recipes.figure7 import FIGURE7
from supsup_methods.recovery_scoring import RecoveryTrace
from supsup_methods.reporting.hopfield_figures import (
    distance_quantiles,
    distance_to_right_mask,
    energy_against_entropy,
    recovered_accuracy,
)
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import RunFolder

DISTANCES = "units unlike the right mask by step"
"""Table of Figure 7's record that its curves are drawn from."""
_PAPER_STEPS = "about 30"


def figure7(bench: Bench) -> Findings:
    """Measure the distance to the right mask at each step of recovery, and where and why masks are lost."""
    rows: list[Row] = []
    folders = {recipe.name: list(bench.each_seed(_sized(recipe, bench))) for recipe in FIGURE7}
    for name, runs in folders.items():
        label, scores = _label(name), [_last(run) for run in runs]
        found = [[trace.steps_to_right for trace in _traces(seed)] for seed in scores]
        rows.append(Row(f"{label}: masks recovered to the last unit", tuple(100 * _share(seed) for seed in found)))
        steps = [[step for step in seed if step is not None] for seed in found]
        medians = tuple(float(statistics.median(seed)) for seed in steps if seed)
        paper = _PAPER_STEPS if name == FIGURE7[0].name else ""
        if medians:
            rows.append(Row(f"{label}: median steps to distance 0, of those", medians, "steps", paper))
    steps = _steps(folders[FIGURE7[0].name])
    figures = {
        "distance": distance_to_right_mask(steps),
        "why": energy_against_entropy(steps.drop_duplicates(["seed", "task", "step"])),
    }
    lost = {name: _lost(runs) for name, runs in folders.items()}
    tables = {f"masks lost by {name}": lines for name, lines in lost.items()}
    tables[DISTANCES] = distance_quantiles(steps).round(1).to_dict("records")
    return findings_of(_summaries(folders), rows, figures, tables)


def figure8(bench: Bench) -> Findings:
    """Measure the accuracy under the recovered masks, seed by seed, beside that under the right ones."""
    rows: list[Row] = []
    folders = {recipe.name: list(bench.each_seed(_sized(recipe, bench))) for recipe in FIGURE7}
    figures = {}
    for name, runs in folders.items():
        label, scores = _label(name), [_last(run) for run in runs]
        recovered = [statistics.fmean(score.accuracy for score in seed) for seed in scores]
        right = [statistics.fmean(_right_accuracy(trace) for trace in _traces(seed)) for seed in scores]
        rows.append(Row(f"{label}: accuracy with the recovered masks", tuple(100 * value for value in recovered)))
        rows.append(Row(f"{label}: accuracy with the right masks", tuple(100 * value for value in right)))
        figures[name] = recovered_accuracy(
            pd.DataFrame({"seed": range(len(runs)), "recovered": recovered, "right": right})
        )
    return findings_of(_summaries(folders), rows, figures)


def _sized(recipe: Recipe, bench: Bench) -> Recipe:
    """Return the recipe, or one for the few digits at hand: more epochs, smaller batches of test images, and twice the passes."""
    if not bench.quick:
        return recipe
    if not isinstance(recipe.method, HopSupSupSettings):
        raise AssertionError("unreachable: these are recipes of HopSupSup")
    asked = recipe.method.recovery
    recovery = replace(asked, batch_size=20, passes=2 * asked.passes)
    method = replace(recipe.method, training=UnitMaskTraining(epochs=10), recovery=recovery)
    return replace(recipe, name=f"{recipe.name}-quick", method=method)


def _label(name: str) -> str:
    return {
        "figure7-hopsupsup": "Eq. 7 as in the paper",
        "figure7-two-passes": "two passes, then settled",
        "figure7-across-layers": "Ψ across layers, two passes, then settled",
    }[name]


def _summaries(folders: Mapping[str, Sequence[RunFolder]]) -> list[Summary]:
    return [run.summary() for runs in folders.values() for run in runs]


def _last(run: RunFolder) -> tuple[TaskScore, ...]:
    return run.progress().checkpoints[-1].scores


def _traces(scores: Sequence[TaskScore]) -> list[RecoveryTrace]:
    traces = [score.recovery for score in scores if score.recovery is not None and score.recovery.distances is not None]
    if len(traces) != len(scores):
        raise UsageError("a run has no traces of its recoveries; remove its folder to have it made again")
    return traces


def _right_accuracy(trace: RecoveryTrace) -> float:
    if trace.right_mask_accuracy is None:
        raise AssertionError("unreachable: runs without right masks are refused")
    return trace.right_mask_accuracy


def _share(found: Sequence[int | None]) -> float:
    return sum(step is not None for step in found) / len(found)


def _steps(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Return a line for each seed, task, step and layer."""
    lines: list[dict[str, Any]] = []
    for seed, run in enumerate(runs):
        for task, trace in enumerate(_traces(_last(run))):
            for layer, distances in (trace.distances or {}).items():
                for step, values in enumerate(zip(distances, trace.entropy, trace.energy, strict=True), start=1):
                    distance, entropy, energy = values
                    lines.append(
                        {
                            "seed": seed,
                            "task": task,
                            "layer": layer,
                            "step": step,
                            "distance": distance,
                            "entropy": entropy,
                            "energy": energy,
                            "recovered": trace.steps_to_right is not None,
                        }
                    )
    return pd.DataFrame(lines)


def _lost(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return a line for each mask that was not recovered: where it ended, and what entropy and energy did meanwhile.

    The entropy at the end is a mean over the last five steps, as one is of few images; the energy is that of the last step.
    """
    lines = []
    for seed, run in enumerate(runs):
        for score, trace in zip(_last(run), _traces(_last(run)), strict=True):
            if score.guesses_right:
                continue
            lines.append(
                {
                    "seed": seed,
                    "task": score.task,
                    "nearest": next(iter(score.guessed)),
                    "units off": " + ".join(str(way[-1]) for way in (trace.distances or {}).values()),
                    "H, least": round(min(trace.entropy), 2),
                    "H, end": round(statistics.fmean(trace.entropy[-5:]), 2),
                    "E, end": round(trace.energy[-1]),
                    "accuracy": round(score.accuracy, 4),
                }
            )
    return lines

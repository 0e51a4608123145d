"""Beyond the paper: how many masks a reservoir holds before they are no longer found again, and what it takes beside a bank.

| question | answered by |
|---|---|
| does a stored mask come back from a copy with a tenth of its units turned, without data? | `settle`, for each rule |
| does Hopfield Recovery find it from μ and the task's test images? | the checkpoints of runs on PermutedMNIST, by Eq. 6 |
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from supsup_core.hopfield import StorageRule, reservoir_values, settle
from supsup_core.packed_bits import row_bytes
from supsup_core.random_streams import signs, stream_key
from torch import Tensor

from supsup_methods.dense_training import FLOAT_BYTES
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint
from supsup_methods.experiment import NormalisedFullyConnected, Recipe
from supsup_methods.hopsupsup import RULES, HopSupSup
from supsup_methods.recipes.reservoirs import RESERVOIRS
from supsup_methods.reporting.hopfield_figures import recall_against_stored
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import open_run

HELD = 0.95
"""A reservoir holds so many masks if this share of them comes back to the last unit."""
TURNED = 0.1
"""Share of the units that are turned before recall."""
_STEPS = tuple(sorted({*range(1, 10), *range(10, 40, 2), *range(40, 100, 5), *range(100, 321, 10)}))
"""Numbers of stored masks at which recall is tried."""


def reservoir_capacity(bench: Bench) -> Findings:
    """Measure capacity against width, rule and kind of masks, and bytes against those of a bank."""
    recipes = [_small(recipe) for recipe in RESERVOIRS[:1]] if bench.quick else list(RESERVOIRS)
    runs = [run for recipe in recipes for run in _first_seed(bench, recipe)]
    shares = [line for run in runs for line in _recalls(run, bench)]
    rows, sizes = _held(shares), []
    for run in runs:
        rows += [_recovered(_units(run), checkpoint) for checkpoint in run.progress().checkpoints]
        sizes.append(_sizes(_units(run), run.recipe().tasks))
    figure = recall_against_stored(pd.DataFrame(shares))
    tables = {"bytes": sizes, "recalled": shares}
    return findings_of([run.summary() for run in runs], rows, {"recall": figure}, tables)


def _held(shares: Sequence[dict[str, Any]]) -> list[Row]:
    """Return a row for each width, kind of masks and rule."""
    rows = []
    for (units, masks, rule), lines in itertools.groupby(
        shares, key=lambda each: (each["units"], each["masks"], each["rule"])
    ):
        held, ended = _capacity(list(lines))
        at_least = ", or more: no more were tried" if ended else ""
        rows.append(Row(f"d = {units}: {masks} masks held by {rule}{at_least}", (held,), "masks"))
    return rows


def recall_shares(strings: Tensor, rule: StorageRule, stored: Sequence[int], seed: int) -> list[float]:
    """Return the share of strings that come back from damaged copies, after so many were stored.

    Args:
        strings: in {-1, 1}, of shape (strings, units); stored in turn.
        rule: how Ψ takes one in.
        stored: numbers of strings, ascending, at which all stored so far are recalled.
        seed: decides which units of a copy are turned, TURNED of them.
    """
    count, units = strings.shape
    couplings, shares = strings.new_zeros(units, units), []
    cues = torch.where(_turned(count, units, seed).to(strings.device), -strings, strings)
    for number, string in enumerate(strings, start=1):
        couplings = rule(couplings, string)
        if number in stored:
            back = settle(couplings, cues[:number])
            shares.append(float((back == strings[:number]).all(dim=1).double().mean()))
    return shares


def _turned(count: int, units: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(count, units, generator=generator).argsort(dim=1)
    return order < round(TURNED * units)


def _first_seed(bench: Bench, recipe: Recipe) -> list[RunFolder]:
    return list(replace(bench, seeds=1).each_seed(recipe))


def _small(recipe: Recipe) -> Recipe:
    evaluation = replace(recipe.evaluation, checkpoints=(2, 4))
    backbone = NormalisedFullyConnected(hidden=(128, 128))
    return replace(recipe, name=f"{recipe.name}-quick", tasks=8, backbone=backbone, evaluation=evaluation)


def _units(run: RunFolder) -> int:
    backbone = run.recipe().backbone
    if not isinstance(backbone, NormalisedFullyConnected):
        raise AssertionError(f"unreachable: {backbone.kind} is no backbone of these recipes")
    return backbone.widths[0]


def _recalls(run: RunFolder, bench: Bench) -> list[dict[str, Any]]:
    """Return what is recalled of a run's masks, and of as wide random ones."""
    method = open_run(run.path, bench.device).method
    if not isinstance(method, HopSupSup) or method.right_masks is None:
        raise UsageError(f"{run.path}: it keeps no masks to recall; remove it to have it made again")
    layers = [
        torch.stack([2.0 * masks[name].flatten() - 1.0 for masks in method.right_masks])
        for name in method.right_masks[0]
    ]
    return _shares("trained", layers) + _shares("random", _random([layer.shape[1] for layer in layers]))


def _shares(kind: str, layers: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Return for each rule and number of stored strings the share that comes back, over all layers."""
    stored, lines = [step for step in _STEPS if step <= len(layers[0])], []
    for rule_name, rule in RULES.items():
        each = [recall_shares(layer, rule, stored, seed=number) for number, layer in enumerate(layers)]
        for step, shares in zip(stored, zip(*each, strict=True), strict=True):
            recalled = sum(shares) / len(shares)
            units = layers[0].shape[1]
            lines.append({"units": units, "masks": kind, "rule": rule_name, "stored": step, "recalled": recalled})
    return lines


def _random(widths: Sequence[int]) -> list[Tensor]:
    """Return fair coins for each layer, more than any rule holds: random ones are held longer than trained ones."""
    count = min(_STEPS[-1], *(width // 2 for width in widths))
    keys = (stream_key(0, "random masks", number, "reservoir") for number in range(len(widths)))
    return [signs(key, (count, width)) for key, width in zip(keys, widths, strict=True)]


def _capacity(lines: Sequence[dict[str, Any]]) -> tuple[float, bool]:
    """Return the largest number of stored masks up to which enough came back every time, and whether it was the last tried."""
    held = list(itertools.takewhile(lambda line: line["recalled"] >= HELD, lines))
    return (float(held[-1]["stored"]) if held else 0.0), len(held) == len(lines)


def _recovered(units: int, checkpoint: Checkpoint) -> Row:
    share = checkpoint.task_inference_accuracy
    what = f"d = {units}, Eq. 6: recovered to the last unit from test images, {checkpoint.tasks_learned} stored"
    return Row(what, (100 * (share or 0.0),))


def _sizes(units: int, tasks: int) -> dict[str, Any]:
    reservoir = FLOAT_BYTES * reservoir_values({"first": units, "second": units})
    mask = row_bytes(2 * units)
    return {
        "units of each of two layers": units,
        "bytes of the reservoir": reservoir,
        f"bytes of a bank of {tasks}": tasks * mask,
        "masks in a bank as large as the reservoir": reservoir // mask,
    }

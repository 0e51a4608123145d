"""Appendix D.4: what a task's mask costs beside a forward pass of ResNet-50, which the paper estimates at 1 %, at most 3 %.

The estimate is the time to read W once at the bandwidth that a GTX 1080 Ti is sold with, .21 ms, beside a forward pass of 25 ms
for an image of 3 × 224 × 224. Both depend on the machine, and not in proportion: two cores of a processor compute more slowly
than that card, and their memory is slower by more. So the paper's words stand beside ours for one image, and no row has a number
to be near to: one that is off tells of the machine, and not of the method.
"""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch

from supsup_methods.devices import describe_machine
from supsup_methods.masked_forward.drawn_tasks import BUDGET_FACTOR, MASKS, Setting
from supsup_methods.masked_forward.measuring import PAPER, Measured, Timing, measure
from supsup_methods.masked_forward.ways import FLOAT_MASK, IN_PLACE, ONES_ALONE, PLAIN, SWITCH, WITH_SWITCH
from supsup_methods.reporting.bytes_figures import overhead_of_masks
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row

WAYS = "ways"
"""The table of a record that has a line for each way."""

_KINDS: Mapping[str, str] = MappingProxyType({"half": "half masks", "sparse": "Erdős-Rényi masks"})
_LABELS: Mapping[str, str] = MappingProxyType(
    {
        SWITCH: "task switch",
        IN_PLACE: "masked pass, weights in place",
        WITH_SWITCH: "masked pass, a switch before each call",
        FLOAT_MASK: "masked pass, W times a float mask",
        ONES_ALONE: "masked pass, ones alone",
    }
)
"""Ways with rows of their own, as rows call them."""
_OVERHEAD = f"{100 * PAPER.overhead:g} %, at most {100 * PAPER.overhead_at_most:g} %"
_FORWARD, _READING = (f"{1e3 * seconds:g} on a GTX 1080 Ti" for seconds in (PAPER.forward_seconds, PAPER.mask_seconds))


@dataclass(frozen=True)
class _Size:
    """How much is measured."""

    network: str
    image_side: int
    repeats: Mapping[int, int]
    """Rounds, by images of a pass: more where one is short, as it varies more."""


_FULL = _Size("resnet50", 224, MappingProxyType({1: 60, 16: 15}))
_QUICK = _Size("resnet18", 64, MappingProxyType({1: 3}))


def forward_cost(bench: Bench) -> Findings:
    """Measure task switches and masked forward passes beside plain ones, in float32 with channels last.

    Rows are medians over rounds in which all ways take turns, of half masks and of masks with the Erdős-Rényi budget: the
    milliseconds, and what a way adds to a plain forward pass, in percent of it. The table `ways` has all that was timed.

    Raises:
        WrongAnswerError: a masked forward pass does not compute f(x, W ⊙ M).
    """
    size, device = _QUICK if bench.quick else _FULL, torch.device(bench.device)
    machine, start, measured = _machine(device), time.perf_counter(), list[Measured]()
    for images, repeats in size.repeats.items():
        measured.append(measure(Setting(size.network, size.image_side, images, device), tuple(MASKS), repeats))
        bench.say(f"forward-cost, {size.network}, {_count(images)}: {_in_words(measured[-1])}")
    lines = [line for each in measured for line in _lines(each)]
    return Findings(
        tuple(row for each in measured for row in _rows(each)),
        {"overhead": overhead_figure(overheads(lines))},
        {WAYS: lines, "answers": [_answers(each) for each in measured]},
        seconds=time.perf_counter() - start,
        machine=machine,
        data="random images",
        seeds=(0,),
        settings={size.network: _settings(size, measured)},
    )


def overheads(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return what `overhead_figure` draws of a record's table `ways`: columns as `bytes_figures.overhead_of_masks` has them.

    Args:
        lines: of the table.
    """
    labels = {PLAIN: "plain pass", **_LABELS}
    drawn = [line for line in lines if line["way"] in labels]
    rows = pd.DataFrame(drawn, columns=["images", "masks", "way", "overhead, %", "low, %", "high, %"])
    rows.columns = pd.Index([name.removesuffix(", %") for name in rows.columns])
    return rows.assign(way=rows["way"].map(labels))


def overhead_figure(rows: pd.DataFrame) -> go.Figure:
    """Return the figure of `overheads`, beside the paper's estimate."""
    return overhead_of_masks(rows, 100 * PAPER.overhead, 100 * PAPER.overhead_at_most)


def _machine(device: torch.device) -> str:
    """Return what milliseconds depend on: the machine, the threads, and how many others wanted its cores as it began."""
    threads = torch.get_num_threads()
    return f"{describe_machine(device)}, {threads} thread{'s' * (threads != 1)}, load average {os.getloadavg()[0]:.1f} before"


def _count(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _in_words(measured: Measured) -> str:
    plain, switch = (1e3 * measured.of(*way).median_seconds for way in ((PLAIN, ""), (SWITCH, next(iter(MASKS)))))
    return f"plain forward pass {plain:.1f} ms, task switch {switch:.1f} ms"


def _rows(measured: Measured) -> Iterator[Row]:
    """Yield the rows of one batch size; the paper speaks of one image."""
    images, alone = _count(measured.batch_size), measured.batch_size == 1
    overhead, forward, read_once = (text if alone else "" for text in (_OVERHEAD, _FORWARD, _READING))
    plain, reading = measured.of(PLAIN).median_seconds, measured.reading_seconds
    yield Row(f"{images}: plain forward pass", (1e3 * plain,), "ms", forward)
    yield Row(f"{images}: W read once, half of a copy", (1e3 * reading,), "ms", read_once)
    yield Row(f"{images}: W read once, of a plain pass", (100 * reading / plain,), "%", overhead)
    timings = {(row.masks, row.what): row for row in measured.rows}
    for kind, masks in _KINDS.items():
        for way, label in _LABELS.items():
            if (kind, way) not in timings:
                continue
            timing = timings[kind, way]
            said = "" if way in (IN_PLACE, ONES_ALONE) else overhead  # nothing is masked in the call
            yield Row(f"{images}, {masks}: {label}", (1e3 * timing.median_seconds,), "ms")
            yield Row(f"{images}, {masks}: overhead of a {label}", (100 * timing.overhead,), "%", said)


def _lines(measured: Measured) -> Iterator[dict[str, Any]]:
    """Yield a line for each way: medians, the fastest and the quartiles of all rounds."""
    plain = measured.of(PLAIN)
    for row in measured.rows:
        low, _, high = statistics.quantiles(row.seconds, n=4, method="inclusive")
        yield {
            "images": measured.batch_size,
            "masks": _KINDS.get(row.masks, ""),
            "way": row.what,
            "ms, median": round(1e3 * row.median_seconds, 3),
            "ms, fastest": round(1e3 * row.min_seconds, 3),
            "overhead, %": round(100 * row.overhead, 2),
            "low, %": _overhead(low, row, plain),
            "high, %": _overhead(high, row, plain),
            "GB/s": round(row.bytes_per_second / 1e9, 1) if row.bytes else "",
        }


def _overhead(seconds: float, row: Timing, plain: Timing) -> float:
    """Return what some seconds of a way add to the plain pass's median, in percent of it."""
    return round(100 * (row.overhead + (seconds - row.median_seconds) / plain.median_seconds), 2)


def _answers(measured: Measured) -> dict[str, Any]:
    """Return how near the answers were to those of modules multiplied by hand."""
    return {"images": measured.batch_size, "largest difference, of the largest output": measured.largest_difference}


def _settings(size: _Size, measured: Sequence[Measured]) -> dict[str, Any]:
    """Return what the numbers depend on beside the machine."""
    return {
        "network": size.network,
        "weights": measured[0].weights,
        "image_side": size.image_side,
        "batch_sizes": list(size.repeats),
        "repeats": list(size.repeats.values()),
        "masks": list(MASKS),
        "budget_factor": BUDGET_FACTOR,
        "precision": measured[0].precision,
        "channels_last": measured[0].channels_last,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "device": measured[0].device,
        "threads": torch.get_num_threads(),
    }

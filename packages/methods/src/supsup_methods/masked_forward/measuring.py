"""A task's mask beside a forward pass, timed in turns (Appendix D.4)."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from supsup_methods.devices import describe_device
from supsup_methods.masked_forward.answers import TOLERANCE, check_answers, check_weights, multiplied_by_hand
from supsup_methods.masked_forward.drawn_tasks import (
    TASKS,
    Reopened,
    Setting,
    draw_tasks,
    frozen_network,
    random_images,
    reopened,
)
from supsup_methods.masked_forward.ways import COPY, Way, masked_ways, plain_ways, switch_ways


@dataclass(frozen=True)
class PaperEstimate:
    """The paper's estimate for ResNet-50 on an image of 3 × 224 × 224 and a GTX 1080 Ti.

    Attributes:
        mask_seconds: to read W once, at the bandwidth that the card is sold with.
        forward_seconds: of a forward pass.
        overhead: the one as a fraction of the other.
        overhead_at_most: that, should the bandwidth be 60 to 70 % lower than it is sold with.
    """

    mask_seconds: float = 0.21e-3
    forward_seconds: float = 25e-3
    overhead: float = 0.01
    overhead_at_most: float = 0.03


PAPER = PaperEstimate()


@dataclass(frozen=True)
class Timing:
    """What a way takes, and what it adds to a plain forward pass.

    Attributes:
        what: the way.
        masks: their kind; empty without any.
        seconds: of each round.
        median_seconds: of them.
        min_seconds: of them.
        overhead: as a fraction of the plain forward pass, median by median: all of a switch, what a forward pass takes longer.
        overhead_of_fastest: the same of the fastest rounds.
        bytes: read and written at the least; 0 for a forward pass.
        bytes_per_second: by the median.
    """

    what: str
    masks: str
    seconds: tuple[float, ...]
    median_seconds: float
    min_seconds: float
    overhead: float
    overhead_of_fastest: float
    bytes: int
    bytes_per_second: float


@dataclass(frozen=True)
class CompactBank:
    """A bank in entropy-coded files: the kind of its masks, what the files take, and the seconds to open and decode them."""

    masks: str
    bytes: int
    open_seconds: float


@dataclass(frozen=True)
class Measured:
    """What was measured at one setting.

    Attributes:
        device: in words.
        precision: of the setting.
        batch_size: of the setting.
        channels_last: of the setting.
        largest_difference: to modules multiplied by hand, as a share of the largest output.
        weights: that a mask has a bit for.
        compact_banks: those that went through files.
        rows: all ways, the plain forward pass first.
    """

    device: str
    precision: str
    batch_size: int
    channels_last: bool
    largest_difference: float
    weights: int
    compact_banks: tuple[CompactBank, ...]
    rows: tuple[Timing, ...]

    def of(self, what: str, masks: str = "") -> Timing:
        """Return the timing of a way, by its name and kind of masks."""
        return {(row.what, row.masks): row for row in self.rows}[what, masks]

    @property
    def reading_seconds(self) -> float:
        """Of reading W once, which the paper takes for the cost of a mask: half of a copy, which reads and writes."""
        return self.of(COPY).median_seconds / 2


@torch.inference_mode()
def measure(setting: Setting, kinds: Sequence[str], repeats: int, *, compact_bank: bool = False) -> Measured:
    """Check and time all ways at one setting: they take turns, so that drift hits all alike.

    Args:
        setting: what to measure at.
        kinds: of masks, as `drawn_tasks.MASKS` names them.
        repeats: rounds in which each way is timed once, after one to warm up.
        compact_bank: whether a switch from a bank that went through entropy-coded files is timed as well.

    Raises:
        WrongAnswerError: a masked way is wrong, and nothing was timed.
    """
    net, images = frozen_network(setting), random_images(setting)
    drawn = [draw_tasks(net, kind, setting.layout) for kind in kinds]
    coded = [reopened(tasks, net) for tasks in drawn] if compact_bank else []
    ways = plain_ways(net, images)
    for tasks in (*drawn, *(each.tasks for each in coded)):
        check_weights(net, tasks)
        ways += switch_ways(tasks, net)
    for tasks in drawn:
        ways += masked_ways(net, tasks, images, setting.layout)
    with torch.autocast(setting.device.type, dtype=torch.bfloat16, enabled=setting.precision == "bfloat16"):
        by_hand = {
            (tasks.kind, task): multiplied_by_hand(net, tasks, task)(images) for tasks in drawn for task in range(TASKS)
        }
        difference = check_answers(ways, by_hand, TOLERANCE[setting.precision])
        seconds = take_turns(ways, repeats, setting.device)
    return Measured(
        device=describe_device(setting.device),
        precision=setting.precision,
        batch_size=setting.batch_size,
        channels_last=setting.channels_last,
        largest_difference=difference,
        weights=net.num_bits,
        compact_banks=tuple(map(_compact_bank, coded)),
        rows=tuple(timing_of(way, times, seconds[0]) for way, times in zip(ways, seconds, strict=True)),
    )


def take_turns(ways: Sequence[Way], repeats: int, device: torch.device) -> list[list[float]]:
    """Return the seconds of each way, once a round after a round to warm up; the task changes from round to round."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(repeats + 1):
        for way, times in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way.work(turn % TASKS)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                times.append(time.perf_counter() - start)
    return seconds


def timing_of(way: Way, seconds: Sequence[float], plain: Sequence[float]) -> Timing:
    """Return what a way takes, and what it adds to a plain forward pass, from the seconds of each round of both."""
    median, least = statistics.median(seconds), min(seconds)
    included = 0.0 if way.bytes else 1.0  # a forward pass contains the plain one
    return Timing(
        what=way.what,
        masks=way.kind,
        seconds=tuple(seconds),
        median_seconds=median,
        min_seconds=least,
        overhead=median / statistics.median(plain) - included,
        overhead_of_fastest=least / min(plain) - included,
        bytes=way.bytes,
        bytes_per_second=way.bytes / median,
    )


def _compact_bank(coded: Reopened) -> CompactBank:
    return CompactBank(coded.tasks.kind, coded.file_bytes, coded.open_seconds)

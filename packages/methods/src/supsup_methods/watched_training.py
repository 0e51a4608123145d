"""One task's mask trained again, and looked at while it forms (Section 3.1).

Scores are not kept after training. But what is learned of a task depends on the recipe, the data and the machine alone, so a run
can train one of its tasks again, by the same code, and end with the same bits; whether it did is part of the record. At about
twenty moments the record has, for each layer, how its scores are spread, its density, and the bits that still will turn.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import torch
from jaxtyping import Bool, Float, Int64
from supsup_core import FrozenNetwork
from supsup_core.packed_bits import pack, unpack
from supsup_core.random_streams import stream_key
from supsup_datasets import Batch
from torch import Tensor

from supsup_methods.continual_method import FEWEST_IMAGES
from supsup_methods.devices import describe_machine
from supsup_methods.errors import UsageError
from supsup_methods.machine_loops import arithmetic
from supsup_methods.mask_training import check_finite, task_loss
from supsup_methods.run_folder import Environment, RunFolder
from supsup_methods.runs import Run
from supsup_methods.supsup import MaskInTraining, SupSup
from supsup_methods.watched_records import BINS, WatchedLayer, WatchedTraining

_FINE_BINS = 1024  # of which the bins are made, when it is known how far scores go
_EVERY_STEP = 20  # up to so many steps, each of them is a moment
_MANY_STEPS = 2000


@dataclass(frozen=True)
class Moment:
    """What there is to tell while training goes on.

    Attributes:
        step: how many steps were taken.
        steps: how many there are in all.
        loss: as in `WatchedTraining`, nats.
        density: share of ones in the mask.
        flipped: share of bits that turned since the moment before.
    """

    step: int
    steps: int
    loss: float | None
    density: float
    flipped: float


@cache
def moments(steps: int) -> tuple[int, ...]:
    """Return after how many of some steps to look: 0, at most about six times a decade, and the last.

    Raises:
        UsageError: there is no step.
    """
    if steps < 1:
        raise UsageError(f"steps {steps}: a training has at least one; choose 1 or more")
    if steps <= _EVERY_STEP:
        return tuple(range(steps + 1))
    parts = (10, 15, 20, 30, 50, 70) if steps <= _MANY_STEPS else (10, 20, 50)
    series = (part * 10**power // 10 for power in range(len(str(steps))) for part in parts)
    return (0, *sorted({step for step in series if step < steps}), steps)


def watch_task(
    run: Run, environment: Environment, task: int, tell: Callable[[Moment], None] = lambda moment: None
) -> WatchedTraining:
    """Train the mask of a task as the run did, look on, and compare it with the one that the run has.

    Args:
        run: opened on the device to train on; it stays as it is.
        environment: of the run; its number of threads is taken over meanwhile.
        task: by its index.
        tell: called at each moment.

    Raises:
        UsageError: the run trains no masks by task, has not learned this one, or its data has changed.
    """
    method = refuse_unwatchable(run, task)
    if run.dataset.digest != environment.data_digest:
        raise UsageError(
            f"{run.path}: its data {run.dataset.name} has changed since, and trains other masks; restore it"
        )
    watched = RunFolder(run.path).digest
    device, before, begun = method.net.device, method.first(task), time.perf_counter()
    recorder = _Recorder(method.net, tell)
    with _threads(environment.threads):
        (own,) = before.learn_apart([run.stream[task]], lambda: None, recorder.look)
    seconds = time.perf_counter() - begun
    before.adopt(run.stream[task], own)
    trained, kept = (unpack(bank.rows[task], method.net.num_bits) for bank in (before.bank, method.bank))
    return WatchedTraining(
        task=task,
        moments=tuple(recorder.steps),
        loss=tuple(recorder.losses),
        layers=recorder.layers(trained),
        bits=method.net.num_bits,
        bits_unlike_run=int((trained != kept).sum()),
        statistics_as_run=torch.equal(before.bank.buffers[task], method.bank.buffers[task]),
        unlike_run=_differences(environment, device),
        machine=describe_machine(device),
        seconds=seconds,
        run=watched,
    )


def refuse_unwatchable(run: Run, task: int) -> SupSup:
    """Return the run's method if it can train a task's mask again.

    Raises:
        UsageError: it cannot.
    """
    if not isinstance(run.method, SupSup):
        raise UsageError(
            f"{run.path}: {run.recipe.method.kind} trains no mask for each task that could be trained again by itself; choose a "
            "run of supsup"
        )
    if not 0 <= task < run.method.tasks_learned:
        learned = run.method.tasks_learned
        known = f"has learned tasks 0 to {learned - 1}; choose one of them" if learned else "has learned no task yet"
        raise UsageError(f"--watch-task {task}: {run.path} {known}")
    return run.method


class ScoreHistogram:
    """How some scores are spread at each moment, in bins that all moments share and that are chosen at the end.

    What is counted are 1,024 bins. Where a score lies beyond them, they become twice as wide: two by two they are added up. That
    is exact, as a division by a power of two is.
    """

    def __init__(self) -> None:
        self._limit = 0.0
        self._counts: list[Int64[Tensor, " fine"]] = []

    def add(self, scores: Float[Tensor, " weights"]) -> None:
        """Count the scores of the next moment; they must be finite."""
        most = float(scores.abs().max())
        self._limit = self._limit or most or 1.0
        while most > self._limit:
            self._limit *= 2
            self._counts = [_in_the_middle(counts.view(-1, 2).sum(dim=1)) for counts in self._counts]
        bins = torch.floor(scores.double() * (_FINE_BINS // 2 / self._limit)).long() + _FINE_BINS // 2
        self._counts.append(torch.bincount(bins.clamp_(0, _FINE_BINS - 1), minlength=_FINE_BINS).cpu())

    def binned(self) -> tuple[float, tuple[tuple[int, ...], ...]]:
        """Return where the bins end, and the counts of each moment: `BINS` of them, as narrow as they can be."""
        used = torch.stack(self._counts).sum(dim=0).nonzero()
        half = _FINE_BINS // 2
        reach = max(half - int(used.min()), int(used.max()) + 1 - half)
        together = -(-reach // (BINS // 2))  # fine bins to one
        side = together * BINS // 2
        counts = tuple(
            tuple(each[half - side : half + side].view(BINS, together).sum(dim=1).tolist()) for each in self._counts
        )
        return self._limit * side / half, counts


def _in_the_middle(counts: Int64[Tensor, " half"]) -> Int64[Tensor, " fine"]:
    return torch.nn.functional.pad(counts, (len(counts) // 2, len(counts) // 2))


class _Recorder:
    """Looks on, at the moments of a training, and remembers what it saw."""

    def __init__(self, net: FrozenNetwork, tell: Callable[[Moment], None]) -> None:
        self._net, self._tell = net, tell
        self._frozen = net.flatten(net.frozen)
        self._histograms = [ScoreHistogram() for _ in net.maskable]
        self._masks: list[Tensor] = []  # packed
        self.steps: list[int] = []
        self.losses: list[float | None] = []

    def look(self, mask: MaskInTraining, step: int, batch: Batch) -> None:
        """Remember how the mask is before a step, if that is a moment."""
        if step not in moments(mask.steps):
            return
        check_finite(mask.scores, mask.training.learning_rate)
        bits = mask.rule.mask(mask.scores)
        for histogram, scores in zip(self._histograms, mask.scores.split(self._sizes), strict=True):
            histogram.add(scores)
        self.steps.append(step)
        self.losses.append(self._loss(mask, step, batch, bits))
        flipped = 0.0 if not self._masks else _share(bits != self._bits(-1))
        self._masks.append(pack(bits))
        self._tell(Moment(step, mask.steps, self.losses[-1], _share(bits), flipped))

    def layers(self, final: Bool[Tensor, " bits"]) -> tuple[WatchedLayer, ...]:
        """Return what was seen of each layer, beside the mask that training ended with."""
        masks = [self._bits(moment).split(self._sizes) for moment in range(len(self._masks))]
        layers = []
        for number, (entry, end) in enumerate(zip(self._net.maskable, final.split(self._sizes), strict=True)):
            way = [mask[number] for mask in masks]
            limit, counts = self._histograms[number].binned()
            unlike = tuple(_share(bits != end) for bits in way)
            flipped = tuple(_share(bits != before) for bits, before in zip(way, [way[0], *way[:-1]], strict=True))
            density = tuple(map(_share, way))
            layers.append(WatchedLayer(entry.name, entry.size, limit, counts, density, unlike, flipped))
        return tuple(layers)

    @property
    def _sizes(self) -> list[int]:
        return [entry.size for entry in self._net.maskable]

    def _bits(self, moment: int) -> Bool[Tensor, " bits"]:
        return unpack(self._masks[moment], self._net.num_bits)

    def _loss(self, mask: MaskInTraining, step: int, batch: Batch, bits: Bool[Tensor, " bits"]) -> float | None:
        """Return the loss that the step sees: by copies of the statistics, and by the random numbers that are its own."""
        if self._net.task_buffers and len(batch) < FEWEST_IMAGES:
            return None
        copies = {name: value.clone() for name, value in mask.buffers.items()}
        weights = self._net.unflatten(bits.to(self._net.dtype).mul_(self._frozen))
        device = self._net.device
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(stream_key(self._net.seed, "layers", mask.task, min(step, mask.steps - 1)))
            return float(task_loss(self._net, mask.training.precision, copies)(weights, batch))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Use so many threads meanwhile: the last bits of a sum depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _differences(environment: Environment, device: torch.device) -> tuple[str, ...]:
    """Return what is not as it was when the run was started, each as "what: then, now"."""
    kinds = sorted({name.partition(":")[0] for name in environment.devices})
    compared = (
        ("device", ", ".join(kinds), device.type),
        ("machine", environment.machine, describe_machine(device)),
        ("tasks at once", str(environment.tasks_at_once), "1"),
        ("torch", environment.versions.get("torch", "unknown"), version("torch")),
        ("arithmetic", environment.arithmetic, arithmetic()),
    )
    return tuple(f"{what}: {then} then, {now} now" for what, then, now in compared if then != now)


def _share(bits: Bool[Tensor, " bits"]) -> float:
    """Return the share of ones, a fraction."""
    return int(bits.sum()) / bits.numel()

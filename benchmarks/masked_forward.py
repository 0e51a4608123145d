"""What a task's mask costs beside a forward pass: the paper's estimate for ResNet-50, measured (Appendix D.4).

    python benchmarks/masked_forward.py [--batch-sizes 1 16] [--precisions float32 bfloat16] [--summary FILE]

The paper holds applying a mask to be as quick as reading W once: .21 ms beside a forward pass of 25 ms on a GTX 1080 Ti, about
1 %, at most 3 %. Here a task switch (packed bits to W ⊙ M), the plain forward pass, the masked one with its weights in place,
with a switch before each call, and with W multiplied in each call, as the paper does, take turns, so that drift hits all
alike. Copies of W stand beside them: what the memory can do. Each masked way is checked against a module that was multiplied
by hand, and the run stops where one differs. Batch norm is torchvision's, with scale 1 and bias 0: the paper's non-affine one.

Needs torch, torchvision, numpy, rich and the packages alone; `--compact-bank` also what a bank's files need.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from supsup_core import FrozenNetwork, MaskBank, Masks, Weights, erdos_renyi_budget, top_k_mask
from supsup_core.atomic_files import replace_file
from supsup_methods.commands.exits import Interrupted, guarded
from supsup_methods.devices import describe_device, describe_machine, resolve_device
from supsup_methods.errors import UsageError
from torch import Tensor

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MASKS = ("half", "sparse")
BUDGET_FACTOR = 8.0  # c of the Erdős-Rényi budget: the middle one of the paper's three for ResNet-50
TASKS = 2  # enough to change task at each call
PAPER = {"mask_seconds": 0.21e-3, "forward_seconds": 25e-3, "overhead": 0.01, "overhead_at_most": 0.03}
# Of the largest output. Weights and like ways are compared to the bit; this only tells a mask that was not used from kernels
# that round otherwise: by some 1e-6 in float32, by a few 1e-3 where a GPU's convolutions take TF32, by a few 1e-2 in bfloat16.
TOLERANCE = {"float32": 1e-2, "bfloat16": 1e-1}
PLAIN, SWITCH, COPY = "plain forward", "switch alone", "copy of W"
IN_PLACE, WITH_SWITCH = "masked, weights in place", "masked, with a switch"


class WrongAnswerError(Exception):
    """A masked way does not compute f(x, W ⊙ M), so that its time means nothing."""


@dataclass(frozen=True)
class Setting:
    """What one table is measured at."""

    device: torch.device
    precision: str
    batch_size: int
    channels_last: bool

    @property
    def layout(self) -> torch.memory_format:
        """How images and convolutions' weights lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Tasks:
    """Some tasks with one kind of mask: as drawn, and in a bank."""

    kind: str
    masks: list[Masks]
    statistics: list[dict[str, Tensor]]
    """Running means and variances of each task."""
    bank: MaskBank


@dataclass(frozen=True)
class Way:
    """A piece of work to be timed."""

    what: str
    work: Callable[[int], Any]
    """Takes the task; a forward pass returns the outputs."""
    kind: str = ""
    """Of the masks; empty without any."""
    bytes: int = 0
    """Read and written at the least; 0 for a forward pass."""


@dataclass(frozen=True)
class Reopened:
    """A bank that went through entropy-coded files."""

    tasks: Tasks
    file_bytes: int
    open_seconds: float


def frozen_network(name: str, setting: Setting) -> FrozenNetwork:
    """Return torchvision's network with its weights frozen at ± constant, on the device and in the layout of a setting."""
    module = getattr(torchvision.models, name)(weights=None)
    return FrozenNetwork(module.to(memory_format=setting.layout), seed=0).to(setting.device)


def draw_tasks(net: FrozenNetwork, kind: str, layout: torch.memory_format) -> Tasks:
    """Draw masks at random, half of all weights or the Erdős-Rényi budget, and running statistics for each task."""
    budget = erdos_renyi_budget(net, BUDGET_FACTOR)
    generator = torch.Generator().manual_seed(MASKS.index(kind))
    tasks = Tasks(kind, [], [], MaskBank(net))
    for task in range(TASKS):
        masks = {}
        for entry in net.maskable:
            scores = torch.rand(entry.shape, generator=generator)
            masks[entry.name] = scores < 0.5 if kind == "half" else top_k_mask(scores, budget[entry.name], task)
        # Means about 0, variances about 1: they differ between tasks, and no layer dies of them.
        values = {
            entry.name: 0.2 * torch.rand(entry.shape, generator=generator) + ("var" in entry.name) - 0.1
            for entry in net.task_buffers
        }
        tasks.masks.append(laid_out({name: mask.to(net.device) for name, mask in masks.items()}, layout))
        tasks.statistics.append({name: value.to(net.device) for name, value in values.items()})
        tasks.bank.append(tasks.masks[task], tasks.statistics[task])
    return tasks


def laid_out(values: Mapping[str, Tensor], layout: torch.memory_format) -> dict[str, Tensor]:
    """Return tensors with those of four axes, a convolution's, in a memory layout."""
    return {
        name: value.contiguous(memory_format=layout) if value.ndim == 4 else value for name, value in values.items()
    }


def reopened(tasks: Tasks, net: FrozenNetwork) -> Reopened:
    """Save a bank entropy-coded and open it again: masks are decoded then, and a switch finds packed bits as ever."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank"
        tasks.bank.save(path, compact=True)
        size = sum(file.stat().st_size for file in path.iterdir())
        start = time.perf_counter()
        bank = MaskBank.open(path, net)
        bank.check()  # checksums are compared once, at a task's first use: no part of a later switch
        seconds = time.perf_counter() - start
    return Reopened(Tasks(f"{tasks.kind}, compact", tasks.masks, tasks.statistics, bank), size, seconds)


def check_weights(net: FrozenNetwork, tasks: Tasks) -> None:
    """Stop unless a bank gives W ⊙ M of the masks that were drawn, to the bit.

    Raises:
        WrongAnswerError: it does not.
    """
    for task, masks in enumerate(tasks.masks):
        weights = tasks.bank.weights(task)
        for name, frozen in net.frozen.items():
            if not torch.equal(weights[name], frozen * masks[name]):
                raise WrongAnswerError(f"{tasks.kind}, task {task}: the bank's {name!r} is not W times the mask")


def multiplied_by_hand(net: FrozenNetwork, tasks: Tasks, task: int) -> torch.nn.Module:
    """Return a copy of the module with a task's mask multiplied into its weights, and the task's running statistics."""
    module = copy.deepcopy(net.module)
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    for name, mask in tasks.masks[task].items():
        parameters[name].mul_(mask)
    for name, value in tasks.statistics[task].items():
        buffers[name].copy_(value)
    return module


def check_answers(ways: Sequence[Way], by_hand: Mapping[tuple[str, int], Tensor], tolerance: float) -> float:
    """Return the largest difference of a masked way to the modules made by hand, as a share of the largest output.

    Args:
        ways: those without a kind of mask, or that are no forward pass, are passed over.
        by_hand: outputs of the module made by hand, by kind of mask and task.
        tolerance: the share from which on two outputs are no longer the same but for rounding.

    Raises:
        WrongAnswerError: a way differs by more; or a switch before the call changes a bit of the answer; or the modules
            made by hand answer with nothing but zeros, or with no numbers, to which nothing can be compared.
    """
    largest, forwards = 0.0, {(way.what, way.kind): way for way in ways if way.kind and not way.bytes}
    for (kind, task), expected in by_hand.items():
        scale = float(expected.float().abs().max())
        if not 0.0 < scale < float("inf"):
            raise WrongAnswerError(f"{kind}, task {task}: the largest output is {scale}; nothing can be compared to it")
        answers = {what: way.work(task) for (what, of), way in forwards.items() if of == kind}
        if not torch.equal(answers[IN_PLACE], answers[WITH_SWITCH]):
            raise WrongAnswerError(f"{kind}, task {task}: a switch before the call changed the answer")
        for what, answer in answers.items():
            difference = float((answer.float() - expected.float()).abs().max()) / scale
            if not difference <= tolerance:  # so that NaN is refused
                raise WrongAnswerError(f"{what}, {kind}, task {task}: {difference:.1e} of the largest output off")
            largest = max(largest, difference)
    return largest


def plain_ways(net: FrozenNetwork, images: Tensor) -> list[Way]:
    """Return the forward pass of the module itself, and copies of W into memory in use and into fresh memory."""
    module, flat = net.module, net.flatten(net.frozen)
    used, moved = torch.empty_like(flat), 2 * flat.nbytes
    return [
        Way(PLAIN, lambda _: module(images)),
        Way(COPY, lambda _: used.copy_(flat), bytes=moved),
        Way(f"{COPY} to fresh memory", lambda _: flat.clone(), bytes=moved),
    ]


def switch_ways(tasks: Tasks, net: FrozenNetwork) -> list[Way]:
    """Return a task switch, into memory in use and into fresh memory: reads the bits and W, writes W ⊙ M."""
    moved = tasks.bank.row_bytes + 2 * net.num_bits * net.dtype.itemsize
    used = torch.empty_like(net.flatten(net.frozen))
    return [
        Way(SWITCH, partial(tasks.bank.weights, out=used), tasks.kind, moved),
        Way(f"{SWITCH}, to fresh memory", tasks.bank.weights, tasks.kind, moved),
    ]


def masked_ways(net: FrozenNetwork, tasks: Tasks, images: Tensor, layout: torch.memory_format) -> list[Way]:
    """Return the masked forward passes: weights in place, with a switch, and W multiplied in each call, as the paper does."""
    bank, frozen = tasks.bank, net.frozen
    placed: list[Weights] = [bank.weights(task) for task in range(len(bank))]
    used = torch.empty_like(net.flatten(frozen))
    floats = [{name: mask.to(net.dtype) for name, mask in masks.items()} for masks in tasks.masks]

    def multiply_with(masks: Sequence[Masks], task: int) -> Tensor:
        weights = {name: weight * masks[task][name] for name, weight in frozen.items()}
        return net(images, weights | tasks.statistics[task])

    ways = [
        Way(IN_PLACE, lambda task: net(images, placed[task]), tasks.kind),
        Way(WITH_SWITCH, lambda task: net(images, bank.weights(task, out=used)), tasks.kind),
        Way("masked, W × a float mask", partial(multiply_with, floats), tasks.kind),
        Way("masked, W × a bool mask", partial(multiply_with, tasks.masks), tasks.kind),
    ]
    if layout is torch.channels_last:  # a bank's weights lie as they are numbered, and kernels turn them at each call
        turned = [laid_out(weights, layout) for weights in placed]
        ways.insert(1, Way("masked, channels last", lambda task: net(images, turned[task]), tasks.kind))
    return ways


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


def row_of(way: Way, seconds: list[float], plain: list[float]) -> dict[str, Any]:
    """Return a way's times, and what it adds to a plain forward pass as a fraction of that."""
    median, least = statistics.median(seconds), min(seconds)
    included = 0.0 if way.bytes else 1.0  # a forward pass contains the plain one
    return {
        "what": way.what,
        "masks": way.kind,
        "seconds": seconds,
        "median_seconds": median,
        "min_seconds": least,
        "overhead": median / statistics.median(plain) - included,
        "overhead_of_fastest": least / min(plain) - included,
        "bytes": way.bytes,
        "bytes_per_second": way.bytes / median,
    }


@torch.inference_mode()
def measure(setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """Check and time all ways at one setting.

    Raises:
        WrongAnswerError: a masked way is wrong.
    """
    net = frozen_network(options.network, setting)
    shape = (setting.batch_size, 3, options.image_side, options.image_side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images = images.to(setting.device, memory_format=setting.layout)
    kinds = [draw_tasks(net, kind, setting.layout) for kind in options.masks]
    coded = [reopened(tasks, net) for tasks in kinds] if options.compact_bank else []
    ways = plain_ways(net, images)
    for tasks in (*kinds, *(each.tasks for each in coded)):
        check_weights(net, tasks)
        ways += switch_ways(tasks, net)
    for tasks in kinds:
        ways += masked_ways(net, tasks, images, setting.layout)
    with torch.autocast(setting.device.type, dtype=torch.bfloat16, enabled=setting.precision == "bfloat16"):
        by_hand = {
            (tasks.kind, task): multiplied_by_hand(net, tasks, task)(images) for tasks in kinds for task in range(TASKS)
        }
        difference = check_answers(ways, by_hand, TOLERANCE[setting.precision])
        seconds = take_turns(ways, options.repeats, setting.device)
    return {
        "device": describe_device(setting.device),
        "precision": setting.precision,
        "batch_size": setting.batch_size,
        "channels_last": setting.channels_last,
        "largest_difference": difference,
        "weights": net.num_bits,
        "compact_banks": [
            {"masks": each.tasks.kind, "bytes": each.file_bytes, "open_seconds": each.open_seconds} for each in coded
        ],
        "rows": [row_of(way, times, seconds[0]) for way, times in zip(ways, seconds, strict=True)],
    }


def table_of(measured: Mapping[str, Any], options: argparse.Namespace) -> Table:
    """Return what was measured at one setting, beside the paper's estimate."""
    layout = "channels last" if measured["channels_last"] else "channels first"
    size = f"{measured['batch_size']} x 3 x {options.image_side} x {options.image_side}"
    table = Table(title=f"{options.network}, {size}, {measured['device']}, {measured['precision']}, {layout}")
    for column in ("what", "masks", "ms, median", "ms, fastest", "of plain", "fastest", "paper", "GB/s"):
        table.add_column(column, justify="left" if column in ("what", "masks") else "right", no_wrap=True)
    paper = f"{PAPER['overhead']:.0%}, at most {PAPER['overhead_at_most']:.0%}"
    for row in measured["rows"]:
        shares = (f"{row[name]:{'' if row['bytes'] else '+'}.1%}" for name in ("overhead", "overhead_of_fastest"))
        table.add_row(
            row["what"],
            row["masks"],
            *(f"{1e3 * row[name]:.2f}" for name in ("median_seconds", "min_seconds")),
            *(("", "") if row["what"] == PLAIN else shares),
            paper if row["what"] in (SWITCH, WITH_SWITCH) else "",
            f"{row['bytes_per_second'] / 1e9:.1f}" if row["bytes"] else "",
        )
    table.caption = caption_of(measured)
    return table


def caption_of(measured: Mapping[str, Any]) -> str:
    """Return the paper's own arithmetic with this machine's bandwidth: the time to read W once, beside a plain forward."""
    plain, copied = (next(row for row in measured["rows"] if row["what"] == what) for what in (PLAIN, COPY))
    reading = copied["median_seconds"] / 2  # a copy reads and writes
    lines = [
        f"the paper's estimate with this memory: W read once takes {1e3 * reading:.2f} ms, "
        f"{reading / plain['median_seconds']:.1%} of a plain forward (paper: .21 of 25 ms); "
        f"largest difference to a module multiplied by hand {measured['largest_difference']:.0e}"
    ]
    lines += [
        f"{each['masks']}: {TASKS} tasks in {each['bytes']:,} bytes, decoded at opening in {each['open_seconds']:.2f} s"
        for each in measured["compact_banks"]
    ]
    return "\n".join(lines)


class OneLineParser(argparse.ArgumentParser):
    """Options whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what `guarded` tells in one line."""
        raise UsageError(f"{message.removeprefix('argument ')}; --help lists all options")


def from_one_up(text: str) -> int:
    """Return a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 up; choose another value")
    return int(text)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options.

    Raises:
        UsageError: one cannot be used.
    """
    parser = OneLineParser(description="What a mask costs beside a forward pass (Appendix D.4).", allow_abbrev=False)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--network", choices=NETWORKS, default="resnet50", help="of torchvision")
    parser.add_argument("--image-side", type=from_one_up, default=224, help="pixels")
    parser.add_argument("--batch-sizes", type=from_one_up, nargs="+", default=[1, 16])
    parser.add_argument(
        "--masks", choices=MASKS, nargs="+", default=list(MASKS), help="half of W, or the Erdős-Rényi budget with c = 8"
    )
    parser.add_argument("--devices", nargs="+", default=devices, help="cpu, cuda, cuda:0 ...; all there are by default")
    parser.add_argument("--precisions", choices=tuple(TOLERANCE), nargs="+", default=["float32"], help="by autocast")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compact-bank", action="store_true", help="a switch from an entropy-coded bank as well")
    parser.add_argument("--repeats", type=from_one_up, default=10, help="rounds in which all take turns")
    parser.add_argument("--threads", type=from_one_up, help="of torch; its own choice by default")
    parser.add_argument("--summary", type=Path, help="file to write the figures to, as JSON; it must not exist")
    options = parser.parse_args(argv)
    options.devices = [resolve_device(name) for name in options.devices]
    if options.summary is not None and options.summary.exists():
        raise UsageError(f"--summary {options.summary}: it exists and is not overwritten; choose another name")
    if options.summary is not None and not options.summary.parent.is_dir():
        folder = options.summary.parent
        raise UsageError(f"--summary {options.summary}: the folder {folder} does not exist; create it first")
    return options


def run(argv: Sequence[str]) -> None:
    """Measure at all settings, print the tables, write the summary.

    Raises:
        UsageError: an option cannot be used.
        WrongAnswerError: a masked way is wrong.
    """
    options, console = parse(argv), Console(width=130)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = [
        Setting(device, precision, batch_size, options.channels_last)
        for device in options.devices
        for precision in options.precisions
        for batch_size in options.batch_sizes
    ]
    machine, tf32 = describe_machine(options.devices[-1]), torch.backends.cudnn.allow_tf32
    console.print(
        f"{machine}; {torch.get_num_threads()} threads; torch {torch.__version__}; TF32 in convolutions: {tf32}"
    )
    measured = []
    for setting in settings:
        measured.append(measure(setting, options))
        console.print(table_of(measured[-1], options))
    if options.summary is not None:
        summary = {
            "machine": machine,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "tf32_convolutions": tf32,
            "network": options.network,
            "image_side": options.image_side,
            "repeats": options.repeats,
            "paper": PAPER,
            "settings": measured,
        }
        replace_file(options.summary, (json.dumps(summary, indent=1) + "\n").encode())


def _unless_interrupted(argv: list[str]) -> None:
    try:
        run(argv)
    except KeyboardInterrupt:
        raise Interrupted("stopped; no summary was written") from None


def main(argv: list[str]) -> int:
    """Return the exit status: 0 done, 2 an option that cannot be used."""
    return guarded(_unless_interrupted, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

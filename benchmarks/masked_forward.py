"""What a task's mask costs beside a forward pass: the paper's estimate for ResNet-50, measured (Appendix D.4).

    python benchmarks/masked_forward.py [--batch-sizes 1 16] [--precisions float32 bfloat16] [--summary FILE]

The paper holds applying a mask to be as quick as reading W once: .21 ms beside a forward pass of 25 ms on a GTX 1080 Ti, about
1 %, at most 3 %. Here a task switch (packed bits to W ⊙ M), the plain forward pass, the masked one with its weights in place,
with a switch before each call, and with W multiplied in each call, as the paper does, take turns, so that drift hits all
alike. Copies of W stand beside them: what the memory can do. Each masked way is checked against a module that was multiplied
by hand, and the run stops where one differs. `supsup-reproduce forward-cost` records the same measurement at the paper's
setting; here any network, precision and layout can be asked for.

Needs torch, torchvision, numpy, rich and the packages alone; `--compact-bank` also what a bank's files need.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console
from rich.table import Table
from supsup_core.atomic_files import replace_file
from supsup_methods.commands.exits import Interrupted, guarded
from supsup_methods.devices import describe_machine, resolve_device
from supsup_methods.errors import UsageError
from supsup_methods.masked_forward.answers import TOLERANCE
from supsup_methods.masked_forward.drawn_tasks import MASKS, NETWORKS, TASKS, Setting
from supsup_methods.masked_forward.measuring import PAPER, Measured, Timing, measure
from supsup_methods.masked_forward.ways import PLAIN, SWITCH, WITH_SWITCH


def table_of(measured: Measured, options: argparse.Namespace) -> Table:
    """Return what was measured at one setting, beside the paper's estimate."""
    layout = "channels last" if measured.channels_last else "channels first"
    size = f"{measured.batch_size} x 3 x {options.image_side} x {options.image_side}"
    table = Table(title=f"{options.network}, {size}, {measured.device}, {measured.precision}, {layout}")
    for column in ("what", "masks", "ms, median", "ms, fastest", "of plain", "fastest", "paper", "GB/s"):
        table.add_column(column, justify="left" if column in ("what", "masks") else "right", no_wrap=True)
    for row in measured.rows:
        table.add_row(*cells_of(row))
    table.caption = caption_of(measured)
    return table


def cells_of(row: Timing) -> list[str]:
    """Return a line of the table."""
    sign = "" if row.bytes else "+"
    return [
        row.what,
        row.masks,
        f"{1e3 * row.median_seconds:.2f}",
        f"{1e3 * row.min_seconds:.2f}",
        "" if row.what == PLAIN else f"{row.overhead:{sign}.1%}",
        "" if row.what == PLAIN else f"{row.overhead_of_fastest:{sign}.1%}",
        f"{PAPER.overhead:.0%}, at most {PAPER.overhead_at_most:.0%}" if row.what in (SWITCH, WITH_SWITCH) else "",
        f"{row.bytes_per_second / 1e9:.1f}" if row.bytes else "",
    ]


def caption_of(measured: Measured) -> str:
    """Return the paper's own arithmetic with this machine's bandwidth: the time to read W once, beside a plain forward."""
    reading = measured.reading_seconds
    lines = [
        f"the paper's estimate with this memory: W read once takes {1e3 * reading:.2f} ms, "
        f"{reading / measured.of(PLAIN).median_seconds:.1%} of a plain forward (paper: .21 of 25 ms); "
        f"largest difference to a module multiplied by hand {measured.largest_difference:.0e}"
    ]
    lines += [
        f"{each.masks}: {TASKS} tasks in {each.bytes:,} bytes, decoded at opening in {each.open_seconds:.2f} s"
        for each in measured.compact_banks
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
        Setting(options.network, options.image_side, batch_size, device, precision, options.channels_last)
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
        measured.append(measure(setting, options.masks, options.repeats, compact_bank=options.compact_bank))
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
            "paper": asdict(PAPER),
            "settings": [asdict(each) for each in measured],
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

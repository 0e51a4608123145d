"""Ours beside the textbook, in one run on one machine: learning a task, one guess, a checkpoint's guesses, memory.

    python benchmarks/speed.py [--data-root DIR] [--hidden 300 100] [--outputs 100] [--tasks 250] [--threads N]

Seconds are of the wall, medians; the CPU's own seconds stand beside them and tell where other work stretched the clock. What
the machine can do is measured in the same run: float32 and bfloat16 matrix products, and copying memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import textbook
import torch
from rich.console import Console
from rich.table import Table
from supsup_core import FrozenNetwork, MaskBank, binary, entropy, one_shot, one_shot_each, packed_kernels
from supsup_datasets import PermutedStream, embedded_mnist, mnist
from supsup_methods.backbones import fully_connected
from supsup_methods.supsup import SupSup, SupSupSettings

GUESSES_AT_ONCE = 512
MEMORY_TASKS = 1000


@dataclass(frozen=True)
class Cost:
    """Seconds on the wall and of all processor time."""

    wall: float
    cpu: float


def cost(work: Callable[[], object], repeats: int = 1) -> Cost:
    """Return what a piece of work takes, the median of some runs."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Cost(statistics.median(walls), statistics.median(cpus))


def machine() -> Table:
    """Measure matrix products and memory."""
    table = Table(title=f"this machine, {torch.get_num_threads()} threads")
    for column in ("what", "reached"):
        table.add_column(column, justify="right")
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        seconds = min(cost(lambda a=left, b=right: a @ b).wall for _ in range(5))  # type: ignore[misc]
        table.add_row(f"{dtype} matrix product, 2048³", f"{2 * 2048**3 / seconds / 1e9:.0f} GFLOP/s")
    source, target = torch.randn(2**26), torch.empty(2**26)
    seconds = min(cost(lambda: target.copy_(source)).wall for _ in range(5))
    table.add_row("copying memory, read and written", f"{2 * source.nbytes / seconds / 1e9:.1f} GB/s")
    return table


def learning(options: argparse.Namespace) -> tuple[Cost, Cost]:
    """Return the cost of one task, with three passes over its test set: textbook, ours."""
    network = textbook.TextbookSupSup((textbook.PIXELS, *options.hidden, options.outputs), num_tasks=1, seed=0)
    textbook.warm_up(network)
    slow = cost(lambda: textbook.whole_task(network, 0, options.data_root, textbook.BATCHES, seed=0))
    stream = PermutedStream(embedded_mnist() if options.data_root is None else mnist(options.data_root), 4, seed=0)

    def whole_task(method: SupSup, index: int) -> None:
        method.learn([stream[index]], lambda: None)
        for _ in range(textbook.TEST_PASSES):
            for batch in stream[index].test.in_order(10_000):
                (method.logits(batch.images, method.tasks_learned - 1).argmax(dim=1) == batch.labels).sum()

    net = network_of(options)
    method = SupSup(net, MaskBank(net), SupSupSettings(), num_labels=10, seed=0)
    whole_task(method, 3)
    costs = [cost(lambda index=index: whole_task(method, index)) for index in range(3)]  # type: ignore[misc]
    return slow, sorted(costs, key=lambda each: each.wall)[1]


def network_of(options: argparse.Namespace) -> FrozenNetwork:
    """Return our network of the same widths."""
    return FrozenNetwork(fully_connected(textbook.PIXELS, tuple(options.hidden), options.outputs), seed=0)


def random_bank(net: FrozenNetwork, tasks: int) -> MaskBank:
    """Return a bank of coin tosses: what a guess costs does not depend on what was learned."""
    bank = MaskBank(net)
    for first in range(0, tasks, 250):
        rows = torch.randint(0, 256, (min(250, tasks - first), bank.row_bytes), dtype=torch.uint8)
        rows[:, -(-net.num_bits // 8) :] = 0
        if net.num_bits % 8:
            rows[:, net.num_bits // 8] &= 2 ** (net.num_bits % 8) - 1
        bank.append_rows(rows)
    return bank


def guessing(options: argparse.Namespace) -> list[tuple[str, Cost]]:
    """Return the cost of a guess, in several ways."""
    network = textbook.TextbookSupSup((textbook.PIXELS, *options.hidden, options.outputs), options.tasks, seed=0)
    network.use_random_masks()
    images = torch.randn(GUESSES_AT_ONCE, textbook.PIXELS)
    network.one_shot(images[:1])
    rows = [("textbook, one guess", cost(lambda: network.one_shot(images[:1]), 5))]
    del network
    net = network_of(options)
    bank = random_bank(net, options.tasks)
    installed = packed_kernels.is_installed()
    for kernel in (False, True) if installed else (False,):
        packed_kernels.is_installed = lambda kernel=kernel: kernel  # type: ignore[assignment]
        one_shot(entropy, net, bank, images[:1])
        name = "machine loop over packed bits" if kernel else "torch alone"
        rows.append((f"one guess, {name}", cost(lambda: one_shot(entropy, net, bank, images[:1]), 20)))
        rows.append((f"one guess by Binary, {name}", cost(lambda: binary(entropy, net, bank, images[:1]), 3)))
    one_shot_each(entropy, net, bank, images[:128])
    many = cost(lambda: one_shot_each(entropy, net, bank, images), 3)
    rows.append(
        (f"a guess of {GUESSES_AT_ONCE} at once", Cost(many.wall / GUESSES_AT_ONCE, many.cpu / GUESSES_AT_ONCE))
    )
    return rows


def peak_of(way: str, options: argparse.Namespace) -> int:
    """Return the most bytes that a process of its own held for a guess among `MEMORY_TASKS`, above importing torch."""
    command = [sys.executable, __file__, "--memory-of", way, "--outputs", str(options.outputs)]
    command += ["--hidden", *map(str, options.hidden)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)  # noqa: S603 - ourselves
    return int(answer.stdout)


def guess_once(options: argparse.Namespace) -> None:
    """Make a guess in this process and print by how many bytes its peak grew."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory_bytes("VmRSS")
    image = torch.randn(1, textbook.PIXELS)
    if options.memory_of == "textbook":
        sizes = (textbook.PIXELS, *options.hidden, options.outputs)
        network = textbook.TextbookSupSup(sizes, MEMORY_TASKS, seed=0)
        for layer in network.layers:
            layer.masks.bernoulli_()
        network.tasks_learned = MEMORY_TASKS
        network.one_shot(image)
    else:
        packed_kernels.is_installed = lambda: False  # type: ignore[assignment]  # a compiler is no part of the guess
        net = network_of(options)
        one_shot(entropy, net, random_bank(net, MEMORY_TASKS), image)
    sys.stdout.write(str(memory_bytes("VmHWM") - before))


def memory_bytes(what: str) -> int:
    """Return what Linux says of this process: VmRSS, the memory that it holds, or VmHWM, the most that it has held."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{what}:"))
    return 1024 * int(line.split()[1])


def report(options: argparse.Namespace) -> Table:
    """Measure everything, and return it as a table."""
    widths = "-".join(map(str, (textbook.PIXELS, *options.hidden, options.outputs)))
    table = Table(title=f"{widths}, float32, {torch.get_num_threads()} threads")
    for column in ("what", "seconds", "CPU seconds", "times faster than the textbook", "in CPU seconds"):
        table.add_column(column, justify="left" if column == "what" else "right")

    def add(what: str, each: Cost, slow: Cost) -> None:
        ratios = f"{slow.wall / each.wall:.1f}", f"{slow.cpu / each.cpu:.1f}"
        table.add_row(what, f"{each.wall:.4f}", f"{each.cpu:.4f}", *ratios)

    slow, ours = learning(options)
    add("textbook, a task and three test passes", slow, slow)
    add("a task and three test passes", ours, slow)
    guesses = guessing(options)
    for what, each in guesses:
        add(f"{what}, of {options.tasks} tasks", each, guesses[0][1])
    peaks = {way: peak_of(way, options) for way in ("textbook", "ours")}
    table.caption = (
        f"peak memory of a guess among {MEMORY_TASKS} tasks, above importing torch: textbook {peaks['textbook'] / 1e6:.0f} MB, "
        f"ours {peaks['ours'] / 1e6:.0f} MB = 1/{peaks['textbook'] / peaks['ours']:.0f}"
    )
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Ours beside the textbook, in one run on one machine.")
    parser.add_argument("--data-root", type=Path, help="full MNIST in torchvision's layout; without it, MNIST-5k")
    parser.add_argument("--hidden", type=int, nargs="+", default=[300, 100])
    parser.add_argument("--outputs", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=250, help="tasks to guess among")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--memory-of", choices=("textbook", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        guess_once(options)
        return
    console = Console(width=120)
    console.print(machine())
    console.print(report(options))


if __name__ == "__main__":
    main()

"""Ours beside the textbook, in one run on one machine: learning a task, one guess, a checkpoint's guesses, memory.

    python benchmarks/speed.py [--data-root DIR] [--hidden 300 100] [--outputs 100] [--tasks 250] [--threads N]
        [--only learning|guessing]

Seconds are of the wall, medians; the CPU's own seconds stand beside them and tell where other work stretched the clock. What
the machine can do is measured in the same run, and what share of it we reach stands behind: of float32 matrix products where
arithmetic limits, of copying memory where reading the masks does.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import textbook
import torch
from measuring import (
    Cost,
    Machine,
    cost,
    digits,
    forget_peak,
    machine,
    memory_bytes,
    network,
    random_bank,
    use_machine_loops,
)
from rich.console import Console
from rich.table import Table
from supsup_core import (
    FrozenNetwork,
    MaskBank,
    binary,
    binary_each,
    entropy,
    machine_code,
    one_shot,
    one_shot_each,
)
from supsup_datasets import PermutedStream
from supsup_methods.mask_training import MaskTraining
from supsup_methods.precision import Precision
from supsup_methods.supsup import SupSup, SupSupSettings

GUESSES_AT_ONCE = 512
TASKS = 3  # that are timed, in each process


def learn_textbook(options: argparse.Namespace) -> Cost:
    """Return what one task costs, with three passes over its test set, by the textbook."""
    slow = textbook.TextbookSupSup((textbook.PIXELS, *options.hidden, options.outputs), num_tasks=1, seed=0)
    textbook.warm_up(slow)
    return cost(lambda: textbook.whole_task(slow, 0, options.data_root, textbook.BATCHES, seed=0))


def our_task(options: argparse.Namespace, precision: Precision) -> Callable[[], None]:
    """Return what learns the next task and passes over its test set three times; one to warm up is learned already."""
    stream = PermutedStream(digits(options.data_root), 1 + TASKS, seed=0)
    net = network(options.hidden, options.outputs)
    settings = SupSupSettings(training=MaskTraining(batches=textbook.BATCHES, precision=precision))
    method = SupSup(net, MaskBank(net), settings, num_labels=10, seed=0)

    def whole_task() -> None:
        task = stream[method.tasks_learned]
        method.learn([task], lambda: None)
        for _ in range(textbook.TEST_PASSES):
            for batch in task.test.in_order(10_000):
                (method.logits(batch.images, task.index).argmax(dim=1) == batch.labels).sum()

    whole_task()
    return whole_task


def learn_ours(options: argparse.Namespace, precision: Precision) -> Cost:
    """Return what a task costs us: the median of three."""
    whole_task = our_task(options, precision)
    return sorted((cost(whole_task) for _ in range(TASKS)), key=lambda each: each.wall)[TASKS // 2]


def learn_ours_apart(options: argparse.Namespace, processes: int) -> Cost:
    """Return what a task costs us where so many processes of one thread each learn tasks of their own, as long runs do."""
    context, ends, workers = get_context("spawn"), [], []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        worker = context.Process(target=_learn_when_told, args=(theirs, options), daemon=True)
        worker.start()
        ends.append(ours)
        workers.append(worker)
    for end in ends:
        end.recv()  # it is warm
    start = time.perf_counter()
    for end in ends:
        end.send(None)
    cpu = sum(end.recv() for end in ends)
    wall = time.perf_counter() - start
    for worker in workers:
        worker.join()
    return Cost(wall / (TASKS * processes), cpu / (TASKS * processes))


def _learn_when_told(connection: Connection, options: argparse.Namespace) -> None:
    """Warm up, tell so, learn when told to, and send the CPU's seconds."""
    torch.set_num_threads(1)
    whole_task = our_task(options, "float32")
    connection.send(None)
    connection.recv()
    start = time.process_time()
    for _ in range(TASKS):
        whole_task()
    connection.send(time.process_time() - start)


def step_flops(net: FrozenNetwork) -> int:
    """Return the operations of a training step's matrix products: forward, and two backward but for the first layer's inputs."""
    first = net.maskable[0].size
    return 2 * textbook.BATCH_SIZE * (3 * net.num_bits - first)


def guess_textbook(options: argparse.Namespace) -> Cost:
    """Return what a guess costs by the textbook."""
    slow = textbook.TextbookSupSup((textbook.PIXELS, *options.hidden, options.outputs), options.tasks, seed=0)
    slow.use_random_masks()
    image = torch.randn(1, textbook.PIXELS)
    slow.one_shot(image)
    return cost(lambda: slow.one_shot(image), 5)


def each_of(work: Callable[[], object], guesses: int) -> Cost:
    """Return the cost of one of many guesses that are made together."""
    work()
    many = cost(work, 3)
    return Cost(many.wall / guesses, many.cpu / guesses)


def peak_of(way: str, options: argparse.Namespace) -> int:
    """Return the most bytes that a process of its own held for a guess among `memory_tasks`, above importing torch."""
    command = [sys.executable, __file__, "--memory-of", way, "--outputs", str(options.outputs)]
    command += ["--memory-tasks", str(options.memory_tasks), "--hidden", *map(str, options.hidden)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)  # noqa: S603 - ourselves
    return int(answer.stdout)


def guess_once(options: argparse.Namespace) -> None:
    """Make a guess in this process and print by how many bytes its peak grew."""
    forget_peak()
    before = memory_bytes("VmRSS")
    image = torch.randn(1, textbook.PIXELS)
    if options.memory_of == "textbook":
        sizes = (textbook.PIXELS, *options.hidden, options.outputs)
        slow = textbook.TextbookSupSup(sizes, options.memory_tasks, seed=0)
        for layer in slow.layers:
            layer.masks.bernoulli_()
        slow.tasks_learned = options.memory_tasks
        slow.one_shot(image)
    else:
        use_machine_loops(False)  # a compiler is no part of the guess
        net = network(options.hidden, options.outputs)
        one_shot(entropy, net, random_bank(net, options.memory_tasks), image)
    sys.stdout.write(str(memory_bytes("VmHWM") - before))


def learning_table(options: argparse.Namespace, limits: Machine) -> Table:
    """Measure a task, by the textbook and by us."""
    table = with_columns(f"{widths(options)}, a task of {textbook.BATCHES} batches and three test passes")
    slow = learn_textbook(options)
    add_row(table, "textbook", slow, slow)
    flops = textbook.BATCHES * step_flops(network(options.hidden, options.outputs))
    for precision, peak in (("float32", limits.float32_flops), ("bfloat16", limits.bfloat16_flops)):
        ours = learn_ours(options, precision)  # type: ignore[arg-type]  # a tuple's literals are plain texts to mypy
        add_row(table, f"ours, {precision}", ours, slow, f"{flops / ours.wall / peak:.0%} of {precision} products")
    processes = torch.get_num_threads()
    if processes > 1:
        apart = learn_ours_apart(options, processes)
        share = f"{flops / apart.wall / limits.float32_flops:.0%} of float32 products"
        add_row(table, f"ours, float32, {processes} tasks in processes of one thread", apart, slow, share)
    return table


def guessing_table(options: argparse.Namespace, limits: Machine) -> Table:
    """Measure guesses, by the textbook and by us in several ways."""
    table = with_columns(f"{widths(options)}, guesses among {options.tasks} tasks, float32")
    slow = guess_textbook(options)
    add_row(table, "textbook, one guess", slow, slow)
    net = network(options.hidden, options.outputs)
    bank, images = random_bank(net, options.tasks), torch.randn(GUESSES_AT_ONCE, textbook.PIXELS)
    image, some = images[:1], images[: GUESSES_AT_ONCE // 8]
    flops = 2 * len(bank) * net.num_bits
    for kernel in (False, True) if machine_code.is_installed() else (False,):
        use_machine_loops(kernel)
        name = "machine loops over packed bits" if kernel else "torch alone"
        one_shot(entropy, net, bank, image)
        one = cost(lambda: one_shot(entropy, net, bank, image), 30)
        add_row(table, f"one guess, {name}", one, slow, memory_share(bank, one, limits))
        two = cost(lambda: binary(entropy, net, bank, image), 5)
        add_row(table, f"one guess by Binary, {name}", two, slow)
        many = each_of(lambda: one_shot_each(entropy, net, bank, images), GUESSES_AT_ONCE)
        share = f"{flops / many.wall / limits.float32_flops:.0%} of float32 products"
        add_row(table, f"a guess of {GUESSES_AT_ONCE} at once, {name}", many, slow, share)
    several = each_of(lambda: binary_each(entropy, net, bank, some), len(some))
    add_row(table, f"a guess by Binary of {len(some)} at once", several, slow)
    slow_bytes, our_bytes = (peak_of(way, options) for way in ("textbook", "ours"))
    table.caption = (
        f"peak memory of a guess among {options.memory_tasks} tasks, above importing torch: "
        f"textbook {slow_bytes / 1e6:.0f} MB, ours {our_bytes / 1e6:.0f} MB = 1/{slow_bytes / our_bytes:.0f}"
    )
    return table


def memory_share(bank: MaskBank, each: Cost, limits: Machine) -> str:
    """Return what share of copying memory it is to read all masks in this time."""
    return f"{bank.context_bytes / each.wall / limits.copied_bytes:.0%} of memory"


def widths(options: argparse.Namespace) -> str:
    """Return the network's widths in words, and the threads."""
    return (
        f"{'-'.join(map(str, (textbook.PIXELS, *options.hidden, options.outputs)))}, {torch.get_num_threads()} threads"
    )


def with_columns(title: str) -> Table:
    """Return an empty table of costs."""
    table = Table(title=title)
    for column in ("what", "seconds", "CPU seconds", "times faster", "in CPU seconds", "share of the machine"):
        table.add_column(column, justify="left" if column == "what" else "right")
    return table


def add_row(table: Table, what: str, each: Cost, slow: Cost, share: str = "") -> None:
    """Add a cost and its ratio to the textbook's."""
    ratios = f"{slow.wall / each.wall:.1f}", f"{slow.cpu / each.cpu:.1f}"
    table.add_row(what, f"{each.wall:.5f}", f"{each.cpu:.5f}", *ratios, share)


TABLES = {"learning": learning_table, "guessing": guessing_table}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Ours beside the textbook, in one run on one machine.")
    parser.add_argument("--data-root", type=Path, help="full MNIST in torchvision's layout; without it, MNIST-5k")
    parser.add_argument("--hidden", type=int, nargs="+", default=[300, 100])
    parser.add_argument("--outputs", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=250, help="tasks to guess among")
    parser.add_argument("--memory-tasks", type=int, default=1000, help="tasks to compare the peak memory of a guess at")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--only", choices=tuple(TABLES), help="one of the tables; both by default")
    parser.add_argument("--memory-of", choices=("textbook", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        guess_once(options)
        return
    console, limits = Console(width=130), machine()
    console.print(
        f"this machine, {torch.get_num_threads()} threads: matrix products {limits.float32_flops / 1e9:.0f} GFLOP/s in float32, "
        f"{limits.bfloat16_flops / 1e9:.0f} in bfloat16; memory read and written {limits.copied_bytes / 1e9:.1f} GB/s"
    )
    for name, measured in TABLES.items():
        if options.only in (None, name):
            console.print(measured(options, limits))


if __name__ == "__main__":
    main()

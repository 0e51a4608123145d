"""How costs grow: guesses with the number of tasks, training with the width of the network.

    python benchmarks/growth.py [--data-root DIR] [--most-tasks 10000] [--repeats 5]

A guess is One-Shot with H over LeNet 300-100, alone and as one of 256; training is a step of 128 images, LeNet 300-100 times 1,
2 and 4. Behind each cost stands what it is per task, or per weight: a straight line through the origin keeps that constant.
"""

import argparse
from pathlib import Path

import torch
from measuring import Cost, cost, digits, forget_peak, memory_bytes, network, random_bank
from rich.console import Console
from rich.table import Table
from supsup_core import MaskBank, entropy, one_shot, one_shot_each, packed_lookups
from supsup_datasets import PermutedStream
from supsup_methods.mask_training import MaskTraining
from supsup_methods.supsup import SupSup, SupSupSettings

HIDDEN = (300, 100)
OUTPUTS = 100
TOGETHER = 256
STEPS = 1000  # a whole task's, as fewer are not worth the machine loops


def guesses(most_tasks: int, repeats: int) -> Table:
    """Measure a guess among 1, 10, 100 ... tasks."""
    table = Table(title=f"a guess, LeNet 300-100, s = {OUTPUTS}, {torch.get_num_threads()} threads")
    for column in (
        "tasks",
        "ms, alone",
        "µs a task",
        f"ms, one of {TOGETHER}",
        "µs a task",
        "memory above the bank, MB",
    ):
        table.add_column(column, justify="right")
    net = network(HIDDEN, OUTPUTS)
    images = torch.randn(TOGETHER, 784)
    packed_lookups.compile_ahead()
    tasks = 1
    while tasks <= most_tasks:
        bank = random_bank(net, tasks)
        one_shot(entropy, net, bank, images[:1])
        one_shot_each(entropy, net, bank, images[:2])
        alone = cost(lambda bank=bank: one_shot(entropy, net, bank, images[:1]), repeats)  # type: ignore[misc]
        forget_peak()
        before = memory_bytes("VmRSS")
        many = cost(lambda bank=bank: one_shot_each(entropy, net, bank, images), max(1, repeats // 2))  # type: ignore[misc]
        peak = memory_bytes("VmHWM") - before
        each = many.wall / TOGETHER
        table.add_row(
            f"{tasks:,}",
            f"{1e3 * alone.wall:.2f}",
            f"{1e6 * alone.wall / tasks:.1f}",
            f"{1e3 * each:.3f}",
            f"{1e6 * each / tasks:.2f}",
            f"{peak / 1e6:.0f}",
        )
        tasks *= 10
    return table


def training(data_root: Path | None) -> Table:
    """Measure a step at growing widths."""
    table = Table(title=f"a training step of 128 images, s = {OUTPUTS}, {torch.get_num_threads()} threads, float32")
    for column in ("hidden layers", "weights", "ms", "ns a weight"):
        table.add_column(column, justify="right")
    stream = PermutedStream(digits(data_root), 4, seed=0)
    for width in (1, 2, 4):
        hidden = tuple(width * size for size in HIDDEN)
        net = network(hidden, OUTPUTS)
        settings = SupSupSettings(training=MaskTraining(batches=STEPS))
        method = SupSup(net, MaskBank(net), settings, num_labels=10, seed=0)
        method.learn([stream[0]], lambda: None)
        total: Cost = cost(lambda m=method: m.learn([stream[m.tasks_learned]], lambda: None), 3)  # type: ignore[misc]
        step = total.wall / STEPS
        table.add_row(
            "-".join(map(str, hidden)), f"{net.num_bits:,}", f"{1e3 * step:.2f}", f"{1e9 * step / net.num_bits:.2f}"
        )
    return table


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="How the costs of guesses and of training grow.")
    parser.add_argument("--data-root", type=Path, help="full MNIST in torchvision's layout; without it, MNIST-5k")
    parser.add_argument("--most-tasks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    console = Console(width=120)
    console.print(guesses(options.most_tasks, options.repeats))
    console.print(training(options.data_root))


if __name__ == "__main__":
    main()

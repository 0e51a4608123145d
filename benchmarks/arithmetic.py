"""What other arithmetic does to what is learned: tasks side by side, bfloat16 products.

    python benchmarks/arithmetic.py [--data-root DIR] [--tasks 5] [--batches 1000] [--at-once 5]

Trains the same tasks of PermutedMNIST (LeNet 300-100, s = 100) one at a time in float32, side by side in float32, and one at a
time with bfloat16 matrix products, all from the same initial scores and the same order of images. Prints each way's accuracy
with the task given, its spread over the tasks, and the share of mask bits in which it differs from the first.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from measuring import digits, network
from rich.console import Console
from rich.table import Table
from supsup_core import MaskBank, packed_bits
from supsup_datasets import PermutedStream, Scenario, Task
from supsup_methods.evaluation import evaluate_task
from supsup_methods.mask_training import MaskTraining
from supsup_methods.supsup import SupSup, SupSupSettings


def learned(tasks: Sequence[Task], training: MaskTraining, at_once: int) -> SupSup:
    """Return the method after all tasks, `at_once` of them in each step."""
    net = network((300, 100), 100)
    method = SupSup(net, MaskBank(net), SupSupSettings(training=training), num_labels=10, seed=0)
    for first in range(0, len(tasks), at_once):
        method.learn(tasks[first : first + at_once], lambda: None)
    return method


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What side-by-side training and bfloat16 change.")
    parser.add_argument("--data-root", type=Path, help="full MNIST in torchvision's layout; without it, MNIST-5k")
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=5)
    options = parser.parse_args()
    dataset = digits(options.data_root)
    stream = PermutedStream(dataset, options.tasks, seed=0)
    tasks = [stream[index] for index in range(options.tasks)]
    table = Table(
        title=f"{options.tasks} tasks of {dataset.name}, {options.batches} batches, {torch.get_num_threads()} threads"
    )
    for column in ("trained", "accuracy, mean and spread over tasks", "bits that differ", "seconds a task"):
        table.add_column(column, justify="right")
    float32, bfloat16 = (MaskTraining(options.batches, precision=name) for name in ("float32", "bfloat16"))
    reference = None
    for name, training, at_once in (
        ("one at a time, float32", float32, 1),
        (f"{options.at_once} side by side, float32", float32, options.at_once),
        ("one at a time, bfloat16 products", bfloat16, 1),
    ):
        start = time.perf_counter()
        method = learned(tasks, training, at_once)
        seconds = time.perf_counter() - start
        rows = method.bank.rows
        reference = rows if reference is None else reference
        differing = packed_bits.unpack(rows ^ reference, method.net.num_bits).double().mean()
        accuracies = [evaluate_task(method, task, Scenario.GG, 1000).accuracy for task in tasks]
        table.add_row(
            name,
            f"{statistics.mean(accuracies):.2%} ± {statistics.stdev(accuracies):.2%}",
            f"{differing:.3%}",
            f"{seconds / options.tasks:.2f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

"""2,500 tasks of PermutedMNIST on one accelerator: learned side by side, then told apart (Table 5's setting: LeNet, s = 500).

    PYTHONPATH=packages/core/src:packages/datasets/src:packages/methods/src \
        python benchmarks/gpu_2500_tasks.py --data-root DIR [--tasks N] [--at-once N] [--device cuda]

Needs torch, numpy, rich and the packages alone. MNIST may lie in DIR/MNIST/raw as its four gzipped files. Prints the seconds of
each part, accuracy, and peak memory. On a CPU, `--tasks 4 --at-once 2` shows that it works.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from supsup_core import FrozenNetwork, MaskBank
from supsup_datasets import PermutedStream, Scenario, mnist
from supsup_methods.backbones import fully_connected
from supsup_methods.evaluation import TaskScore, evaluate_task
from supsup_methods.supsup import SupSup, SupSupSettings


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds until the device is done."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description="Many tasks of PermutedMNIST on one accelerator.")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=2500)
    parser.add_argument("--at-once", type=int, default=100, help="tasks trained side by side")
    parser.add_argument("--outputs", type=int, default=500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds after which no further part begins")
    options = parser.parse_args()
    console, device, began = Console(width=110), torch.device(options.device), time.perf_counter()

    stream = PermutedStream(mnist(options.data_root).to(device), options.tasks, seed=0)
    with device:
        net = FrozenNetwork(fully_connected(784, (300, 100), options.outputs), seed=0)
    method = SupSup(net, MaskBank(net), SupSupSettings(), num_labels=10, seed=0)

    training = 0.0
    for first in range(0, options.tasks, options.at_once):
        group = [stream[task] for task in range(first, min(first + options.at_once, options.tasks))]
        training += seconds_of(lambda group=group: method.learn(group, lambda: None), device)  # type: ignore[misc]
        learned = method.tasks_learned
        console.print(f"{learned} tasks learned, {training:.1f} s, {learned / training:.2f} tasks/s")
        if time.perf_counter() - began > options.limit:
            break

    scores: list[TaskScore] = []
    testing = 0.0
    for task in range(method.tasks_learned):
        testing += seconds_of(
            lambda task=task: scores.append(evaluate_task(method, stream[task], Scenario.GNu, 128)),  # type: ignore[misc]
            device,
        )
        if time.perf_counter() - began > options.limit:
            break

    table = Table(title=f"{method.tasks_learned} of {options.tasks} tasks learned, {len(scores)} tested, {device}")
    for column in ("what", "figure"):
        table.add_column(column, justify="right")
    guesses, right = sum(score.guesses for score in scores), sum(score.guesses_right for score in scores)
    rows = {
        "training": f"{training:.1f} s, {method.tasks_learned / training:.2f} tasks/s",
        "testing": f"{testing:.1f} s, {1e3 * testing / guesses:.2f} ms for each of {guesses} guesses and its batch",
        "accuracy (GNu, H, one image)": f"{sum(score.accuracy for score in scores) / len(scores):.2%}",
        "tasks inferred right": f"{right} of {guesses}",
        "bytes of masks": f"{method.bank.context_bytes:,}",
    }
    if device.type == "cuda":
        rows["device"] = torch.cuda.get_device_name(device)
        rows["peak memory of the device"] = f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB"
    for what, figure in rows.items():
        table.add_row(what, figure)
    console.print(table)


if __name__ == "__main__":
    main()

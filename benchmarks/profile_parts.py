"""Where the time goes: training and guessing, by the textbook and by us, by kind of work.

    python benchmarks/profile_parts.py [--data-root DIR] [--batches 40] [--tasks 250]

Every second of torch's operators is put down to what the operator does; what is left of the wall is Python, PIL and the loader.
The profiler itself slows both, the more the smaller the operators: read the shares, and take seconds from speed.py.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import textbook
import torch
from measuring import digits, network, random_bank, use_machine_loops
from rich.console import Console
from rich.table import Table
from supsup_core import MaskBank, entropy, one_shot, one_shot_each
from supsup_datasets import PermutedStream
from supsup_methods.mask_training import MaskTraining
from supsup_methods.supsup import SupSup, SupSupSettings
from torch.profiler import ProfilerActivity, profile

KINDS: Mapping[str, tuple[str, ...]] = {
    "matrix products": ("mm", "bmm", "addmm", "addmm_", "linear", "matmul", "baddbmm"),
    "gathering images and bits": ("gather", "index", "index_select", "stack", "cat"),
    "moving and converting": (
        "copy_",
        "_to_copy",
        "contiguous",
        "clone",
        "empty",
        "zeros",
        "fill_",
        "zero_",
        "constant_pad_nd",
    ),
}
OURS = 10  # times the textbook's batches: fewer are not worth the machine loops, and the textbook takes long
LOADING = "loading and transforming image by image"
OTHER = "element by element, sums"
OUTSIDE = "outside of torch: Python, the machine loop"


def kind_of(event: str) -> str | None:
    """Return the kind of work that an event of the profiler is; None for what is no operator."""
    if event.startswith("enumerate(DataLoader)"):
        return LOADING
    if not event.startswith("aten::"):
        return None
    return next((kind for kind, names in KINDS.items() if event.removeprefix("aten::") in names), OTHER)


def parts(work: Callable[[], object], repeats: int = 1) -> dict[str, float]:
    """Return the seconds of each kind of work, of one run."""
    for _ in range(2):
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiled:  # the first warms up
            start = time.perf_counter()
            for _ in range(repeats):
                work()
            wall = time.perf_counter() - start
    seconds: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        kind = kind_of(event.key)
        if kind is not None:
            seconds[kind] += event.self_cpu_time_total / 1e6 / repeats
    seconds[OUTSIDE] = max(0.0, wall / repeats - sum(seconds.values()))
    return dict(seconds)


def table(title: str, columns: Mapping[str, dict[str, float]]) -> Table:
    """Return the shares of each kind as a table."""
    result = Table(title=f"{title}, {torch.get_num_threads()} threads")
    result.add_column("work")
    for name in columns:
        result.add_column(name, justify="right")
    for kind in (LOADING, *KINDS, OTHER, OUTSIDE):
        cells = [(each.get(kind, 0.0), sum(each.values())) for each in columns.values()]
        result.add_row(kind, *(f"{1e3 * part:.1f} ms  {part / whole:4.0%}" for part, whole in cells))
    return result


def main() -> None:
    """Print a table for training and one for guesses."""
    parser = argparse.ArgumentParser(description="Where the time goes, before and after.")
    parser.add_argument("--data-root", type=Path, help="full MNIST in torchvision's layout; without it, MNIST-5k")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=250)
    options = parser.parse_args()
    sizes = (textbook.PIXELS, 300, 100, 100)

    slow = textbook.TextbookSupSup(sizes, num_tasks=options.tasks, seed=0)
    textbook.warm_up(slow)
    loader = textbook.permuted_loader(
        textbook.digits(options.data_root, train=True), torch.randperm(textbook.PIXELS), train=True
    )
    net = network((300, 100), 100)
    training = SupSupSettings(training=MaskTraining(batches=OURS * options.batches))
    method = SupSup(net, MaskBank(net), training, num_labels=10, seed=0)
    stream = PermutedStream(digits(options.data_root), 2, seed=0)
    console = Console(width=130)
    learning = {
        "textbook": parts(lambda: slow.learn(0, loader, options.batches)),
        "ours": parts(lambda: method.learn([stream[method.tasks_learned]], lambda: None)),
    }
    console.print(table(f"training, {options.batches} batches, and {OURS} times as many by us", learning))

    slow.use_random_masks()
    bank, images = random_bank(net, options.tasks), torch.randn(512, textbook.PIXELS)
    guessing = {"textbook, one guess": parts(lambda: slow.one_shot(images[:1]))}
    for loops, name in ((False, "torch alone"), (True, "machine loops")):
        use_machine_loops(loops)
        guessing[f"one guess, {name}"] = parts(lambda: one_shot(entropy, net, bank, images[:1]), 20)
        guessing[f"512 guesses, {name}"] = parts(lambda: one_shot_each(entropy, net, bank, images))
    console.print(table(f"guesses among {options.tasks} tasks", guessing))


if __name__ == "__main__":
    main()

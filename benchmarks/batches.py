"""Batches of permuted tasks per second, ours beside torchvision's, and the memory of a long stream.

    python benchmarks/batches.py [--data-root DIR] [--seconds S] [--threads N]

The textbook way is torchvision's MNIST with ToTensor, Normalize and a permutation as transforms, behind a DataLoader with as
many workers as are best here. Both read the same files in one run, and the script checks that both give the same bits.
"""

import argparse
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from supsup_datasets import ImageDataset, ImagesInMemory, PermutedStream, Task, embedded_mnist, mnist, side_by_side
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Lambda, Normalize, ToTensor

BATCH_SIZE, TASKS, SIDE_BY_SIDE = 128, 2500, 64
MEAN, STD = 0.1307, 0.3081


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, help="a folder with MNIST/raw; without it the embedded 5,000 digits")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each way is measured")
    parser.add_argument(
        "--threads", type=int, help="torch's threads; on a busy machine one is fastest, default torch's own"
    )
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    dataset = embedded_mnist() if options.data_root is None else mnist(options.data_root)
    stream, stream_bytes = measured_bytes(lambda: PermutedStream(dataset, TASKS, seed=0))
    with tempfile.TemporaryDirectory() as folder:
        write_files(dataset, Path(folder))
        check_same_bits(stream[0], Path(folder))
        textbook = {
            f"torchvision, {workers} workers": rate(
                partial(batches_for_ever, stream[0], folder, workers), options.seconds
            )
            for workers in (0, 1, 2)
        }
    one = rate(lambda: stream[0].train.shuffled(BATCH_SIZE, 10**9, generator(0)), options.seconds)
    group = side_by_side([stream[index].train for index in range(SIDE_BY_SIDE)])
    many = SIDE_BY_SIDE * rate(
        lambda: group.shuffled(BATCH_SIZE, 10**9, [generator(index) for index in range(SIDE_BY_SIDE)]), options.seconds
    )
    ours = {"ours, one task": one, f"ours, {SIDE_BY_SIDE} tasks side by side": many}
    report(dataset, textbook, ours)
    base = sum(part.images.numel() + 8 * len(part) for part in (dataset.train, dataset.test))
    Console().print(
        f"a stream of {TASKS} tasks takes {stream_bytes / 1e3:.0f} kB of memory beside its {base / 1e6:.1f} MB of base data"
    )


def report(dataset: ImageDataset, textbook: dict[str, float], ours: dict[str, float]) -> None:
    """Print batches of one task per second and what they are times the best of the textbook."""
    best = max(textbook.values())
    table = Table(title=f"{dataset.name}, batches of {BATCH_SIZE}, {torch.get_num_threads()} threads")
    for column in ("way", "batches per second", "times torchvision's best"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, batches_per_second in {**textbook, **ours}.items():
        table.add_row(way, f"{batches_per_second:,.0f}", f"{batches_per_second / best:.1f}")
    Console().print(table)


def permuted_pixels(task: Task) -> torch.Tensor:
    """Return the order of pixels of a permuted task."""
    view = task.train
    if not isinstance(view, ImagesInMemory) or view.source_pixels is None:
        raise TypeError(f"{type(view).__name__}: not a task of permuted pixels in memory")
    return view.source_pixels


def loader(task: Task, folder: str | Path, workers: int, *, shuffle: bool = True) -> DataLoader[Any]:
    """Return the textbook's batches of a task."""
    order = permuted_pixels(task)
    transform = Compose([ToTensor(), Normalize((MEAN,), (STD,)), Lambda(lambda x: x.view(-1)[order].view(1, 28, 28))])
    data = MNIST(folder, train=True, transform=transform)
    return DataLoader(data, BATCH_SIZE, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)


def batches_for_ever(task: Task, folder: str | Path, workers: int) -> Iterator[Any]:
    """Go through a loader again and again."""
    return chain.from_iterable(repeat(loader(task, folder, workers)))


def rate(start: Callable[[], Iterator[Any]], seconds: float) -> float:
    """Return batches per second, after a second at most of warming up in which workers start."""
    batches = start()
    for length in (min(1.0, seconds), seconds):
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < length:
            next(batches)
            count += 1
        per_second = count / (time.perf_counter() - begin)
    return per_second


def check_same_bits(task: Task, folder: Path) -> None:
    """Stop unless the textbook's first batch is ours."""
    images, labels = next(iter(loader(task, folder, workers=0, shuffle=False)))
    batch = next(task.train.in_order(BATCH_SIZE))
    if not (torch.equal(images, batch.images) and torch.equal(labels, batch.labels)):
        raise SystemExit("torchvision's batch and ours differ: what follows would compare two things")


def write_files(dataset: ImageDataset, folder: Path) -> None:
    """Write a data set in torchvision's layout, so that both ways read the same digits, embedded or gzipped as they may be."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, part in (("train", dataset.train), ("t10k", dataset.test)):
        for kind, array in (("images-idx3", part.images[:, 0]), ("labels-idx1", part.labels.to(torch.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(header + np.ascontiguousarray(array.numpy()).tobytes())


def measured_bytes(make: Callable[[], PermutedStream]) -> tuple[PermutedStream, int]:
    """Return what `make` makes and by how much this process's resident memory grew (0 where /proc does not tell)."""
    before = resident_bytes()
    made = make()
    return made, resident_bytes() - before


def resident_bytes() -> int:
    """Return this process's resident memory."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def generator(seed: int) -> torch.Generator:
    """Return a generator of its own for a task."""
    return torch.Generator().manual_seed(seed)


if __name__ == "__main__":
    main()

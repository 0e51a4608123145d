"""What masks take on disk beside the bound that their densities set, and what storing a task costs.

    python benchmarks/storage.py [--tasks N]

Prints the bytes of entropy-coded masks over their order-0 bound with the speed of coding, in bytes of packed bits; seconds
and memory of `append` early and late; and the seconds in which a saved bank opens.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from supsup_core import FrozenNetwork, MaskBank
from supsup_core.bit_vectors import entropy_bits
from supsup_core.mask_codec import MaskCodec
from supsup_core.packed_bits import pack
from torch import nn

DENSITIES = (0.0014, 0.01, 0.05, 0.2, 0.5)
# The CIFAR ResNet-18 with 20 base channels: what SplitCIFAR100's sparse masks cover (Section 4.1).
RESNET = [
    (20, 3, 3, 3),
    *[(20, 20, 3, 3)] * 4,
    *[(40, 20, 3, 3), (40, 40, 3, 3), (40, 20, 1, 1), *[(40, 40, 3, 3)] * 2],
    *[(80, 40, 3, 3), (80, 80, 3, 3), (80, 40, 1, 1), *[(80, 80, 3, 3)] * 2],
    *[(160, 80, 3, 3), (160, 160, 3, 3), (160, 80, 1, 1), *[(160, 160, 3, 3)] * 2],
    (5, 160, 1, 1),
]


def timed(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median seconds of some runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def codec_table(tasks: int) -> Table:
    """Code random masks with fixed numbers of ones, as budgets make them."""
    table = Table(title=f"{tasks} masks of {sum(map(np.prod, RESNET)):,} weights, entropy-coded")
    for column in ("density", "bytes", "order-0 bound", "over the bound", "packed bits", "encode MB/s", "decode MB/s"):
        table.add_column(column, justify="right")
    generator = np.random.default_rng(0)
    for density in DENSITIES:
        ones = [max(1, round(density * np.prod(shape))) for shape in RESNET]
        rows = np.stack([_row(ones, generator) for _ in range(tasks)])
        codec = MaskCodec.fitted(rows, RESNET)
        streams = [codec.encode(row) for row in rows]
        encode = timed(partial(_each, codec.encode, rows))
        decode = timed(partial(_each, codec.decode, streams))
        size = sum(map(len, streams)) + len(codec.common_stream or b"")
        bound = tasks * sum(entropy_bits(k, int(np.prod(shape))) for k, shape in zip(ones, RESNET, strict=True)) / 8
        table.add_row(
            f"{density}",
            f"{size:,}",
            f"{bound:,.0f}",
            f"{size / bound - 1:.2%}",
            f"{rows.nbytes:,}",
            f"{rows.nbytes / encode / 1e6:.0f}",
            f"{rows.nbytes / decode / 1e6:.0f}",
        )
    return table


def _each(work: Callable[[Any], object], items: Iterable[Any]) -> None:
    for item in items:
        work(item)


def _row(ones: list[int], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    layers = []
    for k, shape in zip(ones, RESNET, strict=True):
        bits = np.zeros(int(np.prod(shape)), dtype=np.bool_)
        bits[generator.permutation(len(bits))[:k]] = True
        layers.append(torch.from_numpy(bits))
    return pack(torch.cat(layers)).numpy()


def bank_table(tasks: int) -> Table:
    """Append to a bank of LeNet masks early and late, save it, and open it."""
    lenet = nn.Sequential(
        nn.Linear(784, 300, bias=False), nn.Linear(300, 100, bias=False), nn.Linear(100, 100, bias=False)
    )
    net = FrozenNetwork(lenet, seed=0)
    bank = MaskBank(net)
    masks = {entry.name: torch.rand(entry.shape) < 0.5 for entry in net.maskable}
    table = Table(title=f"a bank of LeNet 300-100 masks, {bank.row_bytes:,} bytes each")
    for column in ("what", "tasks", "ms", "peak memory grows by"):
        table.add_column(column, justify="right")

    def measure(what: str, work: Callable[[], object], repeats: int = 1) -> None:
        before, at = peak_bytes(), len(bank)
        table.add_row(what, f"{at:,}", f"{1e3 * timed(work, repeats):.2f}", f"{peak_bytes() - before:,} bytes")

    for at in (10, tasks):
        while len(bank) < at:
            bank.append_rows(torch.randint(0, 256, (min(500, at - len(bank)), bank.row_bytes), dtype=torch.uint8))
        bank.append(masks)
        measure("append one task", lambda: bank.append(masks), repeats=20)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank"
        measure("save all", lambda: bank.save(path))
        bank.append(masks)
        measure("save one task more", lambda: bank.save(path))
        measure("open, memory-mapped", lambda: MaskBank.open(path, net))
        opened = MaskBank.open(path, net)
        uniform = torch.full((len(opened),), 1 / len(opened))
        measure("blend all, first time", lambda: opened.blend(uniform))
        measure("blend all, again", lambda: opened.blend(uniform), repeats=5)
        measure("slopes, first time: checksums", lambda: opened.slopes(dict(net.frozen)))
        measure("slopes, again", lambda: opened.slopes(dict(net.frozen)))
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What masks take on disk, and what storing a task costs.")
    parser.add_argument("--tasks", type=int, default=10_000, help="size of the large bank")
    tasks = parser.parse_args().tasks
    console = Console(width=130)
    console.print(bank_table(tasks))
    console.print(codec_table(20))


if __name__ == "__main__":
    main()

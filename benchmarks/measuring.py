"""What the benchmarks share: a clock, the machine's own limits, networks and banks to measure on."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from supsup_core import FrozenNetwork, MaskBank, packed_kernels, packed_lookups
from supsup_datasets import ImageDataset, embedded_mnist, mnist
from supsup_methods.backbones import fully_connected

PIXELS = 28 * 28
_SUITS: dict[Any, Any] = {module: module.suits for module in (packed_kernels, packed_lookups)}


@dataclass(frozen=True)
class Cost:
    """Seconds on the wall and of all processor time."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Machine:
    """What the machine reaches at its best, with the threads that torch has now."""

    float32_flops: float
    """Operations a second of a float32 matrix product, 2048 x 2048 x 2048."""
    bfloat16_flops: float
    """The same in bfloat16."""
    copied_bytes: float
    """Bytes a second read and written by a copy of 256 MiB."""


def cost(work: Callable[[], object], repeats: int = 1) -> Cost:
    """Return what a piece of work takes, the median of some runs."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Cost(statistics.median(walls), statistics.median(cpus))


def machine() -> Machine:
    """Measure matrix products and memory."""
    source, target = torch.randn(2**26), torch.empty(2**26)
    seconds = min(cost(lambda: target.copy_(source)).wall for _ in range(5))
    return Machine(product_flops(torch.float32), product_flops(torch.bfloat16), 2 * source.nbytes / seconds)


def product_flops(dtype: torch.dtype) -> float:
    """Return the operations a second of a large matrix product, the best of some; of one where that takes seconds."""
    left, right = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    first = cost(lambda: left @ right).wall  # some processors take bfloat16 apart number by number
    others = [cost(lambda: left @ right).wall for _ in range(0 if first > 1 else 4)]
    return 2 * 2048**3 / min([first, *others])


def digits(data_root: Path | None) -> ImageDataset:
    """Return MNIST from its folder, or MNIST-5k where none is given."""
    return embedded_mnist() if data_root is None else mnist(data_root)


def network(hidden: Sequence[int], outputs: int) -> FrozenNetwork:
    """Return our network of these widths."""
    return FrozenNetwork(fully_connected(PIXELS, tuple(hidden), outputs), seed=0)


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


def use_machine_loops(used: bool) -> None:
    """Let guesses go through machine loops where they suit, or never."""
    for module, suits in _SUITS.items():
        module.suits = suits if used else lambda *_: False


def memory_bytes(what: str) -> int:
    """Return what Linux says of this process: VmRSS, the memory that it holds, or VmHWM, the most that it has held."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{what}:"))
    return 1024 * int(line.split()[1])


def forget_peak() -> None:
    """Let the peak, VmHWM, begin anew."""
    Path("/proc/self/clear_refs").write_text("5")

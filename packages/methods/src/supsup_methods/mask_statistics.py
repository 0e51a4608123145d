"""What masks have in common, and how dense they are: counted on packed bits, a few masks unpacked at a time.

With the sizes |A| and |B| of two masks of n bits, and |A ∩ B| of what both let through, the share of equal bits is
1 - (|A| + |B| - 2 |A ∩ B|) / n, and intersection over union |A ∩ B| / (|A| + |B| - |A ∩ B|). Masks that have nothing to do with
each other, of densities p and q, agree in p q + (1 - p)(1 - q) of their bits: half of them where p = ½.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64, UInt8
from supsup_core import FrozenNetwork, MaskBank
from supsup_core.packed_bits import unpack, unpack_to
from torch import Tensor

from supsup_methods.errors import UsageError

_MASKS_AT_ONCE = 256
_CHUNK_FLOATS = 2**21  # unpacked to floats, chunks should stay near the processor's cache


@dataclass(frozen=True)
class MaskStatistics:
    """What is counted of some masks.

    Attributes:
        tasks: whose masks they are, by index.
        layers: names, in the order of `FrozenNetwork.maskable`.
        weights: of each layer.
        ones: of each mask in each layer.
        common: ones that two masks have in common, for each pair; those of a mask itself on the diagonal.
    """

    tasks: tuple[int, ...]
    layers: tuple[str, ...]
    weights: tuple[int, ...]
    ones: Int64[Tensor, "tasks layers"]
    common: Int64[Tensor, "tasks tasks"]

    @property
    def density(self) -> Float64[Tensor, "tasks layers"]:
        """Share of ones of each mask in each layer."""
        return self.ones.double() / torch.tensor(self.weights, dtype=torch.float64)

    @property
    def equal(self) -> Float64[Tensor, "tasks tasks"]:
        """Share of bits in which two masks are equal."""
        sizes = self.common.diagonal()
        differing = sizes.unsqueeze(0) + sizes.unsqueeze(1) - 2 * self.common
        return 1 - differing.double() / sum(self.weights)

    @property
    def intersection_over_union(self) -> Float64[Tensor, "tasks tasks"]:
        """Of the weights that one of two masks has, the share that both have; 1 where neither has any."""
        sizes = self.common.diagonal()
        union = sizes.unsqueeze(0) + sizes.unsqueeze(1) - self.common
        return torch.where(union == 0, 1.0, self.common.double() / union.clamp_min(1))


def mask_statistics(net: FrozenNetwork, bank: MaskBank, tasks: Sequence[int]) -> MaskStatistics:
    """Count the ones of some masks, by layer, and those that they have in common.

    The counts are on the CPU. A hundred masks of LeNet 300-100 take a fifth of a second, all of 2,500 half a minute.

    Args:
        net: the network.
        bank: its masks.
        tasks: which of them, each once.

    Raises:
        UsageError: there is no such task, or none is named.
        CorruptBank: a mask is not as it was written.
    """
    unknown = [task for task in tasks if not 0 <= task < len(bank)]
    if unknown or not tasks:
        known = f"the bank holds tasks 0 to {len(bank) - 1}" if len(bank) else "the bank holds no task"
        raise UsageError(f"tasks {', '.join(map(str, unknown)) or 'none'}: {known}; choose some of them")
    rows = _rows_of(bank, tasks)
    sizes = tuple(entry.size for entry in net.maskable)
    names = tuple(entry.name for entry in net.maskable)
    return MaskStatistics(tuple(tasks), names, sizes, ones_by_layer(rows, sizes), common_ones(rows))


def evenly_chosen(first: int, last: int, most: int) -> tuple[int, ...]:
    """Return all tasks from `first` to `last`, or `most` of them at even distances, the two ends among them.

    Raises:
        UsageError: the last is before the first, or fewer than two may be chosen.
    """
    if last < first or most < 2:
        raise UsageError(f"tasks {first} to {last}, at most {most}: name them upwards, and choose two or more")
    number = last - first + 1
    if number <= most:
        return tuple(range(first, last + 1))
    return tuple(first + round(place * (number - 1) / (most - 1)) for place in range(most))


def common_ones(rows: UInt8[Tensor, "tasks bytes"]) -> Int64[Tensor, "tasks tasks"]:
    """Return in how many bits two rows are both one, for each pair: M Mᵀ of their bits, some columns at a time."""
    tasks = len(rows)
    common = torch.zeros((tasks, tasks), dtype=torch.int64, device=rows.device)
    bytes_at_once = max(8, _CHUNK_FLOATS // (8 * max(1, tasks)) // 8 * 8)
    for columns in rows.split(bytes_at_once, dim=1):
        bits = unpack_to(columns, 8 * columns.shape[1], torch.float32)
        for first in range(0, tasks, _MASKS_AT_ONCE):  # of a symmetric matrix, the upper half
            some = bits[first : first + _MASKS_AT_ONCE]
            common[first : first + _MASKS_AT_ONCE, first:] += (some @ bits[first:].T).long()
    upper = common.triu()
    return (upper + upper.triu(1).T).cpu()


def ones_by_layer(rows: UInt8[Tensor, "tasks bytes"], sizes: Sequence[int]) -> Int64[Tensor, "tasks layers"]:
    """Return how many ones each row has in each of consecutive parts of so many bits."""
    every = torch.arange(256, dtype=torch.uint8, device=rows.device)
    ones_of_byte = unpack(every.unsqueeze(-1), 8).sum(dim=1, dtype=torch.uint8)
    counts = torch.zeros((len(rows), len(sizes)), dtype=torch.int64, device=rows.device)
    for first in range(0, len(rows), _MASKS_AT_ONCE):
        some, start = rows[first : first + _MASKS_AT_ONCE], 0
        for layer, size in enumerate(sizes):
            part = _bits_between(some, start, start + size)
            ones = ones_of_byte.index_select(0, part.flatten().int()).view(part.shape)
            counts[first : first + len(some), layer] = ones.sum(dim=1, dtype=torch.int64)
            start += size
    return counts.cpu()


def _bits_between(rows: UInt8[Tensor, "tasks bytes"], start: int, stop: int) -> UInt8[Tensor, "tasks some"]:
    """Return the bytes that hold bits `start` to `stop` - 1, a copy in which all other bits are 0."""
    part = rows[:, start // 8 : -(-stop // 8)].clone()
    if part.shape[1]:
        part[:, 0] &= 0xFF & (0xFF << start % 8)
        part[:, -1] &= 0xFF >> (-stop % 8)
    return part


def _rows_of(bank: MaskBank, tasks: Sequence[int]) -> UInt8[Tensor, "tasks bytes"]:
    """Return the packed masks of some tasks, in their order, without a copy of all others."""
    places = {task: place for place, task in enumerate(tasks)}
    rows, first = torch.empty((len(tasks), bank.row_bytes), dtype=torch.uint8), 0
    for block in bank.blocks(_MASKS_AT_ONCE):
        for task in range(first, first + len(block)):
            if task in places:
                rows[places[task]] = block[task - first]
        first += len(block)
    return rows

"""What stores of contexts share: rows of numbers that grow by tasks, and the running statistics of each task."""

import math
import operator
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple, SupportsIndex

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from supsup_core.bank_manifest import BUFFER_DTYPES
from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork, TaskBuffer
from supsup_core.inference_mode import outside_inference_mode
from supsup_core.packed_bits import row_bytes, unpack

_FIRST_ROWS = 64
_SMALLEST_BLOCK_BYTES = 4 * 2**20  # or the first rows, where these take less
_LARGEST_BLOCK_BYTES = 256 * 2**20
_SMALL_PIECE_BYTES = 2**20


class Blocks(NamedTuple):
    """Where rows lie: in blocks that are closed, and in the first so many rows of the open one."""

    closed: list[Tensor]
    open: Tensor
    filled: int


class TaskRows:
    """A matrix with one row a task, in blocks that never move: adding a row copies that row and no other.

    Blocks grow with the matrix, from 64 rows, or 4 MiB, to 256 MiB. `adopt` takes a matrix as it lies, a memory-mapped file for
    example. Removing a row takes its block apart; pieces below 1 MiB are copied together, so that there are never many.
    """

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.width = width
        self.dtype = dtype
        self.device = device
        self._closed: list[Tensor] = []
        self._starts = [0]  # the first row of each closed block, and of the open one
        self._open = torch.empty((0, width), dtype=dtype, device=device)
        self._filled = 0  # rows of the open block that are in use

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._starts[-1] + self._filled

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self.width * self.dtype.itemsize

    @property
    def blocks(self) -> tuple[Shaped[Tensor, "some width"], ...]:
        """The rows in order, as views; none is empty."""
        return (*self._closed, *([self._open[: self._filled]] if self._filled else []))

    @property
    def rows(self) -> Shaped[Tensor, "tasks width"]:
        """All rows as one matrix: a view where there is one block, else a copy."""
        return self.between(0, len(self))

    def between(self, first: int, last: int) -> Shaped[Tensor, "some width"]:
        """Return rows `first` to `last` - 1: a view where they lie in one block, else a copy."""
        parts, start = [], 0
        for block in self.blocks:
            part = block[max(0, first - start) : max(0, last - start)]
            start += len(block)
            if len(part):
                parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat([self._open[:0], *parts])

    def append(self, rows: Shaped[Tensor, "new width"]) -> None:
        """Add rows behind the last, in the matrix's dtype and device."""
        while len(rows):
            if self._filled == len(self._open):
                self._open_next()
            part = rows[: len(self._open) - self._filled]
            self._open[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rows = rows[len(part) :]

    def adopt(self, rows: Shaped[Tensor, "new width"]) -> None:
        """Add rows behind the last without copying them."""
        self._close()
        if len(rows):
            self._set_closed([*self._closed, rows])

    def __getitem__(self, task: int) -> Shaped[Tensor, " width"]:
        """Return a row; a view."""
        block, offset = self._place(task)
        return block[offset]

    def __setitem__(self, task: int, row: Shaped[Tensor, " width"]) -> None:
        """Set a row."""
        block, offset = self._place(task)
        block[offset] = row

    def keep(self, first: int) -> None:
        """Drop all rows behind the first so many."""
        while len(self) > first:
            self.remove(len(self) - 1)

    def remove(self, task: int) -> None:
        """Drop a row; those behind it move up by one in number."""
        self.set_blocks(self.without(task))

    @outside_inference_mode
    def without(self, task: int) -> Blocks:
        """Return what `set_blocks` takes to drop a row; nothing changes yet."""
        block, offset = self._place(task)
        place = bisect_right(self._starts, task) - 1
        in_open = place == len(self._closed)
        if in_open and offset == self._filled - 1:
            return Blocks(self._closed, self._open, self._filled - 1)
        first, last = max(0, place - 1), place + 2  # with its neighbours: one may be a small piece too
        before = [*self._closed[first:place], block[:offset]]
        if in_open:  # what is behind the row stays open, with its room for more
            closed = [*self._closed[:first], *_pieces_joined(before)]
            return Blocks(closed, block[offset + 1 :], self._filled - offset - 1)
        around = [*before, block[offset + 1 :], *self._closed[place + 1 : last]]
        return Blocks([*self._closed[:first], *_pieces_joined(around), *self._closed[last:]], self._open, self._filled)

    def set_blocks(self, blocks: Blocks) -> None:
        """Have the rows of these blocks, as `without` returned them."""
        self._set_closed(blocks.closed)
        self._open, self._filled = blocks.open, blocks.filled

    @outside_inference_mode
    def _open_next(self) -> None:
        """Close the open block and open an empty one."""
        row_bytes = max(1, self.width * self.dtype.itemsize)
        first_bytes = min(_FIRST_ROWS * row_bytes, _SMALLEST_BLOCK_BYTES)
        wanted_bytes = min(max(first_bytes, self.bytes), _LARGEST_BLOCK_BYTES)
        self._close()
        rows = max(1, wanted_bytes // row_bytes)
        self._open = self._open.new_empty((rows, self.width))

    def _close(self) -> None:
        """End the open block where it is filled to."""
        self._set_closed(list(self.blocks))
        self._open, self._filled = self._open[:0], 0

    def _set_closed(self, blocks: list[Tensor]) -> None:
        self._closed, self._starts = blocks, [0, *accumulate(len(block) for block in blocks)]

    def _place(self, task: int) -> tuple[Shaped[Tensor, "some width"], int]:
        """Return the block that holds a task, and the row in it."""
        block = bisect_right(self._starts, task) - 1
        return self._open if block == len(self._closed) else self._closed[block], task - self._starts[block]


def _pieces_joined(blocks: Iterable[Shaped[Tensor, "_ width"]]) -> list[Shaped[Tensor, "_ width"]]:
    """Return blocks in order, small ones that follow each other copied into one, and none empty."""
    joined: list[Tensor] = []
    for block in blocks:
        if joined and max(joined[-1].nbytes, block.nbytes) < _SMALL_PIECE_BYTES:
            joined[-1] = torch.cat([joined[-1], block])
        elif len(block):
            joined.append(block)
    return joined


class TaskStatistics:
    """The running statistics of each task (`FrozenNetwork.task_buffers`), rounded to a dtype as they come in."""

    def __init__(self, net: FrozenNetwork, dtype: torch.dtype) -> None:
        if dtype not in BUFFER_DTYPES:
            known = ", ".join(f"torch.{name}" for name in BUFFER_DTYPES.values())
            raise InvalidArgument(f"buffer_dtype={dtype}: running statistics are kept as {known}; pass one of these")
        self._entries = net.task_buffers
        self._dtypes = {name: buffer.dtype for name, buffer in net.module.named_buffers()}
        self.table = TaskRows(sum(entry.size for entry in self._entries), dtype, net.device)

    def flatten(self, buffers: Mapping[str, Tensor]) -> Float[Tensor, " values"]:
        """Return one task's statistics as a row, rounded.

        Raises:
            InvalidArgument: a statistic is missing, has another shape or is not finite when rounded, or a name is unknown.
        """
        unknown = set(buffers) - {entry.name for entry in self._entries}
        if unknown:
            raise InvalidArgument(f"buffers: {sorted(unknown)} are no running statistics of this network")
        for entry in self._entries:
            value = buffers.get(entry.name)
            if value is None:
                raise InvalidArgument(f"buffers: none for {entry.name!r}; each task has its own running statistics")
            if tuple(value.shape) != entry.shape:
                raise InvalidArgument(f"buffers[{entry.name!r}]: shape {tuple(value.shape)}; pass one of {entry.shape}")
        flat = [buffers[entry.name].detach().flatten() for entry in self._entries]
        return self._rounded(torch.cat(flat) if flat else torch.empty(0))

    def checked(self, buffers: Tensor | None, tasks: int) -> Float[Tensor, "new values"]:
        """Return statistics that come as rows, rounded; None for a network without any.

        Raises:
            InvalidArgument: the shape is not (tasks, values), or a statistic is not finite when rounded.
        """
        expected = (tasks, self.table.width)
        rows = torch.empty(tasks, 0) if buffers is None else buffers
        if tuple(rows.shape) != expected:
            raise InvalidArgument(
                f"buffers: shape {tuple(rows.shape)}; {tasks} tasks of this network have shape {expected}"
            )
        return self._rounded(rows)

    def named(self, task: int) -> dict[str, Tensor]:
        """Return a copy of one task's statistics by name, in the module's dtypes: training on them changes nothing here.

        Raises:
            InvalidArgument: a statistic is beyond what its dtype holds.
        """
        parts = self.table[task].clone().split([entry.size for entry in self._entries])
        return {entry.name: self._as_in_module(entry, part) for entry, part in zip(self._entries, parts, strict=True)}

    def _as_in_module(self, entry: TaskBuffer, values: Float[Tensor, " values"]) -> Tensor:
        dtype = self._dtypes[entry.name]
        if torch.finfo(dtype).max < torch.finfo(values.dtype).max and bool(
            (values.abs() > torch.finfo(dtype).max).any()
        ):
            raise InvalidArgument(
                f"buffers[{entry.name!r}]: {float(values.abs().max()):.6g}, and the network's {dtype} holds numbers up to "
                f"{torch.finfo(dtype).max:.6g}; keep normalisation layers in torch.float32"
            )
        return values.to(dtype).view(entry.shape)

    def _rounded(self, values: Float[Tensor, "*rows values"]) -> Float[Tensor, "*rows values"]:
        rounded = values.to(self.table.device, self.table.dtype)
        lost = (~torch.isfinite(rounded)).nonzero()
        if len(lost):
            place, ends = tuple(lost[0].tolist()), list(accumulate(entry.size for entry in self._entries))
            name = self._entries[bisect_right(ends, place[-1])].name
            value, dtype, most = float(values[place]), self.table.dtype, torch.finfo(self.table.dtype).max
            if math.isfinite(value):
                raise InvalidArgument(
                    f"buffers[{name!r}]: {value:.6g}, and {dtype} holds numbers up to {most:.6g}; keep running statistics in "
                    "torch.float32"
                )
            raise InvalidArgument(
                f"buffers[{name!r}]: {value}, where a running statistic is a finite number; train with a lower learning rate"
            )
        return rounded


def flatten_masks(net: FrozenNetwork, masks: Mapping[str, Tensor]) -> Bool[Tensor, " bits"]:
    """Return a mask for each maskable parameter as one row of bits.

    Raises:
        InvalidArgument: a parameter has no mask, or one of another shape or dtype, or a name is unknown.
    """
    known = [entry.name for entry in net.maskable]
    unknown = set(masks) - set(known)
    if unknown:
        raise InvalidArgument(f"masks: {sorted(unknown)} are not maskable; known: {', '.join(known)}")
    for entry in net.maskable:
        mask = masks.get(entry.name)
        if mask is None:
            raise InvalidArgument(f"masks: none for {entry.name!r}; a task needs one for every maskable parameter")
        if mask.dtype != torch.bool or tuple(mask.shape) != entry.shape:
            raise InvalidArgument(
                f"masks[{entry.name!r}]: {mask.dtype} of shape {tuple(mask.shape)}; pass torch.bool of shape {entry.shape}"
            )
    return net.flatten(masks)


def refuse_other_rows(net: FrozenNetwork, rows: Tensor) -> None:
    """Check that a tensor holds packed masks of a network, one row a task.

    Raises:
        InvalidArgument: the rows have another length or dtype, or bits set in the padding.
    """
    width = row_bytes(net.num_bits)
    if rows.dtype != torch.uint8 or rows.ndim != 2 or rows.shape[1] != width:
        raise InvalidArgument(
            f"rows: {rows.dtype} of shape {tuple(rows.shape)}; this network's masks are uint8 rows of {width} bytes, as "
            "packed_bits.pack makes them"
        )
    last_word, bits_before = rows[:, -8:], 8 * (width - 8)
    if bool(unpack(last_word, 64)[:, net.num_bits - bits_before :].any()):
        raise InvalidArgument(
            f"rows: bits set beyond the network's {net.num_bits} maskable weights; pack masks of this network"
        )


def known_task(task: SupportsIndex, tasks: int) -> int:
    """Return the number of a task, which may come as a tensor or NumPy's integer.

    Raises:
        InvalidArgument: it is no whole number, or there is no such task.
    """
    try:
        number = operator.index(task)
    except TypeError:
        raise InvalidArgument(f"task={task!r}: a task is called by a whole number; pass one") from None
    if not 0 <= number < tasks:
        raise InvalidArgument(f"task={number}: the bank holds tasks 0 to {tasks - 1}; append it first")
    return number


def refuse_other_beliefs(beliefs: Tensor, tasks: int) -> None:
    """Check that there is one belief for each task, as a floating-point number, and a task.

    Raises:
        InvalidArgument: it is not so.
    """
    if beliefs.shape[-1:] != (tasks,):
        raise InvalidArgument(f"beliefs: shape {tuple(beliefs.shape)} for {tasks} tasks; pass one for each task")
    if tasks == 0:
        raise InvalidArgument("beliefs: the bank holds no task to blend; append at least one")
    if not beliefs.is_floating_point():
        raise InvalidArgument(f"beliefs: {beliefs.dtype}; beliefs are fractions, pass floating-point numbers")

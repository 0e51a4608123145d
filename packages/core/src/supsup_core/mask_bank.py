"""One bit per weight and task: the store of supermasks that task inference asks (Sections 3.1 and 3.3)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import SupportsIndex

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from supsup_core import packed_kernels, packed_lookups
from supsup_core.checked_tasks import CheckedTasks
from supsup_core.errors import NetworkMismatch
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.inference_mode import outside_inference_mode
from supsup_core.mask_counts import MaskCounts
from supsup_core.mask_coverage import coverage
from supsup_core.mask_slopes import by_lookups, by_matrix_products, by_rows, formed_in_parts
from supsup_core.packed_bits import pack, row_bytes, unpack, unpack_into, unpack_to
from supsup_core.shapes import Masks, OuterProducts, Weights
from supsup_core.task_names import NameTable, TaskNames
from supsup_core.task_rows import (
    TaskRows,
    TaskStatistics,
    flatten_masks,
    known_task,
    refuse_other_beliefs,
    refuse_other_rows,
)

_TASKS_AT_ONCE = 256


class MaskBank:
    """Supermasks of k tasks over one frozen network, packed to bits, and the running statistics of each task.

    A row is every maskable weight's bit in the order of `net.maskable`. Memory is `row_bytes` a task, 1/32 of float32 (and
    room for more in the last block), plus a copy of W and one running count per weight: the uniform blend costs nothing per task.

    Threads may ask one bank at once; whoever changes it must be alone.

    Args:
        net: the network that the masks belong to.
        buffer_dtype: how running statistics are kept. What `append` is given is rounded to it at once, so that a task
            answers alike before and after it was in a file; float16 halves their bytes.

    >>> import torch
    >>> net = FrozenNetwork(torch.nn.Linear(4, 3), seed=0)
    >>> bank = MaskBank(net)
    >>> bank.append({"weight": torch.ones(3, 4, dtype=torch.bool)})
    0
    >>> torch.equal(bank.weights(0)["weight"], net.frozen["weight"])
    True
    """

    @outside_inference_mode
    def __init__(self, net: FrozenNetwork, buffer_dtype: torch.dtype = torch.float32) -> None:
        self._net = net
        self._frozen = net.flatten(net.frozen)
        self._rows = TaskRows(self.row_bytes, torch.uint8, net.device)
        self._statistics = TaskStatistics(net, buffer_dtype)
        self._tasks = CheckedTasks(self._rows, self._statistics.table)
        self._names = NameTable()
        self._written: object = None  # what the last save knew of its files, so that the next need not read them
        self._counts = MaskCounts(self._tasks, net.num_bits, net.device)

    def __len__(self) -> int:
        """Return the number of tasks stored."""
        return len(self._tasks)

    @property
    def names(self) -> TaskNames:
        """What each task is called, None where it has no name; `index` finds a task, items may be set to others."""
        self._names.keep(len(self))
        return TaskNames(self._names)

    @property
    def row_bytes(self) -> int:
        """Bytes of one task's packed mask."""
        return row_bytes(self._net.num_bits)

    @property
    def context_bytes(self) -> int:
        """Bytes of all packed masks."""
        return len(self) * self.row_bytes

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all tasks' running statistics."""
        return self._statistics.table.bytes

    @property
    def rows(self) -> UInt8[Tensor, "tasks bytes"]:
        """The packed masks, one row a task: a view where they lie in one block, else a copy (`blocks` makes none)."""
        self._tasks.check(0, len(self))
        return self._rows.rows

    @property
    def buffers(self) -> Float[Tensor, "tasks values"]:
        """The running statistics, flattened in the order of `net.task_buffers`, one row a task; like `rows`."""
        self._tasks.check(0, len(self))
        return self._statistics.table.rows

    @property
    def checksums(self) -> Sequence[int]:
        """CRC-32 of each task's row and running statistics."""
        return tuple(self._tasks.checksums)

    def check(self) -> None:
        """Compare every task that came from a file with its checksum now, and not at its first use.

        Raises:
            CorruptBank: a task is not as it was written.
        """
        self._tasks.check(0, len(self))

    def blocks(self, tasks_a_block: int) -> Iterator[UInt8[Tensor, "some bytes"]]:
        """Yield the packed masks in order, in blocks of at most `tasks_a_block` tasks; views.

        Raises:
            CorruptBank: a task is not as it was written.
        """
        return self._tasks.blocks(0, tasks_a_block)

    def append(
        self, masks: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None, name: str | None = None
    ) -> int:
        """Store a new task and return its index.

        Args:
            masks: a boolean tensor for each maskable parameter.
            buffers: the running statistics of a network that has them (`net.task_buffers`), by name.
            name: what the task is called (`names`), whichever index it has when others are removed.

        Raises:
            InvalidArgument: a parameter has no mask, or one of another shape or dtype, or is unknown; the same for buffers;
                another task has the name.
        """
        row, kept = pack(flatten_masks(self._net, masks)), self._statistics.flatten(buffers or {})
        return self.append_rows(row[None], kept[None], [name])

    def append_rows(
        self, rows: Tensor, buffers: Tensor | None = None, names: Sequence[str | None] | None = None
    ) -> int:
        """Store tasks that are packed already and return the index of the first.

        Args:
            rows: uint8 of shape (new, bytes).
            buffers: running statistics of shape (new, values), for a network that has them.
            names: of each task; None where it has none.

        Raises:
            InvalidArgument: rows of another length than `row_bytes`, or with bits set in the padding; buffers of another
                shape; a name that is taken.
        """
        refuse_other_rows(self._net, rows)
        rows, kept = rows.to(self._rows.device), self._statistics.checked(buffers, len(rows))
        called = self._names.of_new(len(self), len(rows), names)
        # Tasks come last, and make all of it count: an append that is interrupted adds nothing.
        self._names.append(called)
        self._tasks.append(rows, kept)
        return len(self) - len(rows)

    def replace(
        self, task: SupportsIndex, masks: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None
    ) -> None:
        """Store another mask, and running statistics, in a task's place. Files are not written to: `save` to a new folder.

        Raises:
            InvalidArgument: there is no such task, or as `append`.
        """
        task, row = known_task(task, len(self)), pack(flatten_masks(self._net, masks)).to(self._rows.device)
        kept = self._statistics.flatten(buffers or {})
        self._written = None
        with self._counts.changing(task, row):
            self._tasks.replace(task, row, kept)

    def remove(self, task: SupportsIndex) -> None:
        """Forget a task; those behind it move up by one, as in a list. Files are not written to: `save` to a new folder.

        Raises:
            InvalidArgument: there is no such task.
        """
        task = known_task(task, len(self))
        self._names.expect_removal(task, len(self))
        self._written = None
        with self._counts.changing(task, None):
            self._tasks.remove(task)
            self._names.remove(task)

    def masks(self, task: SupportsIndex) -> Masks:
        """Return M^task by parameter name, as booleans.

        Raises:
            InvalidArgument: there is no such task.
        """
        return self._net.unflatten(unpack(self._tasks.row(known_task(task, len(self))), self._net.num_bits))

    def weights(self, task: SupportsIndex, out: Float[Tensor, " bits"] | None = None) -> Weights:
        """Return W ⊙ M^task, and the task's running statistics.

        Where `out` is given they are written there, and views of it returned: for whoever changes tasks often.

        Raises:
            InvalidArgument: there is no such task.
        """
        task = known_task(task, len(self))
        row, bits = self._tasks.row(task), self._net.num_bits
        mask = unpack_to(row, bits, self._frozen.dtype) if out is None else unpack_into(row, out)
        return self._net.unflatten(mask.mul_(self._frozen)) | self._statistics.named(task)

    def blend(self, beliefs: Float[Tensor, "*rows tasks"]) -> Weights:
        """Return W ⊙ sum_i α_i M^i: from the running counts where all α are equal, else over the tasks with α_i ≠ 0.

        Leading axes of the beliefs, one α a row, stay in front; all rows share one pass over the masks. At one-hot
        beliefs these are exactly the masked weights of that task. Running statistics are not blended: use
        `FrozenNetwork.on_batch_statistics`. A gradient of the beliefs is that of the whole sum; `belief_slopes` is faster.

        Raises:
            InvalidArgument: there is not one belief for each task, or no task, or beliefs are no floating-point numbers.
        """
        refuse_other_beliefs(beliefs, len(self))
        covered = coverage(self._tasks, self._counts, self._net.num_bits, beliefs.to(self._frozen.dtype))
        return self._net.unflatten(covered.mul_(self._frozen))

    def mean_mask(self) -> Float[Tensor, " bits"]:
        """Return the share of all tasks whose mask has each weight, in the order of `FrozenNetwork.flatten`; 0 without a task."""
        return (self._counts.all().double() / max(1, len(self))).to(self._frozen.dtype)

    def slopes(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "*rows tasks"]:
        """Return dO/dα_i = sum over weights of dO/dW(α) · W · M^i, for every task.

        Args:
            gradients: dO/dW(α) for each maskable parameter, by name; leading axes, one gradient a row, stay in front.
        """
        parts = [gradients[entry.name].flatten(-len(entry.shape)) for entry in self._net.maskable]
        per_bit = torch.cat(parts, dim=-1).mul_(self._frozen)
        slopes = by_rows(per_bit.reshape(-1, self._net.num_bits), len(self), self.blocks)
        return slopes.view(*per_bit.shape[:-1], len(self))

    def outer_slopes(self, gradients: Mapping[str, OuterProducts]) -> Float[Tensor, "images tasks"]:
        """Return the slopes of gradients g aᵀ, one for each image, as sum_l gᵀ ((W ⊙ M^i) a): no gradient is formed.

        For up to 16 images that `packed_lookups` does not suit, they are formed after all.

        Args:
            gradients: a and g of each maskable parameter, (out, in), by name.
        """
        images = len(next(iter(gradients.values()))[0])
        if packed_lookups.suits(self._frozen, images, len(self)):
            return by_lookups(self._net, len(self), self.blocks, gradients)
        if images <= packed_kernels.FEW_VECTORS:
            return torch.cat([self.slopes(formed) for formed in formed_in_parts(gradients, self._net.num_bits)])
        return by_matrix_products(self._net, self._frozen, len(self), self.blocks, gradients)

    def save(self, folder: str | os.PathLike[str], *, compact: bool = False) -> None:
        """Write the bank to a folder, or add the tasks that a folder written earlier lacks.

        Every task written by an earlier call stays readable at any moment of this one, whatever happens.

        Args:
            folder: where the bank is or will be.
            compact: entropy-code the masks: sparse masks shrink to what their densities allow, masks with as many ones as
                zeros do not; and they must be decoded when the bank is opened, where plain bits are mapped.

        Raises:
            FolderInUse: the folder holds something else, or a bank that this one does not continue.
            NetworkMismatch: the folder's bank belongs to another network.
            CorruptBank: the folder's bank is damaged.
        """
        # Here and not above: the storage libraries are needed for files only, masks and search run without them.
        from supsup_core import bank_files, bank_manifest

        header = bank_manifest.Header.of(self._net, self._statistics.table.dtype)
        content = bank_files.Content(
            header, self._rows, self._statistics.table, self._tasks.checksums, self.names[:], compact
        )
        self._written = bank_files.write(folder, content, self._written)

    @outside_inference_mode
    def to(self, net: FrozenNetwork) -> "MaskBank":
        """Return the same tasks over this bank's network on another device, or in another floating-point type.

        Args:
            net: what `FrozenNetwork.to` made of this bank's network.

        Raises:
            NetworkMismatch: it is another network, as far as seed, names and shapes tell.
        """
        ours, theirs = ((each.seed, each.maskable, each.task_buffers) for each in (self._net, net))
        if ours != theirs:
            raise NetworkMismatch("net: another network than the bank's; pass what its FrozenNetwork.to() returns")
        moved = MaskBank(net, self._statistics.table.dtype)
        for rows in self.blocks(_TASKS_AT_ONCE):
            first, last = len(moved), len(moved) + len(rows)
            moved.append_rows(rows, self._statistics.table.between(first, last), self.names[first:last])
        return moved

    @classmethod
    @outside_inference_mode
    def open(cls, folder: str | os.PathLike[str], net: FrozenNetwork) -> "MaskBank":
        """Open a bank that `save` wrote, memory-mapped where it holds plain bits.

        Each task is compared with its checksum before its first use, and a damaged one raises CorruptBank there.

        Raises:
            NetworkMismatch: the masks were learned over other frozen weights than `net`'s.
            CorruptBank: the folder is not a bank, or a file is missing, truncated or altered.
        """
        from supsup_core import bank_files, bank_manifest

        header = bank_manifest.Header.of(net, bank_manifest.read_manifest(Path(folder)).header.buffer_dtype)
        bank = cls(net, header.buffer_dtype)
        for stored in bank_files.read(folder, header):
            if stored.counts is not None:
                bank._counts.take_over(stored.counts, len(bank), len(stored.checksums))
            bank._tasks.adopt(stored)
            bank._names.adopt(stored)
        return bank

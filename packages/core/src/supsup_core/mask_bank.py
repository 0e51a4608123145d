"""One bit per weight and task: the store of supermasks that task inference asks (Sections 3.1 and 3.3)."""

import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from supsup_core.errors import InvalidArgument
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.packed_bits import checksum, pack, row_bytes, unpack, unpack_to
from supsup_core.shapes import Masks, Weights
from supsup_core.task_rows import TaskRows, TaskStatistics

# Unpacked to floats, a chunk of rows should stay near the processor's cache; never all tasks at once.
_CHUNK_FLOATS = 2**21


class MaskBank:
    """Supermasks of k tasks over one frozen network, packed to bits, and the running statistics of each task.

    A row is every maskable weight's bit in the order of `net.maskable`. Memory is `row_bytes` a task, 1/32 of float32,
    plus one running count per weight, so that the uniform blend costs nothing per task.

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

    def __init__(self, net: FrozenNetwork, buffer_dtype: torch.dtype = torch.float32) -> None:
        self._net = net
        self._frozen = net.frozen
        self._masks = TaskRows(self.row_bytes, torch.uint8, net.device)
        self._statistics = TaskStatistics(net, buffer_dtype)
        self._checksums: list[int] = []
        self._written: object = (
            None  # what is known of the files of the last save, so that the next one need not read them
        )
        self._counts: Int32[Tensor, " bits"] = torch.zeros(net.num_bits, dtype=torch.int32, device=net.device)

    def __len__(self) -> int:
        """Return the number of tasks stored."""
        return len(self._checksums)

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
        return self.buffers.numel() * self.buffers.element_size()

    @property
    def rows(self) -> UInt8[Tensor, "tasks bytes"]:
        """The packed masks, one row a task; a view."""
        return self._masks.rows

    @property
    def buffers(self) -> Float[Tensor, "tasks values"]:
        """The running statistics, flattened in the order of `net.task_buffers`, one row a task; a view."""
        return self._statistics.table.rows

    @property
    def checksums(self) -> Sequence[int]:
        """CRC-32 of each task's row and running statistics."""
        return tuple(self._checksums)

    def append(self, masks: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None) -> int:
        """Store a new task and return its index.

        Args:
            masks: a boolean tensor for each maskable parameter.
            buffers: the running statistics of a network that has them (`net.task_buffers`), by name.

        Raises:
            InvalidArgument: a maskable parameter has no mask, or one of another shape or dtype, or a name is unknown; the
                same for buffers.
        """
        return self.append_rows(
            pack(self._flatten(masks)).unsqueeze(0), self._statistics.flatten(buffers or {}).unsqueeze(0)
        )

    def append_rows(self, rows: Tensor, buffers: Tensor | None = None) -> int:
        """Store tasks that are packed already and return the index of the first.

        Args:
            rows: uint8 of shape (new, bytes).
            buffers: running statistics of shape (new, values), for a network that has them.

        Raises:
            InvalidArgument: the rows have another length than `row_bytes`, or bits set in the padding; the buffers have
                another shape.
        """
        if rows.dtype != torch.uint8 or rows.ndim != 2 or rows.shape[1] != self.row_bytes:
            raise InvalidArgument(
                f"rows: {rows.dtype} of shape {tuple(rows.shape)}; this network's masks are uint8 rows of "
                f"{self.row_bytes} bytes, as packed_bits.pack makes them"
            )
        rows = rows.to(self.rows.device)
        last_word, bits_before = rows[:, -8:], 8 * (self.row_bytes - 8)
        if bool(unpack(last_word, 64)[:, self._net.num_bits - bits_before :].any()):
            raise InvalidArgument(
                f"rows: bits set beyond the network's {self._net.num_bits} maskable weights; pack masks of this network"
            )
        kept = self._statistics.checked(buffers, len(rows))
        first = len(self)
        self._masks.append(rows)
        self._statistics.table.append(kept)
        self._checksums.extend(checksum(*task) for task in zip(rows, kept, strict=True))
        for chunk in _chunks(rows, self._net.num_bits):
            self._counts += unpack(chunk, self._net.num_bits).sum(dim=0, dtype=torch.int32)
        return first

    def replace(self, task: int, masks: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None) -> None:
        """Store another mask, and running statistics, for a task.

        Raises:
            InvalidArgument: there is no such task, or as `append`.
        """
        row, kept = pack(self._flatten(masks)), self._statistics.flatten(buffers or {})
        old = self._row(task)
        self._counts += unpack(row, self._net.num_bits).int() - unpack(old, self._net.num_bits).int()
        self.rows[task], self.buffers[task] = row, kept
        self._checksums[task] = checksum(row, kept)
        self._written = None

    def remove(self, task: int) -> None:
        """Forget a task; those behind it move up by one, as in a list.

        Raises:
            InvalidArgument: there is no such task.
        """
        self._counts -= unpack(self._row(task), self._net.num_bits).int()
        self._masks.remove(task)
        self._statistics.table.remove(task)
        del self._checksums[task]
        self._written = None

    def masks(self, task: int) -> Masks:
        """Return M^task by parameter name, as booleans.

        Raises:
            InvalidArgument: there is no such task.
        """
        return self._net.unflatten(unpack(self._row(task), self._net.num_bits))

    def weights(self, task: int) -> Weights:
        """Return W ⊙ M^task, and the task's running statistics.

        Raises:
            InvalidArgument: there is no such task.
        """
        masked = {name: self._frozen[name] * mask for name, mask in self.masks(task).items()}
        return masked | self._statistics.named(task)

    def blend(self, beliefs: Float[Tensor, " tasks"]) -> Weights:
        """Return W ⊙ sum_i α_i M^i: from the running counts where all α are equal, else over the tasks with α_i ≠ 0.

        At one-hot beliefs these are exactly the masked weights of that task. Running statistics are not blended: use
        `FrozenNetwork.on_batch_statistics`.

        Raises:
            InvalidArgument: there is not one belief for each task, or no task.
        """
        if beliefs.shape != (len(self),):
            raise InvalidArgument(
                f"beliefs: shape {tuple(beliefs.shape)} for {len(self)} tasks; pass one for each task"
            )
        if len(self) == 0:
            raise InvalidArgument("beliefs: the bank holds no task to blend; append at least one")
        if bool((beliefs == beliefs[0]).all()):
            coverage = self._counts.to(beliefs.dtype) * beliefs[0]
        else:
            living = beliefs.nonzero().squeeze(-1)
            coverage = torch.zeros(self._net.num_bits, dtype=beliefs.dtype, device=beliefs.device)
            for index in living.split(_rows_per_chunk(self._net.num_bits)):
                coverage += beliefs[index] @ unpack_to(self.rows[index], self._net.num_bits, beliefs.dtype)
        return {name: self._frozen[name] * share for name, share in self._net.unflatten(coverage).items()}

    def slopes(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "*rows tasks"]:
        """Return dO/dα_i = sum over weights of dO/dW(α) · W · M^i, for every task.

        Args:
            gradients: dO/dW(α) for each maskable parameter, by name; leading axes, one gradient a row, stay in front.
        """
        parts = [
            (gradients[entry.name] * self._frozen[entry.name]).flatten(-len(entry.shape))
            for entry in self._net.maskable
        ]
        per_bit = torch.cat(parts, dim=-1)
        chunks = _chunks(self.rows, self._net.num_bits)
        return torch.cat([per_bit @ unpack_to(chunk, self._net.num_bits, per_bit.dtype).mT for chunk in chunks], dim=-1)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the bank to a folder, or add the tasks that a folder written earlier lacks.

        Every task written by an earlier call stays readable at any moment of this one, whatever happens.

        Raises:
            FolderInUse: the folder holds something else, or a bank that this one does not continue.
            NetworkMismatch: the folder's bank belongs to another network.
            CorruptBank: the folder's manifest is damaged.
        """
        # Here and not above: the storage library is needed for files only, masks and search run without it.
        from supsup_core import bank_files

        header = bank_files.Header.of(self._net, self.buffers.dtype)
        self._written = bank_files.write(folder, header, self.rows, self.buffers, self._checksums, self._written)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], net: FrozenNetwork) -> "MaskBank":
        """Read a bank that `save` wrote, and check every task's bits against its checksum.

        Raises:
            NetworkMismatch: the masks were learned over other frozen weights than `net`'s.
            CorruptBank: the folder is not a bank, or a file is missing, truncated or altered.
        """
        from supsup_core import bank_files

        header = bank_files.Header.of(net, bank_files.stored_buffer_dtype(folder))
        bank = cls(net, header.buffer_dtype)
        for rows, buffers in bank_files.read(folder, header):
            bank.append_rows(rows, buffers)
        return bank

    def _flatten(self, masks: Mapping[str, Tensor]) -> Tensor:
        unknown = set(masks) - set(self._frozen)
        if unknown:
            raise InvalidArgument(f"masks: {sorted(unknown)} are not maskable; known: {', '.join(self._frozen)}")
        for entry in self._net.maskable:
            mask = masks.get(entry.name)
            if mask is None:
                raise InvalidArgument(f"masks: none for {entry.name!r}; a task needs one for every maskable parameter")
            if mask.dtype != torch.bool or tuple(mask.shape) != entry.shape:
                raise InvalidArgument(
                    f"masks[{entry.name!r}]: {mask.dtype} of shape {tuple(mask.shape)}; pass torch.bool of shape {entry.shape}"
                )
        return self._net.flatten(masks)

    def _row(self, task: int) -> UInt8[Tensor, " bytes"]:
        if not 0 <= task < len(self):
            raise InvalidArgument(f"task={task}: the bank holds tasks 0 to {len(self) - 1}; append it first")
        return self.rows[task]


def _rows_per_chunk(num_bits: int) -> int:
    return max(1, _CHUNK_FLOATS // num_bits)


def _chunks(rows: UInt8[Tensor, "tasks bytes"], num_bits: int) -> Iterator[UInt8[Tensor, "some bytes"]]:
    return iter(rows.split(_rows_per_chunk(num_bits)))

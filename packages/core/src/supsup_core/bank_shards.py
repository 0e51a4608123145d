"""One file of consecutive tasks, as safetensors: bits to be memory-mapped, or entropy-coded.

| tensor | bits | compact | content |
|---|---|---|---|
| `rows` | int64 (tasks, words) | | packed masks, in whole 64-bit words |
| `counts`, `counts_crc32` | uint16 (bits,), uint32 (1,) | | how many tasks have a bit set: in shards of many tasks |
| `streams`, `ends` | | uint8, int64 (tasks,) | streams of all tasks, and where each ends |
| `ones`, `common` | | int64 (sections, 2), uint8 | what the codec needs to know |
| `buffers` | float (tasks, values) | the same | running statistics |
| `crc32` | int64 (tasks,) | the same | of each task's row of bits and its statistics |
| `names`, `name_ends`, `names_crc32` | uint8, int64 (tasks,), uint32 (1,) | the same | UTF-8, and ends; where tasks are named |

The file's metadata names the bank that it belongs to (`Header.digest`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes
from torch import Tensor

from supsup_core.bank_manifest import Header, Shard
from supsup_core.bit_vectors import UndecodableStream
from supsup_core.checked_tasks import Names, StoredTasks
from supsup_core.errors import CorruptBank
from supsup_core.mask_codec import MaskCodec
from supsup_core.packed_bits import checksum, count_ones, row_bytes
from supsup_core.task_names import from_bytes as names_of
from supsup_core.task_names import to_bytes as text_of

_TASKS_WORTH_COUNTING = 1024  # the counts take as much room as 16 tasks
_LARGEST_COUNT = 2**16 - 1
# Of a file that was cut off, to be read as far as it goes: how many times its length it may promise, and bytes beside that.
_MOST_PROMISED, _ROOM = 64, 2**20
_METADATA_KEY = "bank"
_LAYOUT = {
    "rows": (torch.int64, 2),
    "counts": (torch.uint16, 1),
    "counts_crc32": (torch.uint32, 1),
    "streams": (torch.uint8, 1),
    "ends": (torch.int64, 1),
    "ones": (torch.int64, 2),
    "common": (torch.uint8, 1),
    "crc32": (torch.int64, 1),
    "names": (torch.uint8, 1),
    "name_ends": (torch.int64, 1),
    "names_crc32": (torch.uint32, 1),
}
"""Type and number of axes of each tensor; of `buffers` the bank decides."""


def shard_bytes(
    header: Header, rows: Tensor, buffers: Tensor, checksums: Sequence[int], names: Names, *, compact: bool
) -> bytes:
    """Return the content of a shard of these tasks: packed masks, statistics, a checksum each, and names if there are any."""
    tensors: dict[str, npt.NDArray[Any]] = {
        "buffers": buffers.cpu().contiguous().numpy(),
        "crc32": np.array(checksums, dtype=np.int64),  # of the widest type, which lie first in the file
    }
    packed = rows.cpu().contiguous()
    if compact:
        codec = MaskCodec.fitted(packed.numpy(), header.shapes)
        streams = [codec.encode(row) for row in packed.numpy()]
        tensors["streams"] = np.frombuffer(b"".join(streams), dtype=np.uint8)
        tensors["ends"] = np.cumsum([len(stream) for stream in streams], dtype=np.int64)
        tensors["ones"] = codec.table
        if codec.common_stream is not None:
            tensors["common"] = np.frombuffer(codec.common_stream, dtype=np.uint8)
    else:
        tensors["rows"] = packed.numpy().view(np.int64)
        if _TASKS_WORTH_COUNTING <= len(packed) <= _LARGEST_COUNT:
            counts = count_ones(packed, _num_bits(header)).numpy().astype(np.uint16)
            tensors["counts"] = counts
            tensors["counts_crc32"] = np.array([checksum(torch.from_numpy(counts))], dtype=np.uint32)
    if any(names):
        text, ends = text_of(names)
        tensors["names"], tensors["name_ends"] = np.frombuffer(text, dtype=np.uint8), np.array(ends, dtype=np.int64)
        both = (torch.from_numpy(tensors[name].copy()) for name in ("names", "name_ends"))
        tensors["names_crc32"] = np.array([checksum(*both)], dtype=np.uint32)
    return to_bytes(tensors, metadata={_METADATA_KEY: header.digest})


def read_shard(path: Path, shard: Shard, header: Header) -> StoredTasks:
    """Return the tasks of a shard, mapped where they are bits, decoded where they are compact.

    Raises:
        CorruptBank: the file is missing, has another size or layout than was written, or a stream cannot be decoded.
    """
    tensors = _mapped(path, shard)
    try:
        _refuse_other_layout(tensors)
        rows, undecodable = _rows(tensors, header)
        stored = _stored(path, tensors, rows, header)
    except (KeyError, UndecodableStream, ValueError) as error:
        raise CorruptBank(f"{path}: not the layout of a shard of this bank ({error}); restore it from a copy") from None
    if len(stored.checksums) != shard.tasks:
        raise CorruptBank(
            f"{path}: its header does not match the manifest's {shard.tasks} tasks; restore it from a copy"
        )
    if undecodable:
        raise CorruptBank(
            f"{path}: the stream of its task {min(undecodable)} cannot be decoded; restore the file from a copy, learn the "
            "task again, or keep the others by salvage()"
        )
    return stored


def read_identities(path: Path, shard: Shard) -> list[tuple[int, str | None]]:
    """Return the checksum and the name of each of a shard's tasks, and nothing else of it.

    Raises:
        CorruptBank: the file is missing or not readable.
    """
    tensors = _mapped(path, shard)
    try:
        _refuse_other_layout(tensors)
        checksums = [int(value) for value in tensors["crc32"].tolist()]
        names = _names(tensors, len(checksums)) or (None,) * len(checksums)
    except (KeyError, ValueError) as error:
        raise CorruptBank(f"{path}: not a shard of a mask bank ({error}); restore it from a copy") from None
    return list(zip(checksums, names, strict=True))


def is_shard_of(path: Path, header: Header) -> bool:
    """Tell whether a shard says that it is of a bank over this network, with these statistics.

    Raises:
        CorruptBank: the file is not readable.
    """
    try:
        with safe_open(path, framework="pt") as tensors:
            return (tensors.metadata() or {}).get(_METADATA_KEY) == header.digest
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CorruptBank(f"{path}: not a readable shard ({error}); restore it from a copy") from None


def salvage_shard(path: Path, header: Header) -> tuple[StoredTasks, tuple[int, ...]]:
    """Return whatever a damaged shard's tasks are, and which of them, counted from 0, are as they were written.

    Raises:
        CorruptBank: nothing can be told of the file, or it belongs to another bank.
    """
    try:
        content = path.read_bytes()
        size, digest = _promised(content)
        if digest != header.digest:
            raise CorruptBank(f"{path}: it belongs to another bank")
        if size > _MOST_PROMISED * (len(content) + _ROOM):
            raise CorruptBank(f"{path}: of {size} bytes that its header promises {len(content)} are there")
        # What a truncated file lacks reads as zeros, whose checksums will not match.
        tensors = {
            name: torch.from_numpy(array.copy()) for name, array in from_bytes(content.ljust(size, b"\0")).items()
        }
        _refuse_other_layout(tensors)
        rows, undecodable = _rows(tensors, header)
        named = _names_left(tensors)
        kept = {name: tensors[name] for name in tensors if "counts" not in name and (named or "name" not in name)}
        stored = _stored(path, kept, rows, header)
    except (
        *(OSError, SafetensorError, LookupError, AttributeError, TypeError, ValueError),
        *(RecursionError, OverflowError, MemoryError),
    ) as error:
        raise CorruptBank(f"{path}: nothing in it can be read ({type(error).__name__}: {error})") from None
    intact = (
        task
        for task, expected in enumerate(stored.checksums)
        if task not in undecodable and checksum(stored.rows[task], stored.buffers[task]) == expected
    )
    return stored, tuple(intact)


def tensor_bytes(path: Path, shard: Shard) -> dict[str, int]:
    """Return the bytes of each tensor of a shard.

    Raises:
        CorruptBank: the file is missing or not readable.
    """
    return {name: tensor.numel() * tensor.element_size() for name, tensor in _mapped(path, shard).items()}


def _mapped(path: Path, shard: Shard) -> dict[str, Tensor]:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise CorruptBank(f"{path}: the manifest names this file and it is missing; restore it from a copy") from None
    if size != shard.bytes:
        raise CorruptBank(
            f"{path}: {size} bytes where {shard.bytes} were written; restore it from a copy, or keep its intact tasks "
            "by salvage()"
        )
    try:
        with safe_open(path, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError, RuntimeError) as error:
        # Of the last two, that it is gone since: a save replaced it.
        raise CorruptBank(f"{path}: not a readable shard ({error}); restore it from a copy") from None


def _refuse_other_layout(tensors: Mapping[str, Tensor]) -> None:
    """Raise a ValueError where a tensor is of another type, or has another number of axes, than a shard's."""
    for name, (dtype, axes) in _LAYOUT.items():
        found = tensors.get(name)
        if found is not None and (found.dtype != dtype or found.ndim != axes or ("crc32" in name and len(found) < 1)):
            raise ValueError(f"{name} is {found.dtype} of shape {tuple(found.shape)}")


def _stored(path: Path, tensors: Mapping[str, Tensor], rows: Tensor, header: Header) -> StoredTasks:
    """Return a shard's content; whatever does not have the right shape raises a ValueError or KeyError."""
    buffers, checksums = tensors["buffers"], tensors["crc32"]
    values = sum(int(np.prod(shape)) for _, shape in header.buffers)
    if (
        tuple(rows.shape) != (len(checksums), row_bytes(_num_bits(header)))
        or tuple(buffers.shape) != (len(checksums), values)
        or buffers.dtype != header.buffer_dtype
    ):
        raise ValueError(
            f"rows {tuple(rows.shape)}, buffers {tuple(buffers.shape)}, checksums {tuple(checksums.shape)}"
        )
    counts = tensors.get("counts")
    if counts is not None and (
        checksum(counts) != int(tensors["counts_crc32"].tolist()[0]) or len(counts) != _num_bits(header)
    ):
        raise ValueError("its counts do not match their checksum, or the network")
    return StoredTasks(
        path,
        rows,
        buffers,
        tuple(int(value) for value in checksums.tolist()),
        None if counts is None else counts.int(),
        _names(tensors, len(checksums)),
    )


def _names(tensors: Mapping[str, Tensor], tasks: int) -> Names:
    """Return the names of a shard's tasks, none where no task has one; what is not as it was written raises a ValueError."""
    if not {"names", "name_ends", "names_crc32"} & set(tensors):
        return ()
    text, ends = tensors["names"], tensors["name_ends"]
    if checksum(text, ends) != int(tensors["names_crc32"].tolist()[0]):
        raise ValueError("its names do not match their checksum")
    if len(ends) != tasks:
        raise ValueError(f"{len(ends)} names for {tasks} tasks")
    return names_of(text.numpy().tobytes(), ends.tolist())


def _names_left(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether a damaged shard's names are as they were written."""
    try:
        _names(tensors, len(tensors["crc32"]))
    except (KeyError, ValueError):
        return False
    return True


def _rows(tensors: Mapping[str, Tensor], header: Header) -> tuple[Tensor, set[int]]:
    """Return the packed masks, and which of them are nonsense because their streams are."""
    if "rows" in tensors:
        return tensors["rows"].view(torch.uint8), set()
    common = tensors["common"].numpy().tobytes() if "common" in tensors else None
    codec = MaskCodec.from_table(header.shapes, tensors["ones"].numpy(), common)
    streams, ends = tensors["streams"].numpy().tobytes(), tensors["ends"].tolist()
    rows = np.zeros((len(ends), row_bytes(_num_bits(header))), dtype=np.uint8)
    undecodable = set()
    for task, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        try:
            row = codec.decode(streams[max(0, start) : max(0, end)])
            rows[task, : len(row)] = row
        except UndecodableStream:
            undecodable.add(task)
    return torch.from_numpy(rows), undecodable


def _promised(content: bytes) -> tuple[int, str]:
    """Return the size that a safetensors file should have, and the bank that it says it belongs to."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__")
    return start + max(entry["data_offsets"][1] for entry in header.values()), str(metadata[_METADATA_KEY])


def _num_bits(header: Header) -> int:
    return sum(int(np.prod(shape)) for shape in header.shapes)

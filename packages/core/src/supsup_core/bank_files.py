"""A mask bank as a folder: safetensors shards that are never edited in place, and a manifest that is written last.

| file | content |
|---|---|
| `manifest.json` | format, the network's fingerprint and parameters, the list of shards |
| `masks-FIRST-COUNT.safetensors` | `rows`: packed masks; `buffers`: running statistics; `crc32` of both: one row a task |

A shard counts only once a manifest names it, and a manifest is replaced atomically, so a crash leaves either the bank of
before or the bank of after. Files hold no pickles.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes
from torch import Tensor

from supsup_core.atomic_files import replace_file
from supsup_core.errors import CorruptBank, FolderInUse, NetworkMismatch
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.packed_bits import checksum

MANIFEST = "manifest.json"
_FORMAT = "supsup-mask-bank"
_VERSION = 1
_SHARD_BYTES = 256 * 2**20
_DTYPES = {torch.float16: "float16", torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True)
class Header:
    """What ties tasks to a network: its fingerprint, and what a row of bits and one of running statistics cover, in order."""

    fingerprint: str
    seed: int
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    buffers: tuple[tuple[str, tuple[int, ...]], ...]
    buffer_dtype: torch.dtype

    @classmethod
    def of(cls, net: FrozenNetwork, buffer_dtype: torch.dtype) -> "Header":
        """Describe a network, and how its running statistics are kept."""
        parameters, buffers = (
            tuple((entry.name, entry.shape) for entry in part) for part in (net.maskable, net.task_buffers)
        )
        return cls(net.fingerprint, net.seed, parameters, buffers, buffer_dtype)

    def to_json(self) -> dict[str, Any]:
        """Return the header as the manifest holds it."""
        return {**asdict(self), "buffer_dtype": _DTYPES[self.buffer_dtype]}


@dataclass(frozen=True)
class Shard:
    """One file of consecutive tasks."""

    file: str
    tasks: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A manifest's content."""

    header: Header
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class _Written:
    """The files as the last save left them."""

    manifest: tuple[int, int, int] | None
    shards: tuple[Shard, ...]


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one version of a file from another, or None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def stored_buffer_dtype(folder: str | os.PathLike[str]) -> torch.dtype:
    """Return how a bank's files keep running statistics.

    Raises:
        CorruptBank: the folder is not a bank, or its manifest is damaged.
    """
    return _parse_manifest(Path(folder) / MANIFEST).header.buffer_dtype


def write(
    folder: str | os.PathLike[str],
    header: Header,
    rows: UInt8[Tensor, "tasks bytes"],
    buffers: Float[Tensor, "tasks values"],
    checksums: Sequence[int],
    known: object = None,
) -> object:
    """Bring a folder up to date with all tasks, adding shards for those that it lacks.

    Args:
        folder: where the bank is or will be.
        header: of the bank.
        rows: the packed masks.
        buffers: the running statistics.
        checksums: of each task.
        known: what an earlier call returned for the same, unchanged tasks; where the manifest is still the one that it wrote,
            no shard is read again, so that saving after every task costs that task.

    Returns:
        What the next call may be given as `known`.
    """
    path = Path(folder)
    if isinstance(known, _Written) and known.manifest == _identity(path / MANIFEST):
        shards = list(known.shards)
    else:
        shards = _existing_shards(path, header, checksums)
    stored = sum(shard.tasks for shard in shards)
    if stored == len(checksums) and (path / MANIFEST).exists():
        return _Written(_identity(path / MANIFEST), tuple(shards))
    path.mkdir(parents=True, exist_ok=True)
    per_shard = max(1, _SHARD_BYTES // max(1, rows.shape[1]))
    for first in range(stored, len(checksums), per_shard):
        last = min(first + per_shard, len(checksums))
        content = to_bytes(
            {
                "rows": rows[first:last].cpu().numpy(),
                "buffers": buffers[first:last].cpu().numpy(),
                "crc32": np.array(checksums[first:last], dtype=np.uint32),
            }
        )
        shard = Shard(f"masks-{first:08d}-{last - first:06d}.safetensors", last - first, len(content))
        replace_file(path / shard.file, content)
        shards.append(shard)
    replace_file(path / MANIFEST, _manifest(header, shards).encode())
    return _Written(_identity(path / MANIFEST), tuple(shards))


def stored_tasks(folder: str | os.PathLike[str]) -> int:
    """Return how many tasks a bank's files hold, from the manifest alone.

    Raises:
        CorruptBank: the folder is not a bank, or its manifest is damaged.
    """
    return sum(shard.tasks for shard in _parse_manifest(Path(folder) / MANIFEST).shards)


def read(folder: str | os.PathLike[str], header: Header) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows and running statistics of each shard, memory-mapped, with every checksum verified."""
    path = Path(folder)
    first = 0
    for shard in _load_manifest(path, header):
        rows, buffers, checksums = _open_shard(path / shard.file, shard)
        for offset, (*task, expected) in enumerate(zip(rows, buffers, checksums, strict=True)):
            if checksum(*task) != int(expected):
                raise CorruptBank(
                    f"{path / shard.file}: the bits of task {first + offset} do not match their checksum; "
                    "restore the file from a copy, or learn the task again"
                )
        first += shard.tasks
        yield rows, buffers


def _existing_shards(path: Path, header: Header, checksums: Sequence[int]) -> list[Shard]:
    """Return the shards of a bank that the rows continue; refuse a folder that holds anything else."""
    if path.exists() and not path.is_dir():
        raise FolderInUse(f"folder={path}: it is a file; a bank is a folder, choose another name")
    if not path.exists() or not any(path.iterdir()):
        return []
    if not (path / MANIFEST).exists():
        if all(_is_leftover(entry) for entry in path.iterdir()):
            return []
        raise FolderInUse(f"folder={path}: it holds files that are not a mask bank; choose an empty or a new folder")
    shards = _load_manifest(path, header)
    stored = [int(value) for shard in shards for value in _open_shard(path / shard.file, shard)[2]]
    if stored != list(checksums[: len(stored)]):
        raise FolderInUse(
            f"folder={path}: it holds a bank of {len(stored)} tasks that this one of {len(checksums)} does not continue; "
            "choose another folder"
        )
    return shards


def _is_leftover(entry: Path) -> bool:
    """Tell whether a crash before the first manifest may have left this file."""
    return entry.name.startswith("masks-") or entry.name.endswith(".partial")


def _manifest(header: Header, shards: Sequence[Shard]) -> str:
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        **header.to_json(),
        "shards": [asdict(shard) for shard in shards],
    }
    return json.dumps(content, indent=1) + "\n"


def _load_manifest(path: Path, header: Header) -> list[Shard]:
    manifest = _parse_manifest(path / MANIFEST)
    found = manifest.header
    if found.fingerprint != header.fingerprint:
        raise NetworkMismatch(
            f"{path}: its masks belong to a network with fingerprint {found.fingerprint[:12]} (seed {found.seed}), "
            f"this one has {header.fingerprint[:12]} (seed {header.seed}); build the network with the same module and seed"
        )
    if found.parameters != header.parameters:
        raise NetworkMismatch(f"{path}: its masks cover other parameters than this network's; pass the same select=")
    if (found.buffers, found.buffer_dtype) != (header.buffers, header.buffer_dtype):
        raise NetworkMismatch(
            f"{path}: it keeps other running statistics than this bank; use the same module and buffer_dtype"
        )
    return list(manifest.shards)


def _parse_manifest(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CorruptBank(f"{path}: there is no such file, so the folder is not a mask bank; check the path") from None
    except ValueError as error:
        raise CorruptBank(f"{path}: not readable as JSON ({error}); restore it from a copy") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CorruptBank(f"{path}: not the manifest of a mask bank; check the path")
    if content.get("version") != _VERSION:
        raise CorruptBank(
            f"{path}: format version {content.get('version')}, this supsup-core reads version {_VERSION}; "
            "use the release that wrote it"
        )
    missing = {"fingerprint", "seed", "parameters", "buffers", "buffer_dtype", "shards"} - set(content)
    if missing:
        raise CorruptBank(f"{path}: {', '.join(sorted(missing))} missing; restore it from a copy")
    try:
        return _manifest_from_json(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptBank(
            f"{path}: not as it was written ({type(error).__name__}: {error}); restore it from a copy"
        ) from None


def _manifest_from_json(content: dict[str, Any]) -> Manifest:
    """Return the manifest; whatever does not have the right shape raises."""
    parameters, buffers = (
        tuple((str(name), tuple(int(axis) for axis in shape)) for name, shape in content[key])
        for key in ("parameters", "buffers")
    )
    dtypes = {name: dtype for dtype, name in _DTYPES.items()}
    header = Header(
        content["fingerprint"].lower(), int(content["seed"]), parameters, buffers, dtypes[content["buffer_dtype"]]
    )
    shards = tuple(Shard(str(each["file"]), int(each["tasks"]), int(each["bytes"])) for each in content["shards"])
    if any(Path(shard.file).name != shard.file or shard.tasks < 1 for shard in shards):
        raise ValueError("a shard is a file of the same folder, with at least one task")
    return Manifest(header, shards)


def _open_shard(path: Path, shard: Shard) -> tuple[Tensor, Tensor, npt.NDArray[np.uint32]]:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise CorruptBank(f"{path}: the manifest names this file and it is missing; restore it from a copy") from None
    if size != shard.bytes:
        raise CorruptBank(f"{path}: {size} bytes where {shard.bytes} were written; restore it from a copy")
    try:
        with safe_open(path, framework="pt") as tensors, safe_open(path, framework="numpy") as arrays:
            rows, buffers, checksums = (
                tensors.get_tensor("rows"),
                tensors.get_tensor("buffers"),
                arrays.get_tensor("crc32"),
            )
    except SafetensorError as error:
        raise CorruptBank(f"{path}: not a readable shard ({error}); restore it from a copy") from None
    counts = {len(rows), len(buffers), len(checksums)}
    if rows.dtype != torch.uint8 or rows.ndim != 2 or buffers.ndim != 2 or counts != {shard.tasks}:
        raise CorruptBank(
            f"{path}: its header does not match the manifest's {shard.tasks} tasks; restore it from a copy"
        )
    return rows, buffers, checksums

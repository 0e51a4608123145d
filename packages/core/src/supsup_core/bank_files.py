"""A mask bank as a folder: safetensors shards that are never edited in place, and a manifest that is written last.

A shard counts only once a manifest names it, and a manifest is replaced atomically, so a crash leaves either the bank of
before or the bank of after. Small shards are written together with the tasks that follow them, so that a bank saved after
every task ends as few files; the bytes written are a few times the bank's own. Files hold no pickles.

Processes that save to one folder wait for each other, by a lock of the kernel on the folder itself, where the file system has
locks. Who comes second finds tasks that are not its own, and is refused.
"""

import errno
import fcntl
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from supsup_core.atomic_files import make_folder, replace_file
from supsup_core.bank_manifest import MANIFEST, SHARD_NAME, Header, Manifest, Shard, read_manifest
from supsup_core.bank_shards import read_identities, read_shard, salvage_shard, shard_bytes
from supsup_core.checked_tasks import Names, StoredTasks
from supsup_core.errors import CorruptBank, FolderInUse
from supsup_core.task_rows import TaskRows

_SHARD_BYTES = 64 * 2**20
_SMALL_SHARD_BYTES = 256 * 2**10  # writing this much again costs about as much as making sure that it is on disk
_PATTERN = "masks-*.safetensors"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)  # of some network file systems


@dataclass(frozen=True)
class Content:
    """All tasks of a bank that is to be written."""

    header: Header
    rows: TaskRows
    buffers: TaskRows
    checksums: Sequence[int]
    names: Names
    compact: bool


@dataclass(frozen=True)
class Salvaged:
    """What is left of a damaged bank.

    Attributes:
        tasks: packed mask and running statistics of each task that is as it was written, by its number, and its name if that is.
        lost: the numbers of the others, as far as the files tell.
    """

    tasks: dict[int, tuple[Tensor, Tensor, str | None]]
    lost: tuple[int, ...]


@dataclass(frozen=True)
class _Written:
    """The files as the last save left them."""

    manifest: tuple[int, int, int] | None
    shards: tuple[Shard, ...]
    names: Names
    compact: bool


def write(folder: str | os.PathLike[str], content: Content, known: object = None) -> object:
    """Bring a folder up to date with all tasks of a bank, and remove what crashed saves left there.

    Args:
        folder: where the bank is or will be.
        content: of the bank.
        known: what an earlier call returned for the same, unchanged tasks; where the manifest is still the one that it wrote,
            no shard is read again, so that saving after every task costs that task.

    Returns:
        What the next call may be given as `known`.

    Raises:
        FolderInUse: the folder holds something else, a bank that this one does not continue, or one in the other form.
        NetworkMismatch: the folder's bank belongs to another network.
        CorruptBank: the folder's bank is damaged.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise FolderInUse(f"folder={path}: it is a file; a bank is a folder, choose another name")
    make_folder(path)
    with _alone_in(path):
        return _write(path, content, known)


def _write(path: Path, content: Content, known: object) -> _Written:
    if isinstance(known, _Written) and _is_continued(known, content) and known.manifest == _identity(path / MANIFEST):
        shards = known.shards
    else:
        shards = _existing_shards(path, content)
    tasks = len(content.checksums)
    if sum(shard.tasks for shard in shards) < tasks or not (path / MANIFEST).exists():
        tasks_a_shard = max(1, _SHARD_BYTES // max(1, content.rows.width))
        kept, first = _untouched(shards, tasks, content.rows.width, tasks_a_shard)
        new = [(start, min(start + tasks_a_shard, tasks)) for start in range(first, tasks, tasks_a_shard)]
        before = _identity(path / MANIFEST)
        try:
            written = (*kept, *(_write_shard(path, content, *ends) for ends in new))
            replace_file(path / MANIFEST, Manifest(content.header, content.compact, written).to_text().encode())
        except OSError:  # no space, perhaps: what no manifest names must not keep the next save from having it
            if _identity(path / MANIFEST) == before:
                _remove_leftovers(path, shards)
            raise
        _remove_leftovers(path, written)
        shards = written
    return _Written(_identity(path / MANIFEST), shards, content.names, content.compact)


def _is_continued(known: _Written, content: Content) -> bool:
    """Tell whether the content goes on from what was written, as far as names and form go."""
    return known.compact == content.compact and known.names == content.names[: len(known.names)]


def stored_tasks(folder: str | os.PathLike[str]) -> int:
    """Return how many tasks a bank's files hold, from the manifest alone.

    Raises:
        CorruptBank: the folder is not a bank, or its manifest is damaged.
    """
    return read_manifest(Path(folder)).tasks


def read(folder: str | os.PathLike[str], header: Header) -> list[StoredTasks]:
    """Return the tasks of all shards. Bits are mapped and not read; their checksums are still to be compared.

    A bank that another process saves meanwhile is read as it was before or after.

    Raises:
        NetworkMismatch: the bank belongs to another network.
        CorruptBank: the folder is not a bank, or a file is damaged.
    """
    path = Path(folder)
    while True:
        version, manifest = manifest_version(path), read_manifest(path)
        header.refuse_other(manifest.header, path)
        try:
            return [read_shard(path / shard.file, shard, header) for shard in manifest.shards]
        except CorruptBank:
            if version == manifest_version(path):
                raise


def manifest_version(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells one manifest of a bank from the next, which a save in another process writes."""
    return _identity(folder / MANIFEST)


def salvage(folder: str | os.PathLike[str], header: Header) -> Salvaged:
    """Return what is intact of a bank, whatever is damaged.

    Where the manifest is damaged, every shard of this bank that lies in the folder counts; else they stand in for tasks that the
    manifest's own have lost.

    Raises:
        NetworkMismatch: the bank belongs to another network.
        CorruptBank: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CorruptBank(f"{path}: there is no such folder; check the path")
    files, expected, most = sorted(path.glob(_PATTERN)), 0, sys.maxsize
    try:
        manifest = read_manifest(path)
    except CorruptBank:
        pass  # that is what this function is for
    else:
        header.refuse_other(manifest.header, path)
        named = [path / shard.file for shard in manifest.shards]
        files, expected = [*named, *(file for file in files if file not in named)], manifest.tasks
        most = manifest.tasks  # a save that was cut off before its manifest has written more
    found: dict[int, tuple[Tensor, Tensor, str | None]] = {}
    for file in files:
        try:
            first, (stored, intact) = _first_task(file), salvage_shard(file, header)
        except CorruptBank:
            continue  # its tasks are missing from what is returned
        expected = max(expected, min(most, first + len(stored.checksums)))
        for task in intact:
            if first + task < most:
                name = stored.names[task] if stored.names else None
                found.setdefault(first + task, (stored.rows[task], stored.buffers[task], name))
    return Salvaged(dict(sorted(found.items())), tuple(task for task in range(expected) if task not in found))


def _write_shard(path: Path, content: Content, first: int, last: int) -> Shard:
    rows, buffers = content.rows.between(first, last), content.buffers.between(first, last)
    checksums, names = content.checksums[first:last], content.names[first:last]
    data = shard_bytes(content.header, rows, buffers, checksums, names, compact=content.compact)
    shard = Shard(f"masks-{first:08d}-{last - first:06d}.safetensors", last - first, len(data))
    replace_file(path / shard.file, data)
    return shard


def _first_task(file: Path) -> int:
    named = re.fullmatch(SHARD_NAME, file.name)
    if named is None:
        raise CorruptBank(f"{file}: not the name of a shard")
    return int(named[1])


def _untouched(
    shards: Sequence[Shard], tasks: int, row_bytes: int, tasks_a_shard: int
) -> tuple[tuple[Shard, ...], int]:
    """Return the shards that stay as they are, and the first task to write.

    The last shard is written again with what follows it while the two together are small, or it has no more tasks than
    what follows: so each task is written again only when its shard doubles.
    """
    kept = list(shards)
    first = sum(shard.tasks for shard in kept)
    while kept:
        last, following = kept[-1], tasks - first
        # By packed bits where they are entropy-coded: coding hundreds of tasks anew at each save takes long, if few bytes.
        small = max(last.bytes, last.tasks * row_bytes) + following * row_bytes <= _SMALL_SHARD_BYTES
        if last.tasks + following > tasks_a_shard or not (small or last.tasks <= following):
            break
        first -= kept.pop().tasks
    return tuple(kept), first


def _existing_shards(path: Path, content: Content) -> tuple[Shard, ...]:
    """Return the shards of a bank that the content continues; refuse a folder that holds anything else."""
    if not any(path.iterdir()):
        return ()
    if not (path / MANIFEST).exists():
        if all(_is_leftover(entry) for entry in path.iterdir()):
            return ()
        raise FolderInUse(f"folder={path}: it holds files that are not a mask bank; choose an empty or a new folder")
    manifest = read_manifest(path)
    content.header.refuse_other(manifest.header, path)
    if manifest.compact != content.compact:
        raise FolderInUse(
            f"folder={path}: it holds a bank with compact={manifest.compact}; save it so, or choose another folder"
        )
    stored = [task for shard in manifest.shards for task in read_identities(path / shard.file, shard)]
    if stored != list(zip(content.checksums, content.names, strict=True))[: len(stored)]:
        if [checksum for checksum, _ in stored] == list(content.checksums[: len(stored)]):
            raise FolderInUse(f"folder={path}: it holds these tasks under other names; choose another folder")
        raise FolderInUse(
            f"folder={path}: it holds a bank of {len(stored)} tasks that this one of {len(content.checksums)} does not "
            "continue; choose another folder"
        )
    return manifest.shards


def _is_leftover(entry: Path) -> bool:
    """Tell whether a crash before the first manifest may have left this file."""
    return entry.match(_PATTERN) or entry.name.endswith(".partial")


def _remove_leftovers(path: Path, shards: Sequence[Shard]) -> None:
    """Remove the shards that the manifest does not name, and files that were never finished: nobody else writes here now."""
    named = {shard.file for shard in shards}
    for entry in (*path.glob(_PATTERN), *path.glob(f".{_PATTERN}.*.partial"), *path.glob(f".{MANIFEST}.*.partial")):
        if entry.name not in named:
            entry.unlink(missing_ok=True)


@contextmanager
def _alone_in(path: Path) -> Iterator[None]:
    """Have no other process save to a folder while the context lasts; the kernel lets go when a process ends."""
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(folder)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one version of a file from another, or None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns

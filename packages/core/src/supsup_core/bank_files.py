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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from supsup_core.atomic_files import make_folder, replace_file
from supsup_core.bank_manifest import MANIFEST, SHARD_NAME, Header, Manifest, Shard, read_manifest
from supsup_core.bank_shards import is_shard_of, read_identities, read_shard, salvage_shard, shard_bytes
from supsup_core.checked_tasks import Names, StoredTasks
from supsup_core.errors import CorruptBank, FolderInUse
from supsup_core.task_rows import TaskRows

_SHARD_BYTES = 64 * 2**20
_SMALL_SHARD_BYTES = 256 * 2**10  # writing this much again costs about as much as making sure that it is on disk
_PARTIAL = re.compile(rf"\.(?:{SHARD_NAME}|{re.escape(MANIFEST)})\.[0-9a-f]+\.partial")
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
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            which = "it" if place == path else place
            raise FolderInUse(f"folder={path}: {which} is a file; a bank is a folder, choose another name")
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


def _write_shard(path: Path, content: Content, first: int, last: int) -> Shard:
    rows, buffers = content.rows.between(first, last), content.buffers.between(first, last)
    checksums, names = content.checksums[first:last], content.names[first:last]
    data = shard_bytes(content.header, rows, buffers, checksums, names, compact=content.compact)
    shard = Shard(f"masks-{first:08d}-{last - first:06d}.safetensors", last - first, len(data))
    replace_file(path / shard.file, data)
    return shard


def first_task(file: Path) -> int:
    """Return the first task of a shard, by its name.

    Raises:
        CorruptBank: it has another name than shards have.
    """
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
        shards = shards_in(path)
        if any(entry not in shards and not _is_partial(entry) for entry in path.iterdir()):
            raise FolderInUse(
                f"folder={path}: it holds files that are not a mask bank; choose an empty or a new folder"
            )
        for shard in shards:
            if not _is_continued_by(shard, content):
                raise FolderInUse(
                    f"folder={path}: {shard.name} holds tasks that this bank does not, and their {MANIFEST} is gone; have them "
                    "again by salvage(), or choose another folder"
                )
        return ()
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


def _is_continued_by(file: Path, content: Content) -> bool:
    """Tell whether a bank has the tasks of a shard that no manifest names, as a crash before the first manifest leaves it."""
    first = first_task(file)
    try:
        stored = read_identities(file, Shard(file.name, 0, file.stat().st_size))
        is_of_this_network = is_shard_of(file, content.header)
    except CorruptBank:
        return not _has_intact_task(file, content.header)
    ours = zip(content.checksums[first:], content.names[first:], strict=True)
    return is_of_this_network and stored == [*ours][: len(stored)]


def _has_intact_task(file: Path, header: Header) -> bool:
    try:
        _, intact = salvage_shard(file, header)
    except CorruptBank:
        return False
    return bool(intact)


def shards_in(path: Path) -> list[Path]:
    """Return the files that are named as shards are; of a folder of that name nothing is known."""
    return sorted(entry for entry in path.iterdir() if re.fullmatch(SHARD_NAME, entry.name) and entry.is_file())


def _is_partial(entry: Path) -> bool:
    """Tell whether a file of a bank was never finished."""
    return _PARTIAL.fullmatch(entry.name) is not None and entry.is_file()


def _remove_leftovers(path: Path, shards: Sequence[Shard]) -> None:
    """Remove the shards that the manifest does not name, and files that were never finished: nobody else writes here now."""
    named = {shard.file for shard in shards}
    for entry in (*shards_in(path), *filter(_is_partial, path.iterdir())):
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

"""What is left of a mask bank's folder, whatever is damaged in it."""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from supsup_core.bank_files import first_task, shards_in
from supsup_core.bank_manifest import Header, Manifest, read_manifest
from supsup_core.bank_shards import salvage_shard
from supsup_core.errors import CorruptBank

_MOST_TASKS = (
    10**7
)  # that a folder may tell of: a number above is nonsense, and listing what is lost would take for ever


@dataclass(frozen=True)
class Salvaged:
    """What is left of a damaged bank.

    Attributes:
        tasks: packed mask and running statistics of each task that is as it was written, by its number, and its name if that is.
        lost: the numbers of the others, as far as the files tell.
    """

    tasks: dict[int, tuple[Tensor, Tensor, str | None]]
    lost: tuple[int, ...]


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
    files, expected, most = shards_in(path), 0, _MOST_TASKS
    manifest = _manifest_left(path, header)
    if manifest is not None:
        named = [path / shard.file for shard in manifest.shards]
        files, expected = [*named, *(file for file in files if file not in named)], manifest.tasks
        most = manifest.tasks  # a save that was cut off before its manifest has written more
    found: dict[int, tuple[Tensor, Tensor, str | None]] = {}
    for file in files:
        try:
            first, (stored, intact) = first_task(file), salvage_shard(file, header)
        except CorruptBank:
            continue  # its tasks are missing from what is returned
        if first >= most:
            continue
        expected = max(expected, min(most, first + len(stored.checksums)))
        for task in intact:
            if first + task < most:
                name = stored.names[task] if stored.names else None
                found.setdefault(first + task, (stored.rows[task], stored.buffers[task], name))
    return Salvaged(dict(sorted(found.items())), tuple(task for task in range(expected) if task not in found))


def _manifest_left(path: Path, header: Header) -> Manifest | None:
    """Return a damaged bank's manifest, or None where that can tell nothing: it is for this that there is `salvage`.

    Raises:
        NetworkMismatch: the bank belongs to another network.
    """
    try:
        manifest = read_manifest(path)
    except CorruptBank:
        return None
    header.refuse_other(manifest.header, path)
    return manifest if manifest.tasks <= _MOST_TASKS else None

"""A run whose files a crash of the machine left damaged: what is intact is kept, the rest is set aside and made again.

A killed process damages nothing, as files are replaced atomically. A disk that lost its last writes may.
"""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

from supsup_core import CorruptBank, FrozenNetwork, MaskBank, salvage

from supsup_methods.errors import UsageError
from supsup_methods.run_folder import PROGRESS, SUMMARY, Progress, RunFolder


def sweep(folder: RunFolder) -> None:
    """Remove what writes that never ended left behind. Only for the process that holds the run's lock."""
    for place in (folder.path, folder.bank):
        for partial in place.glob(".*.partial"):
            partial.unlink(missing_ok=True)


def mended_progress(folder: RunFolder) -> tuple[Progress, list[str]]:
    """Return how far a run has come, or a fresh record where its own cannot be read, and a line for each such file."""
    notes = []
    for name, read in ((SUMMARY, folder.summary), (PROGRESS, folder.progress)):
        if not (folder.path / name).exists():
            continue
        try:
            read()
        except UsageError as damage:
            aside = _set_aside(folder.path / name)
            notes.append(f"{damage.args[0].split(';')[0]}; it is set aside as {aside.name} and made again")
    return folder.progress(), notes


def mended_bank(
    folder: RunFolder, net: FrozenNetwork, whole_groups: Callable[[int], int]
) -> tuple[MaskBank, list[str]]:
    """Return a run's masks, each compared with its checksum; where some are damaged, the tasks before the first of them.

    Args:
        folder: of the run.
        net: its network.
        whole_groups: a number of tasks to how many of them were trained in groups that end there: as the last bits of a mask
            may depend on the group that it was trained in, only these are kept.

    Raises:
        NetworkMismatch: the masks were learned over another network.
    """
    mended = folder.bank.with_name(f"{folder.bank.name}.mended")
    if not folder.bank.exists() and mended.exists():
        mended.rename(folder.bank)  # an earlier mending was stopped between its last two steps
    if not folder.bank.exists():
        return MaskBank(net), []
    try:
        bank = MaskBank.open(folder.bank, net) if folder.holds_bank else MaskBank(net)
        bank.check()
        return bank, []
    except CorruptBank as error:
        damage = str(error).split(";")[0]
    bank = MaskBank(net)
    try:
        found = salvage(folder.bank, net)
    except CorruptBank:
        pass  # nothing is intact, so all is learned again
    else:
        intact = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], enumerate(found.tasks)))
        kept_tasks = whole_groups(intact)
        bank.append_rows(found.bank.rows[:kept_tasks], found.bank.buffers[:kept_tasks])
    shutil.rmtree(mended, ignore_errors=True)  # of an earlier mending that was stopped
    bank.save(mended)
    aside = _set_aside(folder.bank)
    mended.rename(folder.bank)
    kept = f"{len(bank)} tasks before it are kept" if len(bank) else "no task before it is kept"
    return bank, [f"{damage}; {kept}, the others are learned again; the damaged files are in {aside.name}"]


def _set_aside(path: Path) -> Path:
    """Rename a file or folder out of the way, and return its new name."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            path.rename(aside)
            return aside
    raise AssertionError("unreachable")

"""A bank of masks whose files a crash of the machine left damaged: the tasks before the damage are kept."""

import itertools
import shutil
from pathlib import Path

import torch
from supsup_core import CorruptBank, FrozenNetwork, MaskBank, salvage
from supsup_core.bank_manifest import MANIFEST

from supsup_methods.continual_method import WholeGroups
from supsup_methods.state_files import set_aside


def mended_bank(
    folder: Path, net: FrozenNetwork, whole_groups: WholeGroups, buffer_dtype: torch.dtype = torch.float32
) -> tuple[MaskBank, tuple[str, ...]]:
    """Return a folder's masks, each compared with its checksum; where some are damaged, the tasks before the first of them.

    Args:
        folder: of the bank; may be missing.
        net: its network.
        whole_groups: a number of tasks to how many of them were trained in groups that end there: as the last bits of a mask
            may depend on the group that it was trained in, only these are kept.
        buffer_dtype: of running statistics.

    Raises:
        NetworkMismatch: the masks were learned over another network.
    """
    mended = folder.with_name(f"{folder.name}.mended")
    if not folder.exists() and mended.exists():
        mended.rename(folder)  # an earlier mending was stopped between its last two steps
    if not folder.exists():
        return MaskBank(net, buffer_dtype), ()
    shards, is_named = len(list(folder.glob("masks-*.safetensors"))), (folder / MANIFEST).exists()
    try:
        bank = MaskBank.open(folder, net) if is_named or shards else MaskBank(net, buffer_dtype)
        bank.check()
        return bank, ()
    except CorruptBank as error:
        damage = str(error).split(";")[0]
    bank = MaskBank(net, buffer_dtype)
    try:
        found = salvage(folder, net)
    except CorruptBank:
        pass  # nothing is intact, so all is learned again
    else:
        intact = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], enumerate(found.tasks)))
        kept_tasks = whole_groups(intact)
        bank.append_rows(found.bank.rows[:kept_tasks], found.bank.buffers[:kept_tasks], found.bank.names[:kept_tasks])
        if shards == 1 and not is_named and not found.lost and kept_tasks == len(found.tasks):
            bank.save(folder)  # the first save was stopped before its last step: nothing is damaged
            return bank, ()
    shutil.rmtree(mended, ignore_errors=True)  # of an earlier mending that was stopped
    bank.save(mended)
    aside = set_aside(folder)
    mended.rename(folder)
    kept = f"{len(bank)} tasks before it are kept" if len(bank) else "no task before it is kept"
    return bank, (f"{damage}; {kept}, the others are learned again; the damaged files are in {aside.name}",)

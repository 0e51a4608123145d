"""What is left of a damaged bank."""

import os
from dataclasses import dataclass
from pathlib import Path

from supsup_core.errors import CorruptBank
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.mask_bank import MaskBank


@dataclass(frozen=True)
class Salvage:
    """The intact tasks of a damaged bank.

    Attributes:
        bank: the intact tasks, in order, in memory; one whose name is damaged has none.
        tasks: the number that each task of `bank` had.
        lost: the numbers of the tasks that are lost, as far as the files tell.
    """

    bank: MaskBank
    tasks: tuple[int, ...]
    lost: tuple[int, ...]


def salvage(folder: str | os.PathLike[str], net: FrozenNetwork) -> Salvage:
    """Return the tasks that are as they were written, whatever else is damaged in a bank's folder; it is not changed.

    Raises:
        NetworkMismatch: the masks were learned over other frozen weights than `net`'s.
        CorruptBank: there is no such folder, or nothing in it is intact.
    """
    from supsup_core import bank_manifest, bank_salvage

    try:
        dtypes = [bank_manifest.read_manifest(Path(folder)).header.buffer_dtype]
    except CorruptBank:
        dtypes = list(bank_manifest.BUFFER_DTYPES)  # the shards will tell
    for dtype in dtypes:
        found = bank_salvage.salvage(folder, bank_manifest.Header.of(net, dtype))
        if not found.tasks:
            continue
        bank = MaskBank(net, dtype)
        for row, buffers, name in found.tasks.values():
            bank.append_rows(row.unsqueeze(0), buffers.unsqueeze(0))
            if name is not None and name not in bank.names:
                bank.names[len(bank) - 1] = name
        return Salvage(bank, tuple(found.tasks), found.lost)
    raise CorruptBank(f"{folder}: no task of this network's masks is intact in it; restore it from a copy")

"""What a bank takes on disk, and what it would take by the densities of its masks alone (Table 2's bytes)."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from supsup_core.errors import CorruptBank
from supsup_core.frozen_network import FrozenNetwork
from supsup_core.mask_bank import MaskBank


@dataclass(frozen=True)
class ByteLedger:
    """The bytes of a bank's folder, and a reference beside them.

    Attributes:
        contexts: the masks, packed or entropy-coded.
        buffers: the running statistics of all tasks.
        bookkeeping: checksums, names, counts, places of streams, and the headers of the shards.
        manifest: the manifest.
        order_0: sum over tasks and layers of n H₂(k / n) / 8: the least that masks of n bits with k ones take where only
            their density is known.
    """

    contexts: int
    buffers: int
    bookkeeping: int
    manifest: int
    order_0: float

    @property
    def total(self) -> int:
        """All files of the bank."""
        return self.contexts + self.buffers + self.bookkeeping + self.manifest


def byte_ledger(folder: str | os.PathLike[str], net: FrozenNetwork) -> ByteLedger:
    """Return what the bank in a folder takes.

    Raises:
        NetworkMismatch: the masks were learned over other frozen weights than `net`'s.
        CorruptBank: the folder is not a bank, or a file is missing, truncated or altered.
    """
    from supsup_core.bank_files import manifest_version

    path = Path(folder)
    while True:
        version = manifest_version(path)
        try:
            return _as_it_is(path, net)
        except CorruptBank:
            if version == manifest_version(path):
                raise


def _as_it_is(path: Path, net: FrozenNetwork) -> ByteLedger:
    """Return what a bank takes; CorruptBank as well where a save in another process replaces its files meanwhile."""
    from supsup_core.bank_manifest import MANIFEST, read_manifest
    from supsup_core.bank_shards import tensor_bytes
    from supsup_core.bit_vectors import entropy_bits

    manifest = read_manifest(path)
    manifest_bytes = (path / MANIFEST).stat().st_size
    shards, bank = manifest.shards, MaskBank.open(path, net)  # which may have more tasks by now
    bits = sum(
        entropy_bits(int(torch.count_nonzero(mask)), mask.numel())
        for task in range(manifest.tasks)
        for mask in bank.masks(task).values()
    )
    tensors = [tensor_bytes(path / shard.file, shard) for shard in shards]
    contexts = sum(each.get(name, 0) for each in tensors for name in ("rows", "streams", "common"))
    buffers = sum(each["buffers"] for each in tensors)
    bookkeeping = sum(shard.bytes for shard in shards) - contexts - buffers
    return ByteLedger(contexts, buffers, bookkeeping, manifest_bytes, bits / 8)

"""Random streams keyed by (seed, purpose, task), so that each seed and task draws its own.

What a stream *is* (its permutations and partitions) comes from raw Philox words through a stable sort: numpy guarantees
those words for all releases, so every machine builds the same stream. What only orders training (batches) comes from a
torch generator on the CPU: the same on every device, though a new torch may draw another order. It knows 2^32 sequences, so
two of n orders are one with a probability of about n^2 / 2^33.
"""

import zlib

import numpy as np
import torch
from torch import Tensor


def permutation(seed: int, purpose: str, task: int, size: int) -> Tensor:
    """Return a uniform permutation of 0 to size - 1 as int64, the same on every machine and in every release."""
    words = np.random.Philox(_sequence(seed, purpose, task)).random_raw(size)
    return torch.from_numpy(np.argsort(words, kind="stable"))


def generator(seed: int, purpose: str, task: int) -> torch.Generator:
    """Return a CPU generator of its own for one purpose and task."""
    (word,) = _sequence(seed, purpose, task).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))


def _sequence(seed: int, purpose: str, task: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(entropy=seed, spawn_key=(zlib.crc32(purpose.encode()), task))

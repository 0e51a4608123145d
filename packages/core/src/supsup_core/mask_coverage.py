"""How much of each weight a superposition of masks lets through: sum_i α_i M^i, from packed bits (Section 3.3)."""

import torch
from jaxtyping import Float
from torch import Tensor

from supsup_core.checked_tasks import CheckedTasks
from supsup_core.packed_bits import count_ones, unpack_to

# Unpacked to floats, masks should stay near the processor's cache.
_CHUNK_FLOATS = 2**21
_TASKS_COUNTED_AT_ONCE = 256


def partial_coverage(tasks: CheckedTasks, num_bits: int, beliefs: Float[Tensor, " tasks"]) -> Float[Tensor, " bits"]:
    """Return sum_i α_i M^i over the tasks with α_i ≠ 0; in a search they all have the same belief, so bits are counted."""
    living = beliefs.nonzero().squeeze(-1)
    alike = bool((beliefs[living] == beliefs[living[0]]).all())
    coverage = torch.zeros(num_bits, dtype=beliefs.dtype, device=beliefs.device)
    for index in living.split(_TASKS_COUNTED_AT_ONCE if alike else max(1, _CHUNK_FLOATS // num_bits)):
        rows = torch.stack([tasks.row(task) for task in index.tolist()])
        if alike:
            coverage += count_ones(rows, num_bits)
        else:
            coverage += beliefs[index] @ unpack_to(rows, num_bits, beliefs.dtype)
    return coverage.mul_(beliefs[living[0]]) if alike else coverage


def coverages(tasks: CheckedTasks, num_bits: int, beliefs: Float[Tensor, "rows tasks"]) -> Float[Tensor, "rows bits"]:
    """Return sum_i α_i M^i of each row; unpacked masks never take more memory than the result, or than a chunk."""
    coverage = beliefs.new_zeros((len(beliefs), num_bits))
    start = 0
    for block in tasks.blocks(0, max(1, len(beliefs), _CHUNK_FLOATS // num_bits)):
        masks = unpack_to(block, num_bits, beliefs.dtype)
        coverage.addmm_(beliefs[:, start : start + len(block)], masks)
        start += len(block)
    return coverage

"""How much of each weight a superposition of masks lets through: sum_i α_i M^i, from packed bits (Section 3.3)."""

import torch
from jaxtyping import Float
from torch import Tensor

from supsup_core.checked_tasks import CheckedTasks
from supsup_core.mask_counts import MaskCounts
from supsup_core.packed_bits import count_ones, unpack_to

# Unpacked to floats, masks should stay near the processor's cache.
_CHUNK_FLOATS = 2**21
_TASKS_COUNTED_AT_ONCE = 256


def coverage(
    tasks: CheckedTasks, counts: MaskCounts, num_bits: int, beliefs: Float[Tensor, "*rows tasks"]
) -> Float[Tensor, "*rows bits"]:
    """Return sum_i α_i M^i for each row of beliefs: from the counts where all α are equal, else over the tasks with α_i ≠ 0.

    Where beliefs ask for a gradient, or are several rows, over all tasks.
    """
    if beliefs.ndim > 1:
        return coverages(tasks, num_bits, beliefs.flatten(0, -2)).unflatten(0, beliefs.shape[:-1])
    if beliefs.requires_grad and torch.is_grad_enabled():
        return coverages(tasks, num_bits, beliefs.unsqueeze(0)).squeeze(0)
    if bool((beliefs == beliefs[0]).all()):
        return (counts.all().to(_wide(beliefs.dtype)) * beliefs[0]).to(beliefs.dtype)
    return partial_coverage(tasks, num_bits, beliefs)


def partial_coverage(tasks: CheckedTasks, num_bits: int, beliefs: Float[Tensor, " tasks"]) -> Float[Tensor, " bits"]:
    """Return sum_i α_i M^i over the tasks with α_i ≠ 0; in a search they all have the same belief, so bits are counted."""
    living, dtype = beliefs.nonzero().squeeze(-1), beliefs.dtype
    alike = bool((beliefs[living] == beliefs[living[0]]).all())
    beliefs = beliefs.to(_wide(dtype))
    total = torch.zeros(num_bits, dtype=beliefs.dtype, device=beliefs.device)
    for index in living.split(_TASKS_COUNTED_AT_ONCE if alike else max(1, _CHUNK_FLOATS // num_bits)):
        rows = torch.stack([tasks.row(task) for task in index.tolist()])
        if alike:
            total += count_ones(rows, num_bits)
        else:
            total += beliefs[index] @ unpack_to(rows, num_bits, beliefs.dtype)
    return (total.mul_(beliefs[living[0]]) if alike else total).to(dtype)


def coverages(tasks: CheckedTasks, num_bits: int, beliefs: Float[Tensor, "rows tasks"]) -> Float[Tensor, "rows bits"]:
    """Return sum_i α_i M^i of each row; unpacked masks never take more memory than the sums, or than a chunk."""
    dtype, beliefs = beliefs.dtype, beliefs.to(_wide(beliefs.dtype))
    total = beliefs.new_zeros((len(beliefs), num_bits))
    start = 0
    for block in tasks.blocks(0, max(1, len(beliefs), _CHUNK_FLOATS // num_bits)):
        masks = unpack_to(block, num_bits, beliefs.dtype)
        total.addmm_(beliefs[:, start : start + len(block)], masks)
        start += len(block)
    return total.to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type to sum in: over some hundred blocks of tasks, half precision loses the sum."""
    return torch.promote_types(dtype, torch.float32)

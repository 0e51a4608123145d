"""What a method's storage comes to: as Table 2 of the paper counts, as files, and for masks as short as they can be.

Table 2's convention, from its figures (CIFAR ResNet-18, 20 tasks), which `paper_bytes` gives to the byte:

- weights and vectors take 4 bytes each; what comes from a seed, such as random weights, takes nothing;
- the last layer is a head, of which each task has its own, and the rest is the trunk;
- rank-one vectors are on the trunk alone where tasks have heads, else on all layers;
- running statistics take 2 bytes each, so that mean and variance of a channel take 4 for each task.

Two rows depart from it: BatchE over a trained trunk counts no running statistics, and each model of the upper bound counts those
of all tasks. They are counted as printed, with a note. Methods without a row are counted by the same convention. The rows of
SupSup follow from no formula that we know, so that it has no figure of this kind, and `csc_estimate` beside its own bytes.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Int64
from supsup_core import ByteLedger, FrozenNetwork, MaskableParameter, MaskBank, byte_ledger
from torch import Tensor

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.dense_training import FLOAT_BYTES
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.psp import PspSettings
from supsup_methods.registry import MethodSettings, kind_of
from supsup_methods.separate_heads import SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.upper_bound import UpperBoundSettings

_STATISTIC_BYTES = 2  # Table 2 allows for 4 a channel and task, which are a mean and a variance
_ROWS_AT_ONCE = 256  # of masks that are copied from bank to bank


@dataclass(frozen=True)
class PaperBytes:
    """What Table 2's convention gives for a method.

    Attributes:
        parts: bytes of all tasks, by what they are for.
        row: the entry of Table 2 that is counted so; None where there is none, and the convention is ours to apply.
        note: where the paper's row departs from its own convention; else empty.
    """

    parts: Mapping[str, int]
    row: str | None = None
    note: str = ""

    @property
    def total(self) -> int:
        """All parts together, in bytes."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class LayerDensity:
    """The share of ones in the masks of a layer: the least, the mean and the most over tasks, as fractions."""

    layer: str
    weights: int
    least: float
    mean: float
    most: float


@dataclass(frozen=True)
class MaskAccount:
    """What a bank of masks takes, in bytes.

    Attributes:
        masks: how many there are.
        packed: a bit a weight, in whole 64-bit words.
        packed_buffers: running statistics as the bank keeps them.
        coded: the bank's folder with entropy-coded masks, by the dtype of running statistics: float16 if it holds them, and
            float32 where the bank has it. A network without running statistics has one, of the bank's own dtype.
        csc: an estimate, see `csc_estimate`.
        densities: of each layer.
    """

    masks: int
    packed: int
    packed_buffers: int
    coded: Mapping[torch.dtype, ByteLedger]
    csc: int
    densities: tuple[LayerDensity, ...]


def paper_bytes(settings: MethodSettings, net: FrozenNetwork, tasks: int) -> PaperBytes | None:
    """Return what Table 2's convention gives for so many tasks, from a network that may be on the meta device.

    None for masks over weights: the paper stores them as scipy.sparse.csc, in a way that its figures do not tell. None for what
    the paper knows nothing of.
    """
    counted = _CONVENTIONS.get(type(settings))
    return None if counted is None else counted(settings, net, tasks)


def file_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def mask_account(net: FrozenNetwork, bank: MaskBank) -> MaskAccount:
    """Return what a bank of at least one mask takes, entropy-coded in a temporary folder to know."""
    ones = _ones(net, bank)
    densities = tuple(
        LayerDensity(entry.name, entry.size, *(float(value) / entry.size for value in _least_mean_most(column)))
        for entry, column in zip(net.maskable, ones.T, strict=True)
    )
    kept = bank.buffers.dtype
    # Rounded statistics do not come back, so a bank of float16 is shown as it is.
    narrower = (torch.float16,) if net.task_buffers and kept != torch.float16 and holds(torch.float16, bank) else ()
    coded = {dtype: _coded(net, with_statistics_as(net, bank, dtype)) for dtype in (*narrower, kept)}
    return MaskAccount(len(bank), bank.context_bytes, bank.buffer_bytes, coded, csc_estimate(net, ones), densities)


def holds(dtype: torch.dtype, bank: MaskBank) -> bool:
    """Tell whether a dtype's range holds all running statistics of a bank."""
    return bool((bank.buffers.abs() <= torch.finfo(dtype).max).all())


def with_statistics_as(net: FrozenNetwork, bank: MaskBank, dtype: torch.dtype) -> MaskBank:
    """Return a bank with the same masks, its running statistics rounded to a dtype.

    Raises:
        InvalidArgument: the dtype does not hold them.
    """
    if bank.buffers.dtype == dtype:
        return bank
    copy, buffers = MaskBank(net, dtype), bank.buffers
    for rows in bank.blocks(_ROWS_AT_ONCE):
        copy.append_rows(rows, buffers[len(copy) : len(copy) + len(rows)])
    return copy


def above(stored_bytes: float, reference_bytes: float) -> float | None:
    """Return by which fraction of a reference something takes more than it; None where the reference is 0."""
    return stored_bytes / reference_bytes - 1 if reference_bytes else None


def csc_estimate(net: FrozenNetwork, ones: Int64[Tensor, "tasks layers"]) -> int:
    """Return about what scipy.sparse.csc takes for masks with so many ones, in bytes: an estimate, not the paper's figure.

    A layer with N ones is a matrix with a column for each output: N row numbers and (outputs + 1) places where columns begin, of
    16 bits each where the layer's numbers fit in, else of 32, and no values, as all are 1. Running statistics are as in Table 2.
    For the paper's network, budgets and tasks that is 295,760 at c = 1, where it prints 408,432, and 3,436,640 at c = 32, where
    it prints 2,487,472.
    """
    total = _statistics(net, len(ones))
    for entry, column in zip(net.maskable, ones.T.tolist(), strict=True):
        outputs = entry.shape[0]
        for count in column:
            width = 2 if max(count, entry.size // outputs - 1) < 2**16 else 4
            total += width * (count + outputs + 1)
    return total


def _coded(net: FrozenNetwork, bank: MaskBank) -> ByteLedger:
    with tempfile.TemporaryDirectory() as folder:
        bank.save(folder, compact=True)
        return byte_ledger(folder, net)


def _ones(net: FrozenNetwork, bank: MaskBank) -> Int64[Tensor, "tasks layers"]:
    """Count the ones of each mask and layer."""
    counts = [[int(mask.sum()) for mask in bank.masks(task).values()] for task in range(len(bank))]
    return torch.tensor(counts, dtype=torch.int64).view(len(bank), len(net.maskable))


def _least_mean_most(column: Int64[Tensor, " tasks"]) -> tuple[float, float, float]:
    return float(column.min()), float(column.double().mean()), float(column.max())


def _floats(*entries: MaskableParameter) -> int:
    """Return the bytes of weights."""
    return FLOAT_BYTES * sum(entry.size for entry in entries)


def _statistics(net: FrozenNetwork, tasks: int) -> int:
    """Return the bytes of all tasks' running statistics."""
    return _STATISTIC_BYTES * tasks * sum(entry.size for entry in net.task_buffers)


def _masks_over_weights(settings: SupSupSettings | UnknownTasksSettings, net: FrozenNetwork, tasks: int) -> None:
    return


def _batch_ensemble(settings: BatchESettings, net: FrozenNetwork, tasks: int) -> PaperBytes:
    heads, shared = (net.maskable[-1:], net.maskable[:-1]) if settings.last_layer == "head" else ((), net.maskable)
    vectors = FLOAT_BYTES * tasks * sum(sum(entry.shape[:2]) for entry in shared)
    own = {"rank-one vectors": vectors, "heads": tasks * _floats(*heads)}
    if settings.trunk == "random":
        parts, row, note = {**own, "running statistics": _statistics(net, tasks)}, "BatchE (GG) - Rand W", ""
    else:
        parts, row, note = {"trained weights": _floats(*shared), **own}, "BatchE (GG)", ""
        if net.task_buffers:
            note = f"counted as printed, without running statistics: they would add {_statistics(net, tasks):,}"
    return PaperBytes(parts, row if heads else None, note)


def _separate_heads(settings: SeparateHeadsSettings, net: FrozenNetwork, tasks: int) -> PaperBytes:
    parts = {"heads": tasks * _floats(net.maskable[-1]), "running statistics": _statistics(net, tasks)}
    if settings.trunk == "random":
        return PaperBytes(parts, "Separate Heads - Rand W")
    return PaperBytes({"trained weights": _floats(*net.maskable[:-1]), **parts}, "Separate Heads")


def _upper_bound(settings: UpperBoundSettings, net: FrozenNetwork, tasks: int) -> PaperBytes:
    parts = {
        "trained weights": tasks * _floats(*net.maskable[:-1]),
        "heads": tasks * _floats(net.maskable[-1]),
        "running statistics": tasks * _statistics(net, tasks),
    }
    note = ""
    if net.task_buffers:
        once = sum(parts.values()) - (tasks - 1) * _statistics(net, tasks)
        note = f"counted as printed, each model with the running statistics of all tasks: with its own alone it is {once:,}"
    return PaperBytes(parts, "Upper Bound", note)


def _lower_bound(settings: LowerBoundSettings, net: FrozenNetwork, tasks: int) -> PaperBytes:
    return PaperBytes(
        {
            "trained weights": _floats(*settings.common(net)),
            "heads": tasks * _floats(*settings.own(net)),
            "running statistics": _statistics(net, tasks),
        }
    )


def _psp(settings: PspSettings, net: FrozenNetwork, tasks: int) -> PaperBytes:
    return PaperBytes({"trained weights": _floats(*net.maskable)})  # rotations come from seeds


def _hopsupsup(settings: HopSupSupSettings, net: FrozenNetwork, tasks: int) -> PaperBytes:
    # Floats alone, as the method itself counts them: half of each symmetric Ψ, and μ.
    return PaperBytes({"reservoir": kind_of(settings).stored_bytes(settings, net, tasks)})


_CONVENTIONS: Mapping[type[Any], Callable[[Any, FrozenNetwork, int], PaperBytes | None]] = MappingProxyType(
    {
        SupSupSettings: _masks_over_weights,
        UnknownTasksSettings: _masks_over_weights,
        HopSupSupSettings: _hopsupsup,
        BatchESettings: _batch_ensemble,
        PspSettings: _psp,
        SeparateHeadsSettings: _separate_heads,
        UpperBoundSettings: _upper_bound,
        LowerBoundSettings: _lower_bound,
    }
)
"""How a method's bytes are counted, by the type of its settings: every one of ours has its line."""

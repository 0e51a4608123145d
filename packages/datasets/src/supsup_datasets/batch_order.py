"""Which images make which batch: drawn on the CPU from a generator of each task's own, before any image is touched."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from supsup_datasets.augmentation import Augmentation
from supsup_datasets.errors import DatasetError


def planned_batches(
    count: int,
    batch_size: int,
    batches: int,
    generators: Sequence[torch.Generator],
    augmentation: Augmentation | None,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield for each batch the image indices of every task and what its augmentation draws.

    Each task draws from its own generator what it would draw alone: at the start of an epoch one permutation of its
    images, then for each batch in turn the draws of the augmentation. An epoch's last, smaller batch counts as one.

    Args:
        count: images of each task.
        batch_size: images in a batch.
        batches: how many batches to yield.
        generators: CPU generators, one for each task.
        augmentation: what draws for each batch, or None.
        device: where the results are put.

    Yields:
        indices: int64 of shape (tasks, images).
        draws: of shape (tasks, images, ...), or None without augmentation.
    """
    _check(batch_size, generators)
    produced = 0
    while produced < batches:
        orders = torch.stack([torch.randperm(count, generator=generator, device="cpu") for generator in generators]).to(
            device
        )
        for indices in orders.split(batch_size, dim=1)[: batches - produced]:
            draws = None
            if augmentation is not None:
                size = indices.shape[1]
                draws = torch.stack([augmentation.draw(size, generator) for generator in generators]).to(device)
            produced += 1
            yield indices, draws


def ordered_batches(count: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the indices 0 to count - 1 in order, `batch_size` at a time; the last batch may be smaller."""
    _check(batch_size, ())
    yield from torch.arange(count, device="cpu").to(device).split(batch_size)


def mixed_batches(count: int, batch_size: int, device: torch.device, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices 0 to count - 1 as drawn, `batch_size` at a time; the last batch may be smaller."""
    _check(batch_size, (generator,))
    yield from torch.randperm(count, generator=generator, device="cpu").to(device).split(batch_size)


def _check(batch_size: int, generators: Sequence[torch.Generator]) -> None:
    if batch_size < 1:
        raise DatasetError(f"batch_size={batch_size}: a batch has at least one image; ask for more")
    for generator in generators:
        if not isinstance(generator, torch.Generator):
            raise DatasetError(f"generator={generator!r}: it draws the order of images; pass a torch.Generator")
    if any(generator.device.type != "cpu" for generator in generators):
        raise DatasetError("generator: it lives on an accelerator; pass a CPU generator, which all devices share")
    if len({id(generator) for generator in generators}) != len(generators):
        raise DatasetError("generators: two tasks share one; pass each task a generator of its own")

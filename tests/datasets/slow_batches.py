"""The obvious way to make batches, kept as the oracle of the fast one: a task's images and order must never change a bit."""

import torch


def slow_batch(base, normalization, order, indices):
    """Index, permute and normalise one step after the other; returns images and labels."""
    pixels = base.images[indices]
    if order is not None:
        pixels = pixels.flatten(2)[:, :, order].view_as(pixels)
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (normalization.mean, normalization.std))
    return pixels.to(torch.float32).div(255.0).sub(mean).div(std), base.labels[indices]


def slow_order(count, batch_size, batches, generator):
    """Yield the indices of shuffled batches: epoch after epoch, each a permutation, the last smaller batch used."""
    produced = 0
    while produced < batches:
        for indices in torch.randperm(count, generator=generator).split(batch_size)[: batches - produced]:
            yield indices
            produced += 1

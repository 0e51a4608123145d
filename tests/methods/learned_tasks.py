"""Four permuted tasks small enough to learn in a blink, and the masks that were learned on them, for tests that guess tasks."""

import functools

import torch
from supsup_core import FrozenNetwork, MaskBank
from supsup_datasets import ImageDataset, LabelledImages, Normalization, PermutedStream
from supsup_methods.backbones import fully_connected
from supsup_methods.mask_rules import fresh_scores
from supsup_methods.mask_training import train_threshold_mask

LABELS = 3


def _labelled(count: int, seed: int) -> LabelledImages:
    """Noise around three mean images of 4 × 5 pixels."""
    means = torch.randint(40, 216, (LABELS, 1, 4, 5), generator=torch.Generator().manual_seed(99))
    noise = torch.randint(-40, 40, (count, 1, 4, 5), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % LABELS
    return LabelledImages((means[labels] + noise).to(torch.uint8), labels, LABELS)


def permuted_tasks(tasks: int = 4) -> PermutedStream:
    normalization = Normalization((0.5,), (0.25,))
    return PermutedStream(ImageDataset("blobs", _labelled(120, 0), _labelled(63, 1), normalization), tasks, seed=0)


@functools.cache
def learned_bank(tasks: int = 4) -> tuple[FrozenNetwork, MaskBank]:
    """Return the network and a mask a task; they are shared between tests: look, do not append."""
    net = FrozenNetwork(fully_connected(20, (64, 32), 12), seed=0)
    bank = MaskBank(net)
    for index in range(tasks):
        batches = permuted_tasks(tasks)[index].train.shuffled(20, 60, torch.Generator().manual_seed(index))
        bank.append(train_threshold_mask(net, fresh_scores(net, 0, index), batches, 0.02))
    return net, bank

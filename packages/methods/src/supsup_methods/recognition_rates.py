"""Telling tasks that were never learned from those that were: how often that goes wrong, by threshold (scenario NNs at test).

A false alarm calls a learned task unknown, a miss takes an unknown one for learned. Both depend on ε (`supsup_core.novelty`): the
higher it is, the more is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from supsup_core import FrozenNetwork, MaskBank, Recognitions, entropy, recognise_each
from supsup_datasets import Task

from supsup_methods.evaluation import evaluation_batches
from supsup_methods.mask_training import fresh_mask

EPSILONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class Rates:
    """How often the answer was wrong, at a threshold.

    Attributes:
        epsilon: ε.
        false_alarms: fraction of the guesses on learned tasks that said "unknown".
        misses: fraction of the guesses on unknown tasks that named a mask.
        known_guesses: how many there were on learned tasks.
        unknown_guesses: how many there were on unknown tasks.
    """

    epsilon: float
    false_alarms: float
    misses: float
    known_guesses: int
    unknown_guesses: int


def recognition_rates(
    net: FrozenNetwork,
    bank: MaskBank,
    seed: int,
    known: Sequence[Task],
    unknown: Sequence[Task],
    batch_size: int,
    images_per_guess: int,
    epsilons: Sequence[float] = EPSILONS,
) -> list[Rates]:
    """Return the rates at each ε over test batches, each told by its first `images_per_guess` images.

    Args:
        net: the network.
        bank: the masks of the learned tasks.
        seed: decides the fresh mask: the one that the next task would start from.
        known: tasks that were learned.
        unknown: tasks that were not.
        batch_size: test images that belong together.
        images_per_guess: of these, at most so many.
        epsilons: thresholds.
    """
    fresh = fresh_mask(net, seed, len(bank))

    def shown(task: Task) -> Recognitions:
        # A last, smaller batch is told by fewer images, which are not a group of this size.
        guesses = [batch.images[:images_per_guess] for batch in evaluation_batches(task, batch_size)]
        whole = [images for images in guesses if len(images) == len(guesses[0])]
        return recognise_each(entropy, net, bank, fresh, torch.cat(whole), len(guesses[0]))

    on_known, on_unknown = ([shown(task) for task in tasks] for tasks in (known, unknown))
    rates = []
    for epsilon in epsilons:
        alarms = [answer is None for found in on_known for answer in found.tasks(epsilon)]
        misses = [answer is not None for found in on_unknown for answer in found.tasks(epsilon)]
        rates.append(Rates(epsilon, _share(alarms), _share(misses), len(alarms), len(misses)))
    return rates


def _share(wrong: Sequence[bool]) -> float:
    return sum(wrong) / len(wrong)

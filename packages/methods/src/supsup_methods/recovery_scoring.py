"""Scoring a mask that was recovered for a task's test images, beside the right one (Figures 7 and 8)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from supsup_core import Masks
from supsup_datasets import Scenario, Task, Unlabelled, joined
from supsup_datasets.seeds import generator

from supsup_methods.continual_method import FEWEST_IMAGES, Recovered, RecoversMasks


@dataclass(frozen=True)
class RecoveryTrace:
    """The way of one recovery, step by step, for figures.

    The values of a step are those that it saw, the distances those after it.
    """

    entropy: tuple[float, ...]
    """H of the outputs, in nats."""
    energy: tuple[float, ...]
    """E of the binarised string, summed over layers."""
    objective: tuple[float, ...]
    """J of Eq. 7."""
    distances: dict[str, tuple[int, ...]] | None = None
    """By layer, how many units differ from the right mask; None where the right masks are gone."""
    right_mask_accuracy: float | None = None
    """Fraction of the test images that are right under the right mask; None where the right masks are gone."""

    @property
    def steps_to_right(self) -> int | None:
        """After how many steps the mask was the right one for good; None if it never was, or the right masks are gone."""
        if self.distances is None:
            return None
        off = [step for step, left in enumerate(zip(*self.distances.values(), strict=True), start=1) if any(left)]
        last = off[-1] if off else 0
        return None if last == len(self.entropy) else last + 1


@dataclass(frozen=True)
class RecoveryScore:
    """What came of recovering the mask of one task.

    Attributes:
        images: tested.
        images_right: under the recovered mask.
        nearest: the task whose right mask is nearest to the one that was found; None where the right masks are gone.
        exact: whether the two are the same; None where the right masks are gone.
    """

    images: int
    images_right: int
    nearest: int | None
    exact: bool | None
    trace: RecoveryTrace


def score_recovery(
    method: RecoversMasks,
    task: Task,
    scenario: Scenario,
    batch_size: int,
    on_batch: Callable[[], None] = lambda: None,
) -> RecoveryScore:
    """Have the method recover a mask for the task's unlabelled test images, and score its answers under that mask.

    What the method sees is images. Labels, the true task and the right masks come in afterwards.
    """
    found = method.recover(Unlabelled(task.test))
    right = _count_right(method, task, found.masks, scenario, batch_size, on_batch)
    kept = method.right_masks
    if kept is None:
        return RecoveryScore(len(task.test), right, None, None, _trace(found))
    wanted = kept[task.index]
    under_right = _count_right(method, task, wanted, scenario, batch_size, lambda: None)
    distances = [sum(hamming_distances(found.masks, masks).values()) for masks in kept]
    trace = _trace(found, wanted, under_right / len(task.test))
    nearest = distances.index(min(distances))
    return RecoveryScore(len(task.test), right, nearest, distances[task.index] == 0, trace)


def hamming_distances(some: Masks, other: Masks) -> dict[str, int]:
    """Return by layer in how many units two masks differ."""
    return {name: int((mask.flatten() != other[name].flatten()).sum()) for name, mask in some.items()}


def _trace(found: Recovered, wanted: Masks | None = None, right_mask_accuracy: float | None = None) -> RecoveryTrace:
    distances = None if wanted is None else _by_layer([hamming_distances(step.masks, wanted) for step in found.steps])
    return RecoveryTrace(
        tuple(step.entropy for step in found.steps),
        tuple(step.energy for step in found.steps),
        tuple(step.objective for step in found.steps),
        distances,
        right_mask_accuracy,
    )


def _by_layer(steps: Sequence[dict[str, int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(step[name] for step in steps) for name in steps[0]}


def _count_right(
    method: RecoversMasks,
    task: Task,
    masks: Masks,
    scenario: Scenario,
    batch_size: int,
    on_batch: Callable[[], None],
) -> int:
    right = torch.zeros((), dtype=torch.int64, device=task.test.labels.device)
    order = generator(0, "test order", task.index)
    for batch in joined(task.test.mixed(batch_size, order), FEWEST_IMAGES):
        predicted = method.logits_under(batch.images, masks).argmax(dim=-1)
        right += scenario.right(predicted, batch.labels, answered_task=None, true_task=task.index).sum()
        on_batch()
    return int(right)

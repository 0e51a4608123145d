"""How masks that were allocated without being told the task go with the true tasks; the truth is used here, to score, alone."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from supsup_datasets import TaskStream

from supsup_methods.continual_method import Decision
from supsup_methods.training_length import Length, TrainingLength


@dataclass(frozen=True)
class Stretch:
    """A part of the stream under one mask: from a decision to the next, or to where the true task changes."""

    first_batch: int
    batches: int
    mask: int
    task: int
    """The true one."""
    new: bool
    ratio: float


@dataclass(frozen=True)
class Bookkeeping:
    """Masks beside true tasks, over a stream so far.

    Attributes:
        masks: how many were allocated.
        tasks: how many true tasks there were.
        purity: fraction of the batches that went to a mask of their own task, the one that most of the mask's batches came from.
        duplicates: masks whose owner has another, older mask.
        tasks_without_mask: true tasks that own none.
        delay_batches: mean number of batches from where a task begins, or comes back, to where a mask of its own is trained; over
            those that got one before they ended, without the first task of all. None if there is none. Where tasks begin at a
            decision, as in the paper, it can be 0.
        missed: beginnings of tasks, and comings back, that never got a mask of their own.
    """

    masks: int
    tasks: int
    purity: float
    duplicates: int
    tasks_without_mask: int
    delay_batches: float | None
    missed: int


def stretches_of(decisions: Sequence[Decision], stream: TaskStream, length: Length, learned: int) -> list[Stretch]:
    """Return the parts of a stream with the mask that each was learned by, and its true task.

    Args:
        decisions: in turn, the first before batch 0.
        stream: the true tasks.
        length: how long each is trained.
        learned: how many of them were learned from.
    """
    if isinstance(length, TrainingLength) and length.epochs is None:
        batches = [length.batches] * learned
    else:
        batches = [length.steps(len(stream[index].train)) for index in range(learned)]
    return stretches(decisions, [stream.identity(index) for index in range(learned)], batches)


def stretches(decisions: Sequence[Decision], identities: Sequence[int], batches: Sequence[int]) -> list[Stretch]:
    """Return the parts of the stream, cut where a decision was made and where the true task changes.

    Args:
        decisions: in turn, the first before batch 0.
        identities: the true task of each stretch of the stream, as far as it was learned from.
        batches: how many training batches each has.
    """
    ends = list(accumulate(batches))
    parts = []
    for decision, following in zip(decisions, [*(each.batch for each in decisions[1:]), sum(batches)], strict=True):
        start = decision.batch
        while start < following:
            place = bisect_right(ends, start)
            stop = min(following, ends[place])
            new = decision.new and start == decision.batch
            parts.append(Stretch(start, stop - start, decision.mask, identities[place], new, decision.ratio))
            start = stop
    return parts


def mask_owners(parts: Sequence[Stretch]) -> dict[int, int]:
    """Return for each mask the true task that most of its batches came from; of equals, the first."""
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for part in parts:
        counts[part.mask][part.task] += part.batches
    return {mask: tasks.most_common(1)[0][0] for mask, tasks in sorted(counts.items())}


def keep_books(parts: Sequence[Stretch]) -> Bookkeeping:
    """Return how the masks go with the true tasks."""
    owners, tasks = mask_owners(parts), {part.task for part in parts}
    pure = sum(part.batches for part in parts if owners[part.mask] == part.task)
    delays, missed = _delays(parts, owners)
    return Bookkeeping(
        masks=len(owners),
        tasks=len(tasks),
        purity=pure / sum(part.batches for part in parts),
        duplicates=len(owners) - len(set(owners.values())),
        tasks_without_mask=len(tasks - set(owners.values())),
        delay_batches=sum(delays) / len(delays) if delays else None,
        missed=missed,
    )


def _delays(parts: Sequence[Stretch], owners: Mapping[int, int]) -> tuple[list[int], int]:
    """Return how long each beginning of a task waited for a mask of its own, and how many never got one."""
    delays, missed = [], 0
    begun, waiting = 0, False
    before: int | None = None
    for part in parts:
        if part.task != before:
            missed += waiting
            begun, waiting, before = part.first_batch, True, part.task
        if waiting and owners[part.mask] == part.task:
            if begun > 0:
                delays.append(part.first_batch - begun)
            waiting = False
    return delays, missed + waiting

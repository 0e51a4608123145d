"""Scores of continual learning over a run: what was lost of earlier tasks, and what was gained.

With a(l, i) the accuracy on task i after l tasks, as far as it was measured, and a(i) that just after task i was learned:

    forgetting        F   = mean over earlier tasks i of  max over l < T of a(l, i)  -  a(T, i)
    backward transfer BWT = mean over earlier tasks i of  a(T, i) - a(i)

Both in fractions; F is negative where tasks became better. It counts the first test among the a(l, i); where only a checkpoint or
two lie between, it is a lower bound.
"""

from collections.abc import Mapping, Sequence

from supsup_methods.evaluation import Checkpoint, TaskScore


def forgetting(checkpoints: Sequence[Checkpoint], first: Mapping[int, TaskScore], last: Checkpoint) -> float | None:
    """Return F at a checkpoint, from those before it and the first tests; None with a single task or where tests are missing."""
    earlier = [each for each in checkpoints if each.tasks_learned < last.tasks_learned]
    losses = []
    for score in last.scores[:-1]:
        if score.task not in first:
            return None
        known = [first[score.task].accuracy]
        known += [each.scores[score.task].accuracy for each in earlier if each.tasks_learned > score.task]
        losses.append(max(known) - score.accuracy)
    return sum(losses) / len(losses) if losses else None


def backward_transfer(first: Mapping[int, TaskScore], last: Checkpoint) -> float | None:
    """Return BWT at a checkpoint; None with a single task or where first tests are missing."""
    if any(score.task not in first for score in last.scores[:-1]):
        return None
    gains = [score.accuracy - first[score.task].accuracy for score in last.scores[:-1]]
    return sum(gains) / len(gains) if gains else None

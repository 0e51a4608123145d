"""What a guess of the task costs, measured against the number of tasks to choose from."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from jaxtyping import Shaped
from supsup_core import ContextStore, InvalidArgument, MaskBank, entropy, every_task, one_shot
from torch import Tensor

from supsup_methods.continual_method import AnyMethod, OverContexts

ONE_SHOT, EVERY_TASK = "One-Shot, one gradient", "every task's network in turn"
_SEARCHES: Mapping[str, Callable[..., object]] = {ONE_SHOT: one_shot, EVERY_TASK: every_task}
_LEAST_SECONDS = 0.1  # of repeats of a guess, whose median is taken
_LONG_SECONDS = 1.0  # what takes so long is not repeated
_FEWEST_REPEATS, _MOST_REPEATS = 3, 200


@dataclass(frozen=True)
class GuessCost:
    """What a guess takes.

    Attributes:
        search: which.
        tasks: to choose from.
        seconds: the median of repeats.
    """

    search: str
    tasks: int
    seconds: float


def doubling(most: int) -> list[int]:
    """Return 1, 2, 4, ... up to the most, which is the last whether it is a power of two or not.

    >>> doubling(10)
    [1, 2, 4, 8, 10]
    """
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def guess_costs(method: AnyMethod, images: Shaped[Tensor, "images *input"]) -> Iterator[GuessCost]:
    """Yield what One-Shot by H costs, and trying every task, for more and more of a method's contexts (see `doubling`).

    Args:
        method: over contexts, which are masks or vectors.
        images: that one guess is made from, on the method's device.

    Raises:
        InvalidArgument: the method keeps no contexts to search, or none yet.
    """
    if not isinstance(method, OverContexts) or len(method.bank) == 0:
        raise InvalidArgument(
            "method: it keeps no contexts to search, or none yet; choose a run of SupSup or BatchE that has learned a task"
        )
    net, bank = method.net, method.bank
    for tasks in doubling(len(bank)):
        if tasks == len(bank):
            store: ContextStore = bank
        elif isinstance(bank, MaskBank):  # in NNs there are not as many of them as tasks
            some = MaskBank(net, bank.buffers.dtype)
            some.append_rows(bank.rows[:tasks], bank.buffers[:tasks])
            store = some
        else:
            earlier = method.first(tasks)
            if not isinstance(earlier, OverContexts):
                raise AssertionError("unreachable: methods over contexts keep all of their earlier states")
            net, store = earlier.net, earlier.bank
        for name, search in _SEARCHES.items():
            yield GuessCost(name, tasks, median_seconds(partial(search, entropy, net, store, images)))


def median_seconds(run: Callable[[], object]) -> float:
    """Return the median of the seconds that something takes, after a first time; that time itself where it is long enough."""
    first = _timed(run)
    if first >= _LONG_SECONDS:
        return first
    taken: list[float] = []
    while len(taken) < _FEWEST_REPEATS or (sum(taken) < _LEAST_SECONDS and len(taken) < _MOST_REPEATS):
        taken.append(_timed(run))
    return statistics.median(taken)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start

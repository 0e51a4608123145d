"""What `supsup-eval` asks of masks as a set: do they tell unknown tasks apart, and are there several for one task?"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from supsup_core import MaskBank
from supsup_datasets import Scenario, Task, TaskStream
from supsup_datasets.seeds import generator
from torch import Tensor

from supsup_methods.continual_method import AllocatesMasks
from supsup_methods.data_assembly import build_stream
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import evaluate_task
from supsup_methods.experiment import PermutedMnist, RecurringPermutedMnist
from supsup_methods.mask_merging import merge_masks
from supsup_methods.recognition_rates import recognition_rates
from supsup_methods.registry import inference_of
from supsup_methods.runs import Run
from supsup_methods.supsup import SupSup, SupSupSettings

_BATCHES_A_TASK = 4  # that merging looks at


@dataclass(frozen=True)
class Asked:
    """How a question is put.

    Attributes:
        tasks: how many learned tasks are shown.
        batch_size: test images that belong together.
        images_per_guess: of these, those that a guess is made from.
    """

    tasks: int
    batch_size: int
    images_per_guess: int


def refuse_no_more_tasks(run: Run, unknown: int) -> None:
    """Check that a run's stream goes on behind the tasks that it learned.

    Raises:
        UsageError: it does not.
    """
    if not isinstance(run.recipe.stream, PermutedMnist | RecurringPermutedMnist):
        raise UsageError(
            f"--unknown-tasks {unknown}: {run.recipe.stream.kind} has only so many tasks; choose a run of permuted-mnist, which "
            "goes on for ever"
        )


def ask_about_unknown(console: Console, run: Run, asked: Asked, unknown: int) -> list[dict[str, Any]]:
    """Show learned and never learned tasks, print how often they were told apart wrongly at each ε, and return it."""
    known, more = _known(run, asked.tasks), _never_learned(run, unknown)
    rates = recognition_rates(
        run.network, run.bank, run.recipe.seed, known, more, asked.batch_size, asked.images_per_guess
    )
    table = Table(
        title=f"{len(known)} learned tasks and {unknown} unknown ones, told by {asked.images_per_guess} images"
    )
    for column in ("ε", "false alarms", "of", "misses", "of "):
        table.add_column(column, justify="right")
    for rate in rates:
        alarms, misses = f"{rate.false_alarms:.2%}", f"{rate.misses:.2%}"
        table.add_row(
            f"1/{round(1 / rate.epsilon)}", alarms, str(rate.known_guesses), misses, str(rate.unknown_guesses)
        )
    console.print(table)
    return [asdict(rate) for rate in rates]


def ask_to_merge(console: Console, run: Run, asked: Asked, epsilon: float) -> tuple[dict[str, Any], MaskBank]:
    """Merge the masks that serve one task, print masks and accuracy before and after, and return that and the bank.

    Which these are, some unlabelled training images tell; accuracy is that on test images.
    """
    known = _known(run, asked.tasks)
    batches = (images for task in known for images in _training_images(run, task, asked.batch_size))
    merged = merge_masks(run.network, run.bank, run.recipe.seed, batches, _trained(run), epsilon)
    found: dict[str, Any] = {
        "masks": {"before": len(run.bank), "after": len(merged.bank)},
        "accuracy": {
            "before": _accuracy(run, run.bank, known, asked),
            "after": _accuracy(run, merged.bank, known, asked),
        },
        "dropped": {str(mask): stand_in for mask, stand_in in merged.dropped.items()},
    }
    table = Table(title=f"Masks that serve one task, merged at ε = {epsilon:g}")
    for column in ("", "masks", "accuracy, NNs"):
        table.add_column(column, justify="left" if column == "" else "right")
    for when in ("before", "after"):
        table.add_row(when, str(found["masks"][when]), f"{found['accuracy'][when]:.2%}")
    console.print(table)
    return found, merged.bank


def _training_images(run: Run, task: Task, batch_size: int) -> Iterator[Tensor]:
    """Yield a few batches of a task's training images, in mixed order."""
    order = generator(run.recipe.seed, "merging", task.identity)
    for batch in itertools.islice(task.train.mixed(batch_size, order), _BATCHES_A_TASK):
        yield batch.images


def _known(run: Run, tasks: int) -> list[Task]:
    """Return the first tasks of a run's stream, each once."""
    first = {task.identity: task for task in (run.stream[index] for index in reversed(range(tasks)))}
    return [first[identity] for identity in sorted(first)]


def _never_learned(run: Run, unknown: int) -> list[Task]:
    """Return tasks that the stream would have had next, had it been longer."""
    stream = run.recipe.stream
    known = stream.distinct if isinstance(stream, RecurringPermutedMnist) else run.recipe.tasks
    longer: TaskStream = build_stream(replace(run.recipe, stream=PermutedMnist(), tasks=known + unknown), run.dataset)
    return [longer[index] for index in range(known, known + unknown)]


def _trained(run: Run) -> dict[int, int]:
    """Return the decisions in favour of each mask: how long each was trained; nothing where each is a task's own."""
    method = run.method
    return Counter(each.mask for each in method.decisions) if isinstance(method, AllocatesMasks) else {}


def _accuracy(run: Run, bank: MaskBank, tasks: list[Task], asked: Asked) -> float:
    """Return the accuracy in NNs, where a label is right whatever mask it came from."""
    inference = inference_of(run.recipe.method)
    if inference is None:
        raise AssertionError("unreachable: whoever has masks searches them")
    settings = SupSupSettings(inference=inference)
    method = SupSup(run.network, bank, settings, tasks[0].num_labels, run.recipe.seed)
    scores = [evaluate_task(method, task, Scenario.NNs, asked.batch_size) for task in tasks]
    return sum(score.accuracy for score in scores) / len(scores)

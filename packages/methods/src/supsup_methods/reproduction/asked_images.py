"""Beyond the paper: how much hangs on which image of a test batch is asked for the task.

The paper infers the task of a test batch from one image, so a run asks the first of each batch: of 10,000 images, 79. Were all
tasks tested in the order of the data, these would be the same for every task, moved as each moves its pixels, and one that
misleads would mislead under many tasks; so every task has an order of its own (`evaluation.evaluation_batches`). Here the same
masks are asked by the second image of each batch, by the third, and so on.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from supsup_core import MaskBank, entropy, one_shot_each
from supsup_datasets import Task

from supsup_methods.evaluation import evaluation_batches
from supsup_methods.recipes import RECIPES
from supsup_methods.reproduction.bench import Bench
from supsup_methods.reproduction.findings import Findings, Row, findings_of
from supsup_methods.reproduction.tables import shortened
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import Run, open_run

_RECIPES = {25: "table8-supsup-s25-h", 100: "table3-supsup-h"}
_IMAGES = 16  # the last of a test set's batches has no more
_TOLD: Mapping[str, Callable[[Sequence[float]], float]] = {
    "the first image": itemgetter(0),
    f"one of {_IMAGES}, mean": statistics.fmean,
    f"the worst of {_IMAGES}": min,
    f"the best of {_IMAGES}": max,
}


def asked_images(bench: Bench) -> Findings:
    """Measure accuracy under GNu by One-Shot with H, had each batch been asked by its n-th image."""
    runs: list[RunFolder] = []
    rows: list[Row] = []
    lines: list[dict[str, Any]] = []
    for outputs, name in _RECIPES.items():
        found = list(bench.each_seed(shortened(RECIPES[name], bench)))
        runs += found
        by_seed = [accuracy_by_image(open_run(run.path, bench.device)) for run in found]
        rows += [
            Row(f"s = {outputs}, asked by {what}: accuracy", tuple(100 * of(each) for each in by_seed))
            for what, of in _TOLD.items()
        ]
        for run, accuracies in zip(found, by_seed, strict=True):
            lines += [
                {"outputs": outputs, "seed": run.recipe().seed, "image": number, "accuracy": accuracy}
                for number, accuracy in enumerate(accuracies, start=1)
            ]
            bench.say(f"{run.path.name}: " + ", ".join(f"{accuracy:.2%}" for accuracy in accuracies))
    return findings_of([run.summary() for run in runs], rows, {}, {"accuracy": lines})


def accuracy_by_image(run: Run) -> list[float]:
    """Return the accuracy after all tasks of the run, for each place in a test batch that the image asked may have.

    Raises:
        UsageError: the run's method learns no masks.
    """
    by_task = [_right(run, run.bank, run.stream[index]) for index in range(len(run.bank))]
    return torch.tensor(by_task, dtype=torch.float64).mean(dim=0).tolist()


def _right(run: Run, bank: MaskBank, task: Task) -> list[float]:
    """Return the share of a task's test images that are right, for each place: all of a batch are wrong where its task is."""
    batches = list(evaluation_batches(task, run.recipe.evaluation.batch_size))
    asked = range(min(_IMAGES, *map(len, batches)))
    images = torch.stack([batch.images[place] for place in asked for batch in batches])
    guessed = one_shot_each(entropy, run.network, bank, images).tasks.view(len(asked), len(batches))
    weights = bank.weights(task.index)
    with torch.no_grad():
        right = [(run.network(batch.images, weights).argmax(dim=-1) == batch.labels).sum() for batch in batches]
    found = (guessed == task.index).double() @ torch.stack(right).double()
    return (found / sum(map(len, batches))).tolist()

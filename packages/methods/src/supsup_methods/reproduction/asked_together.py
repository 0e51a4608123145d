"""Searches that try every task, asked of one run together: they look at the same outputs, so that one forward pass serves all.

Answers are kept search by search, as `asked_again` has them, and what is known of a search is not measured again.
"""

from collections import deque
from collections.abc import Sequence

import torch
from supsup_datasets import AnyDataset

from supsup_methods.assembly import build_problem
from supsup_methods.continual_method import OverContexts, RecoversMasks
from supsup_methods.data_assembly import build_stream, load_dataset
from supsup_methods.evaluation import TaskScore, evaluate_searches
from supsup_methods.guess_traces import owners_of_masks
from supsup_methods.reproduction.asked_again import (
    Asked,
    accuracies_under,
    asked_scenario,
    asks_so_itself,
    tested_in_turn,
)
from supsup_methods.reproduction.bench import Bench
from supsup_methods.result_records import Accuracies
from supsup_methods.run_folder import RunFolder
from supsup_methods.task_guessing import EveryTask, infer_by_all


def accuracies_together(bench: Bench, run: RunFolder, searches: Sequence[EveryTask]) -> list[list[Accuracies]]:
    """Return for each search what `accuracies_under` does, having asked together those that are not known.

    Raises:
        UsageError: the run's method infers no task, or a file of answers is damaged.
    """
    others = [each for each in searches if not asks_so_itself(run, each)]
    dataset: AnyDataset | None = None
    for checkpoint in run.progress().checkpoints:
        learned = checkpoint.tasks_learned
        missing = [each for each in others if Asked(run, each).accuracies(learned) is None]
        if missing:
            dataset = dataset or load_dataset(run.recipe().stream, bench.data_root).to(bench.device)
            ask_together(run, missing, dataset, learned, bench.device)
            bench.say(f"{run.path.name}, {learned} tasks: asked in {len(missing)} ways")
    return [accuracies_under(bench, run, each) for each in searches]


def ask_together(
    run: RunFolder,
    searches: Sequence[EveryTask],
    dataset: AnyDataset,
    tasks_learned: int,
    device: torch.device | str = "cpu",
) -> None:
    """Test all tasks after so many were learned by each search, from the first task on that one of them does not know yet.

    Raises:
        UsageError: the run's method infers no task, or has not learned so many, or a file of answers is damaged.
    """
    recipe, device = run.recipe(), torch.device(device)
    dataset = dataset.to(device)
    asked = [Asked(run, each) for each in searches]
    method = asked[0].method(dataset, tasks_learned, device)
    if not isinstance(method, OverContexts) or isinstance(method, RecoversMasks):
        raise AssertionError("unreachable: what can be asked in another way has contexts")
    num_labels = build_problem(recipe, dataset, device).num_labels
    infer_all = infer_by_all(searches, method.net, method.bank, num_labels)
    stream, scenario, batch_size = build_stream(recipe, dataset), asked_scenario(recipe), recipe.evaluation.batch_size
    owners = owners_of_masks(method, stream, recipe)

    def test(task: int) -> list[TaskScore]:
        return evaluate_searches(method, stream[task], scenario, batch_size, infer_all, len(asked), owners=owners)

    deque(tested_in_turn(asked, test, tasks_learned, tasks_learned), maxlen=0)

"""What a finished run answers under another search: masks do not depend on how tasks are inferred, so they are learned once."""

import hashlib
import json
import time
from dataclasses import asdict, replace

import torch
from pydantic import TypeAdapter
from supsup_core.atomic_files import replace_file
from supsup_datasets import Scenario, TaskStream

from supsup_methods.assembly import build_problem, open_method
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.continual_method import AnyMethod
from supsup_methods.data_assembly import build_stream, load_dataset
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, evaluate_task
from supsup_methods.experiment import Recipe
from supsup_methods.registry import inference_of
from supsup_methods.reproduction.bench import Bench
from supsup_methods.result_records import Accuracies
from supsup_methods.run_folder import RunFolder
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import TaskInference

_RECORD = TypeAdapter(list[Accuracies])


def accuracies_under(bench: Bench, run: RunFolder, inference: TaskInference) -> list[Accuracies]:
    """Return the tests of a run at its checkpoints, had it inferred tasks so; kept beside the run, and made once.

    Raises:
        UsageError: the run's method infers no task.
    """
    name = hashlib.sha256(json.dumps(asdict(inference), sort_keys=True).encode()).hexdigest()[:12]
    record = run.path / f"asked-{name}.json"
    if record.exists():
        return _RECORD.validate_json(json.dumps(json.loads(record.read_bytes())["checkpoints"]))
    found = _measured(bench, run, inference)
    content = {"inference": asdict(inference), "checkpoints": found}
    replace_file(record, (json.dumps(content, indent=1) + "\n").encode())
    return found


def _measured(bench: Bench, run: RunFolder, inference: TaskInference) -> list[Accuracies]:
    recipe = run.recipe()
    if not isinstance(recipe.method, SupSupSettings | BatchESettings) or inference_of(recipe.method) is None:
        raise UsageError(
            f"{run.path}: {recipe.method.kind} searches no contexts for tasks, so it cannot be asked in another way"
        )
    changed = replace(recipe.method, inference=inference)
    recipe, device = replace(recipe, method=changed), torch.device(bench.device)
    dataset = load_dataset(recipe.stream, bench.data_root).to(device)
    method = open_method(recipe, build_problem(recipe, dataset, device), run.bank, None).method
    stream, found = build_stream(recipe, dataset), []
    for checkpoint in run.progress().checkpoints:
        tested = _tested(_first(method, checkpoint.tasks_learned), stream, recipe)
        bench.say(
            f"{run.path.name}, {checkpoint.tasks_learned} tasks, {inference.kind}: accuracy {tested.accuracy:.2%}"
        )
        found.append(
            Accuracies(
                tasks_learned=tested.tasks_learned,
                accuracy=tested.accuracy,
                task_inference_accuracy=tested.task_inference_accuracy,
                forgetting=None,
                backward_transfer=None,
            )
        )
    return found


def _tested(method: AnyMethod, stream: TaskStream, recipe: Recipe) -> Checkpoint:
    start, asked = time.perf_counter(), recipe.evaluation
    scores = tuple(
        evaluate_task(method, stream[task], Scenario(asked.scenario), asked.batch_size)
        for task in range(method.tasks_learned)
    )
    return Checkpoint(method.tasks_learned, scores, time.perf_counter() - start)


def _first(method: AnyMethod, tasks: int) -> AnyMethod:
    then = method if tasks == method.tasks_learned else method.first(tasks)
    if then is None:
        raise AssertionError("unreachable: methods over contexts keep all of their earlier states")
    return then

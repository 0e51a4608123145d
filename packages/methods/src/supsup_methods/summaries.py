"""The summary of a run, from what was learned and how it was tested."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

from supsup_methods.continual_method import AnyMethod
from supsup_methods.experiment import Recipe
from supsup_methods.metrics import backward_transfer, forgetting
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import Environment, Progress


def same_results(stored: Summary, made: Summary) -> bool:
    """Compare all but the moment, as JSON tells it."""
    return bool(json.loads(json.dumps({**made, "finished": stored["finished"]})) == stored)


def summarize(recipe: Recipe, method: AnyMethod, progress: Progress, environment: Environment) -> Summary:
    """Return the summary: fractions, seconds and bytes."""
    checkpoints, first, sizes = progress.checkpoints, progress.first_scores, method.bytes
    return {
        "recipe": recipe.name,
        "method": recipe.method.kind,
        "scenario": recipe.evaluation.scenario,
        "seed": recipe.seed,
        "device": environment.device,
        "machine": environment.machine,
        "data": environment.data_name,
        "tasks": recipe.tasks,
        "checkpoints": [
            {
                "tasks_learned": checkpoint.tasks_learned,
                "accuracy": checkpoint.accuracy,
                "task_inference_accuracy": checkpoint.task_inference_accuracy,
                "forgetting": forgetting(checkpoints, first, checkpoint),
                "backward_transfer": backward_transfer(first, checkpoint),
            }
            for checkpoint in checkpoints
        ],
        "accuracy_per_task": [score.accuracy for score in checkpoints[-1].scores],
        "seconds": {
            "train": sum(progress.train_seconds.values()),
            "infer": sum(checkpoint.seconds for checkpoint in checkpoints),
            "first_tests": progress.first_test_seconds,
        },
        "bytes": {**asdict(sizes), "total": sizes.total},
        "settings": asdict(recipe),
        "versions": environment.versions,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }

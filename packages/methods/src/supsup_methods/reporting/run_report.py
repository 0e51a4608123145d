"""The tables that end a run in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from supsup_methods.errors import UsageError
from supsup_methods.evaluation import TaskScore
from supsup_methods.experiment import (
    PermutedMnist,
    RecurringPermutedMnist,
    SplitCifar100,
    SplitImageFolder,
    SplitImageNet,
)
from supsup_methods.registry import PACKAGES, inference_of
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import RunFolder

_MAX_ROWS = 20


def print_results(console: Console, folder: RunFolder, summary: Summary) -> None:
    """Print accuracy, task inference, seconds and bytes of a run that is done, and what to try next."""
    _print_tasks(console, folder)
    _print_totals(console, summary)
    path = escape(str(folder.path))
    console.print(f"Saved in [bold]{path}[/]: recipe, what was learned (bank/), summary.json", soft_wrap=True)
    recipe = folder.recipe()
    more = "--tasks 50" if isinstance(recipe.stream, PermutedMnist | RecurringPermutedMnist) else "--seed 1"
    if isinstance(recipe.stream, SplitCifar100 | SplitImageNet | SplitImageFolder):
        hints = [f"supsup-eval {path} --bytes for what it stores"]
    else:
        hints = [f"supsup-train {summary['recipe']} {more}", "--data-root DIR for full MNIST"]
    if summary["method"] == "supsup-unknown-tasks":
        hints.append(f"supsup-eval {path} --unknown-tasks 10 --merge")
    elif inference_of(recipe.method) is not None and type(recipe.method) not in PACKAGES:
        hints.append(f"supsup-eval {path} for other ways to find the task")
    hints.append("streamlit run apps/dashboard.py to look at all runs")
    console.print(f"Next: {' · '.join(hints)}", soft_wrap=True)


def _print_tasks(console: Console, folder: RunFolder) -> None:
    checkpoints = folder.progress().checkpoints
    if not checkpoints:
        raise UsageError(f"{folder.path}: it is done and has no checkpoint in progress.json; restore that from a copy")
    last = checkpoints[-1]
    table = Table(title=f"All {last.tasks_learned} tasks, tested after the last one was learned")
    recovered = any(score.recovery for score in last.scores)
    columns = ("with the right mask", "recovered") if recovered else ("test batches given to the right task",)
    for column in ("task", "accuracy", *columns):
        table.add_column(column, justify="right")
    for score in last.scores[:_MAX_ROWS]:
        table.add_row(str(score.task), f"{score.accuracy:.2%}", *_found(score))
    if len(last.scores) > _MAX_ROWS:
        table.add_row("...", "", f"{len(last.scores) - _MAX_ROWS} more in progress.json")
    console.print(table)


def _found(score: TaskScore) -> tuple[str, ...]:
    """Return how the task was found, or its mask."""
    trace = score.recovery
    if trace is None:
        return (f"{score.guesses_right} of {score.guesses}" if score.guesses else "task given",)
    if trace.distances is None or trace.right_mask_accuracy is None:
        return ("not kept", "cannot be told")
    steps, off = trace.steps_to_right, sum(way[-1] for way in trace.distances.values())
    return (
        f"{trace.right_mask_accuracy:.2%}",
        f"after {steps} of {len(trace.energy)} steps" if steps else f"no, {off} units off",
    )


def _print_totals(console: Console, summary: Summary) -> None:
    last = summary["checkpoints"][-1]
    found = last["task_inference_accuracy"]
    table = Table(show_header=False)
    table.add_row("accuracy, mean over tasks", f"{last['accuracy']:.2%}")
    if summary["method"] == "hopsupsup":
        table.add_row("masks recovered to the last unit", "cannot be told" if found is None else f"{found:.2%}")
    else:
        table.add_row("tasks inferred right", "task given" if found is None else f"{found:.2%}")
    if "allocation" in summary:
        table.add_row("masks allocated", _allocation(summary["allocation"]))
    table.add_row("seconds", f"{summary['seconds']['train']:.1f} training, {summary['seconds']['infer']:.1f} testing")
    if last["forgetting"] is not None:
        table.add_row("forgetting, mean over earlier tasks", f"{100 * last['forgetting']:.2f} points")
    table.add_row(*_bytes(summary))
    console.print(table)


def _allocation(books: dict[str, float | None]) -> str:
    delay = books["delay_batches"]
    found = "" if delay is None else f"found after {delay:.0f} batches, "
    # JSON read as numbers has 20.0 for 20.
    masks, tasks, duplicates, missed = (f"{books[name]:g}" for name in ("masks", "tasks", "duplicates", "missed"))
    return f"{masks} for {tasks} tasks; purity {books['purity']:.2%}, {duplicates} duplicates, {found}{missed} beginnings missed"


def _bytes(summary: Summary) -> tuple[str, str]:
    """Return what is stored, and how much of it."""
    sizes, tasks = summary["bytes"], summary["tasks"]
    match summary["method"]:
        case "supsup-unknown-tasks":
            training = f"{sizes['shared']:,} to train the last one on"
            return "bytes of masks", f"{sizes['contexts']:,}, and {training}"
        case "supsup":
            weights = 32 * sizes["contexts"]
            return "bytes of masks", f"{sizes['contexts']:,} for {tasks} tasks; float32 weights would take {weights:,}"
        case "hopsupsup":
            return "bytes of the reservoir", f"{sizes['shared']:,}, for {tasks} tasks or more"
        case _:
            own = f"{sizes['contexts']:,} for {tasks} tasks, and {sizes['shared']:,} that they share"
            return "bytes of what each task has of its own", own

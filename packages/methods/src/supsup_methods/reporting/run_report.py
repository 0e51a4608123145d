"""The tables that end a run in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from supsup_methods.errors import UsageError
from supsup_methods.registry import inference_of
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import RunFolder

_MAX_ROWS = 20


def print_results(console: Console, folder: RunFolder, summary: Summary) -> None:
    """Print accuracy, task inference, seconds and bytes of a run that is done, and what to try next."""
    _print_tasks(console, folder)
    _print_totals(console, summary)
    path = escape(str(folder.path))
    console.print(f"Saved in [bold]{path}[/]: recipe, what was learned (bank/), summary.json", soft_wrap=True)
    hints = [f"supsup-train {summary['recipe']} --tasks 50", "--data-root DIR for full MNIST"]
    if inference_of(folder.recipe().method) is not None:
        hints.append(f"supsup-eval {path} for other ways to find the task")
    hints.append("streamlit run apps/dashboard.py to look at all runs")
    console.print(f"Next: {' · '.join(hints)}", soft_wrap=True)


def _print_tasks(console: Console, folder: RunFolder) -> None:
    checkpoints = folder.progress().checkpoints
    if not checkpoints:
        raise UsageError(f"{folder.path}: it is done and has no checkpoint in progress.json; restore that from a copy")
    last = checkpoints[-1]
    table = Table(title=f"All {last.tasks_learned} tasks, tested after the last one was learned")
    for column in ("task", "accuracy", "test batches given to the right task"):
        table.add_column(column, justify="right")
    for score in last.scores[:_MAX_ROWS]:
        found = f"{score.guesses_right} of {score.guesses}" if score.guesses else "task given"
        table.add_row(str(score.task), f"{score.accuracy:.2%}", found)
    if len(last.scores) > _MAX_ROWS:
        table.add_row("...", "", f"{len(last.scores) - _MAX_ROWS} more in progress.json")
    console.print(table)


def _print_totals(console: Console, summary: Summary) -> None:
    last, sizes = summary["checkpoints"][-1], summary["bytes"]
    found = last["task_inference_accuracy"]
    table = Table(show_header=False)
    table.add_row("accuracy, mean over tasks", f"{last['accuracy']:.2%}")
    table.add_row("tasks inferred right", "task given" if found is None else f"{found:.2%}")
    table.add_row("seconds", f"{summary['seconds']['train']:.1f} training, {summary['seconds']['infer']:.1f} testing")
    if last["forgetting"] is not None:
        table.add_row("forgetting, mean over earlier tasks", f"{100 * last['forgetting']:.2f} points")
    own = "masks" if summary["method"] == "supsup" else "what each task has of its own"
    table.add_row(f"bytes of {own}", f"{sizes['contexts']:,} for {summary['tasks']} tasks{_shared(summary)}")
    console.print(table)


def _shared(summary: Summary) -> str:
    if summary["method"] == "supsup":
        return f"; float32 weights would take {32 * summary['bytes']['contexts']:,}"
    return f", and {summary['bytes']['shared']:,} that they share"

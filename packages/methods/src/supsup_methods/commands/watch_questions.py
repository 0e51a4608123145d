"""What `supsup-eval --watch-task` does: train one task's mask again, tell how it forms, and keep what was seen in the run."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from supsup_methods.devices import describe_device, resolve_device
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import Run
from supsup_methods.watched_records import WatchedTraining, write_watched
from supsup_methods.watched_training import Moment, watch_task


def device_to_watch_on(run: Path, name: str) -> torch.device:
    """Return the device called `name`; auto is one like those that the run trained on, where this machine has it.

    Raises:
        UsageError: there is no run, the name is unknown, or this machine has no such device.
    """
    if name == "auto" and RunFolder(run).holds_run and RunFolder(run).environment().devices[0] == "cpu":
        return torch.device("cpu")
    return resolve_device(name)


def ask_to_watch(console: Console, run: Run, task: int) -> dict[str, Any]:
    """Train a task's mask again, print a line at each moment, write the record, and return what it says in short.

    Raises:
        UsageError: the run's data has changed.
    """
    environment = RunFolder(run.path).environment()
    console.print(
        f"training the mask of task {task} of {escape(str(run.path))} again, on {describe_device(run.network.device)}",
        soft_wrap=True,
    )
    with _Bar(console) as bar:
        watched = watch_task(run, environment, task, bar.tell)
    path = write_watched(run.path, watched)
    console.print(_verdict(watched), soft_wrap=True)
    console.print(f"written to [bold]{escape(str(path))}[/]", soft_wrap=True)
    return {
        "task": task,
        "steps": watched.moments[-1],
        "bits": watched.bits,
        "bits_unlike_run": watched.bits_unlike_run,
        "statistics_as_run": watched.statistics_as_run,
        "unlike_run": list(watched.unlike_run),
        "seconds": watched.seconds,
        "file": str(path),
    }


class _Bar:
    """A live bar between two moments where somebody watches the terminal, and a line at each; a context manager."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("step {task.completed:,.0f}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}% · left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, moment: Moment) -> None:
        """Show a moment."""
        self._progress.update(self._task, completed=moment.step, total=moment.steps)
        loss = "" if moment.loss is None else f" · loss {moment.loss:.4f} nats"
        self._progress.console.print(
            f"step {moment.step:,} of {moment.steps:,}{loss} · {moment.density:.2%} ones · {moment.flipped:.2%} of bits turned"
        )


def _verdict(watched: WatchedTraining) -> str:
    """Return whether the mask is the run's, in one line."""
    if watched.as_run:
        return f"the mask of task {watched.task} is the run's, bit for bit"
    turned, bits = watched.bits_unlike_run, watched.bits
    says = f"the mask of task {watched.task} differs from the run's in {turned / bits:.3%} of bits ({turned:,} of {bits:,})"
    if not watched.statistics_as_run:
        says += ", and in its running statistics"
    why = "; ".join(watched.unlike_run) or "nothing else is known to be different; its files may have been changed"
    return f"[yellow]{escape(f'{says}: {why}')}[/]"

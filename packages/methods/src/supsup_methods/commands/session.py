"""One run from its launch to its last table."""

import json
import shutil
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from supsup_core.atomic_files import replace_file
from supsup_core.packed_bits import row_bytes
from supsup_datasets import ImageDataset

from supsup_methods.assembly import load_dataset, mask_bits
from supsup_methods.commands.exits import Interrupted
from supsup_methods.commands.launch import Launch
from supsup_methods.commands.progress import RunProgress
from supsup_methods.devices import describe_device, resolve_device
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint
from supsup_methods.reporting.run_report import print_results
from supsup_methods.run_folder import Environment, RunFolder, new_run_path
from supsup_methods.running import RunObserver, adopt_environment, describe_environment, execute
from supsup_methods.tracker import Tracker

RUNS = Path("runs")


def run_launch(launch: Launch) -> None:
    """Carry out a launch: everything that can be refused is refused before anything is written."""
    console = Console(highlight=False)
    folder = RunFolder(launch.out or new_run_path(RUNS, launch.recipe.name))
    device = resolve_device(launch.device)
    data_root = launch.data_root
    if launch.resume:
        recorded = folder.environment()
        device = torch.device(recorded.device) if launch.device == "auto" else device
        data_root = data_root or (Path(recorded.data_root) if recorded.data_root else None)
    else:
        folder.refuse_unless_new()
    dataset = load_dataset(data_root)
    environment = describe_environment(device, dataset, data_root)
    _refuse_too_large(launch, folder, dataset)
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.locked():
        if launch.resume:
            adopt_environment(folder.environment(), environment)
        else:
            folder.begin(launch.recipe, environment)
        _print_header(console, launch, folder, environment, device)
        summary = folder.summary() if folder.is_done else _execute(console, launch, folder, dataset, device)
        if launch.summary is not None:
            replace_file(launch.summary, (json.dumps(summary, indent=1) + "\n").encode())
    print_results(console, folder, summary)


def _execute(
    console: Console, launch: Launch, folder: RunFolder, dataset: ImageDataset, device: torch.device
) -> dict[str, Any]:
    """Run under the eyes of the terminal and the tracking store."""
    tracker = Tracker(launch.recipe, folder.path, RUNS)
    try:
        with RunProgress(console, launch.recipe, dataset) as progress:
            summary = execute(folder, launch.recipe, dataset, device, _Observers((progress, tracker)))
    except KeyboardInterrupt:
        tracker.close("KILLED")
        raise Interrupted(
            f"stopped; every finished task is kept in {folder.path}; "
            f"go on with: supsup-train --resume --out {quote(str(folder.path))}"
        ) from None
    except BaseException:
        tracker.close("FAILED")
        raise
    problem = tracker.close("FINISHED")
    if problem is not None:
        console.print(f"[yellow]not in the tracking store:[/] {escape(problem)}", soft_wrap=True)
    return summary


class _Observers:
    """Several observers as one."""

    def __init__(self, observers: tuple[RunObserver, ...]) -> None:
        self._observers = observers

    def begun(self, tasks_learned: int) -> None:
        for observer in self._observers:
            observer.begun(tasks_learned)

    def batch_trained(self) -> None:
        for observer in self._observers:
            observer.batch_trained()

    def task_learned(self, tasks_learned: int, seconds: float) -> None:
        for observer in self._observers:
            observer.task_learned(tasks_learned, seconds)

    def batch_tested(self) -> None:
        for observer in self._observers:
            observer.batch_tested()

    def tested(self, checkpoint: Checkpoint) -> None:
        for observer in self._observers:
            observer.tested(checkpoint)


def _refuse_too_large(launch: Launch, folder: RunFolder, dataset: ImageDataset) -> None:
    """Compare the bytes that all masks will take with those that are free.

    Raises:
        UsageError: the disk cannot hold the bank.
    """
    needed = launch.recipe.tasks * row_bytes(mask_bits(launch.recipe, dataset))
    place = next(parent for parent in (folder.path, *folder.path.absolute().parents) if parent.exists())
    disk = shutil.disk_usage(place)
    if needed > disk.free and disk.total > 0:  # file systems of the kernel, like /proc, have no size
        raise UsageError(
            f"--tasks {launch.recipe.tasks}: their masks take {needed / 1e9:.1f} GB and {place} has "
            f"{disk.free / 1e9:.1f} GB free; learn fewer tasks, or name an --out with more space"
        )


def _print_header(
    console: Console, launch: Launch, folder: RunFolder, environment: Environment, device: torch.device
) -> None:
    recipe = launch.recipe
    widths = "-".join(str(width) for width in recipe.backbone.hidden)
    console.print(
        f"[bold]{recipe.name}[/]: {recipe.tasks} permuted tasks of {environment.data_name}, one frozen random network "
        f"{widths}-{recipe.backbone.outputs}, scenario {recipe.evaluation.scenario}, seed {recipe.seed}, "
        f"on {describe_device(device)}"
    )
    console.print(f"saved in [bold]{escape(str(folder.path))}[/]", soft_wrap=True)

"""One run from its launch to its last table."""

import json
import shutil
import tempfile
from pathlib import Path
from shlex import quote

import torch
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from supsup_core.atomic_files import make_folder, replace_file
from supsup_datasets import AnyDataset

from supsup_methods.assembly import default_processes, default_tasks_at_once, refuse_impossible, stored_bytes
from supsup_methods.backbone_assembly import describe_backbone
from supsup_methods.commands.exits import Interrupted
from supsup_methods.commands.launch import Launch
from supsup_methods.commands.progress import RunProgress
from supsup_methods.data_assembly import build_stream, load_dataset
from supsup_methods.devices import describe_device, resolve_devices
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint
from supsup_methods.reporting.run_report import print_results
from supsup_methods.result_records import Summary
from supsup_methods.run_environment import adopt_environment, describe_environment
from supsup_methods.run_folder import RUNS, Environment, RunFolder, claim_run_path
from supsup_methods.running import RunObserver, execute
from supsup_methods.tracker import Tracker


def run_launch(launch: Launch, console: Console) -> None:
    """Carry out a launch: what can be known to be impossible is refused before anything is written."""
    folder = None if launch.out is None else RunFolder(launch.out)
    if folder is not None and not launch.resume:
        folder.refuse_unless_new()
    devices, dataset, environment = _prepare(launch, folder)
    folder = folder or RunFolder(claim_run_path(RUNS, launch.recipe.name))
    make_folder(folder.path)
    try:
        with folder.locked():
            if launch.resume:
                adopt_environment(folder.environment(), environment)
            else:
                folder.refuse_unless_new()  # again: another process may have been here since
                folder.begin(launch.recipe, environment)
                torch.set_num_threads(environment.threads)
            _print_header(console, launch, folder, environment, devices)
            _finish(console, launch, folder, dataset, devices[0])
    except KeyboardInterrupt:
        if not folder.holds_run:
            raise  # it came before there was anything to go on with
        raise Interrupted(
            f"stopped; every finished task is kept in {folder.path}; "
            f"go on with: supsup-train --resume --out {quote(str(folder.path))}"
        ) from None


def _prepare(launch: Launch, folder: RunFolder | None) -> tuple[tuple[torch.device, ...], AnyDataset, Environment]:
    """Return devices, data and environment, having checked that the run can be carried out with them."""
    device_names, data_root, tasks_at_once = launch.device, launch.data_root, launch.tasks_at_once
    if launch.resume and folder is not None:
        recorded = folder.environment()
        device_names = recorded.device if device_names == "auto" else device_names
        data_root = data_root or (Path(recorded.data_root) if recorded.data_root else None)
        tasks_at_once = tasks_at_once or recorded.tasks_at_once
    devices = resolve_devices(device_names)
    dataset = load_dataset(launch.recipe.stream, data_root)
    if device_names == "auto" and devices[0].type == "cpu" and tasks_at_once is None:
        devices *= default_processes(launch.recipe, dataset)
    tasks_at_once = tasks_at_once or default_tasks_at_once(launch.recipe, dataset, devices)
    refuse_impossible(launch.recipe, dataset, tasks_at_once, len(devices))
    _refuse_too_large(launch, dataset)
    if launch.summary is not None:
        with tempfile.TemporaryFile(dir=launch.summary.parent):
            pass  # the folder can be written
    return devices, dataset, describe_environment(devices[0], dataset, data_root, tasks_at_once, devices[1:])


def _finish(console: Console, launch: Launch, folder: RunFolder, dataset: AnyDataset, device: torch.device) -> None:
    """Run what is left to run, under the eyes of the terminal and the tracking store, and say what came out."""
    if folder.is_done and folder.has_results:
        with RunProgress(console, launch.recipe, build_stream(launch.recipe, dataset)) as progress:
            execute(folder, launch.recipe, dataset, device, progress)  # does nothing, but where files are damaged
        _tell(console, launch, folder)
        return
    tracker = Tracker(launch.recipe, folder.path, RUNS)
    try:
        with RunProgress(console, launch.recipe, build_stream(launch.recipe, dataset)) as progress:
            observers = _Observers((progress, tracker))
            execute(folder, launch.recipe, dataset, device, observers, launch.snapshot_seconds)
        _tell(console, launch, folder)
        problem = tracker.close("FINISHED")
    except KeyboardInterrupt:
        tracker.leave("KILLED")  # nobody who presses Ctrl-C wants to wait for a store
        raise
    except BaseException:
        tracker.leave("FAILED")
        raise
    if problem is not None:
        console.print(f"[yellow]not in the tracking store:[/] {escape(problem)}", soft_wrap=True)


def _tell(console: Console, launch: Launch, folder: RunFolder) -> None:
    """Write the summary where it was asked for, and print the results."""
    summary: Summary = folder.summary()
    if launch.summary is not None:
        replace_file(launch.summary, (json.dumps(summary, indent=1) + "\n").encode())
    print_results(console, folder, summary)


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

    def noted(self, message: str) -> None:
        for observer in self._observers:
            observer.noted(message)


def _refuse_too_large(launch: Launch, dataset: AnyDataset) -> None:
    """Compare the bytes that all tasks will take with those that are free.

    Raises:
        UsageError: the disk cannot hold them.
    """
    needed = stored_bytes(launch.recipe, dataset)
    wanted = (launch.out or RUNS).absolute()
    place = next(parent for parent in (wanted, *wanted.parents) if parent.exists())
    disk = shutil.disk_usage(place)
    if needed > disk.free and disk.total > 0:  # file systems of the kernel, like /proc, have no size
        raise UsageError(
            f"--tasks {launch.recipe.tasks}: what they learn takes {decimal(needed)} and {place} has "
            f"{decimal(disk.free)} free; learn fewer tasks, or name an --out with more space"
        )


def _print_header(
    console: Console, launch: Launch, folder: RunFolder, environment: Environment, devices: tuple[torch.device, ...]
) -> None:
    recipe = launch.recipe
    stream, method = recipe.stream.kind.partition("-")[0], recipe.method.kind
    named = ", ".join(describe_device(device) for device in dict.fromkeys(devices))
    if len(devices) > 1:
        named += f", in {len(devices)} processes"
    console.print(
        f"[bold]{recipe.name}[/]: {recipe.tasks} {stream} tasks of {environment.data_name}, "
        f"{method} with {describe_backbone(recipe)}, "
        f"scenario {recipe.evaluation.scenario}, seed {recipe.seed}, on {named}"
    )
    console.print(f"saved in [bold]{escape(str(folder.path))}[/]", soft_wrap=True)

"""One run from its launch to its last table."""

import json
import tempfile
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.markup import escape
from supsup_core.atomic_files import replace_file

from supsup_methods.backbone_assembly import describe_backbone
from supsup_methods.commands.exits import Interrupted
from supsup_methods.commands.launch import Launch
from supsup_methods.commands.progress import RunProgress
from supsup_methods.data_assembly import build_stream
from supsup_methods.devices import describe_device
from supsup_methods.evaluation import Checkpoint
from supsup_methods.reporting.run_report import print_results
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import RUNS, RunFolder
from supsup_methods.running import RunObserver
from supsup_methods.tracker import Tracker
from supsup_methods.training import RunPlan, plan_run


def run_launch(launch: Launch, console: Console) -> None:
    """Carry out a launch: what can be known to be impossible is refused before anything is written."""
    plan = plan_run(
        launch.recipe,
        launch.out,
        device=launch.device,
        data_root=launch.data_root,
        tasks_at_once=launch.tasks_at_once,
        snapshot_seconds=launch.snapshot_seconds,
        resume=launch.resume,
        may_share=True,
    )
    if launch.summary is not None:
        with tempfile.TemporaryFile(dir=launch.summary.parent):
            pass  # the folder can be written
    folder = plan.claimed()
    try:
        with plan.begun(folder):
            _print_header(console, plan, folder)
            _finish(console, launch, plan, folder)
    except KeyboardInterrupt:
        if not folder.holds_run:
            raise  # it came before there was anything to go on with
        raise Interrupted(
            f"stopped; every finished task is kept in {folder.path}; "
            f"go on with: supsup-train --resume --out {quote(str(folder.path))}"
        ) from None


def _finish(console: Console, launch: Launch, plan: RunPlan, folder: RunFolder) -> None:
    """Run what is left to run, under the eyes of the terminal and the tracking store, and say what came out."""
    stream = build_stream(plan.recipe, plan.dataset)
    if not launch.tracking or (folder.is_done and folder.has_results):
        with RunProgress(console, plan.recipe, stream) as progress:
            plan.carry_out(folder, progress)  # where all is done it does nothing, but where files are damaged
        _tell(console, launch.summary, folder)
        return
    tracker = Tracker(plan.recipe, folder.path, RUNS)
    try:
        with RunProgress(console, plan.recipe, stream) as progress:
            plan.carry_out(folder, _Observers((progress, tracker)))
        _tell(console, launch.summary, folder)
        problem = tracker.close("FINISHED")
    except KeyboardInterrupt:
        tracker.leave("KILLED")  # nobody who presses Ctrl-C wants to wait for a store
        raise
    except BaseException:
        tracker.leave("FAILED")
        raise
    if problem is not None:
        console.print(f"[yellow]not in the tracking store:[/] {escape(problem)}", soft_wrap=True)


def _tell(console: Console, copy: Path | None, folder: RunFolder) -> None:
    """Write the summary where it was asked for, and print the results."""
    summary: Summary = folder.summary()
    if copy is not None:
        replace_file(copy, (json.dumps(summary, indent=1) + "\n").encode())
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


def _print_header(console: Console, plan: RunPlan, folder: RunFolder) -> None:
    recipe = plan.recipe
    stream, method = recipe.stream.kind.partition("-")[0], recipe.method.kind
    named = ", ".join(describe_device(device) for device in dict.fromkeys(plan.devices))
    if len(plan.devices) > 1:
        named += f", in {len(plan.devices)} processes"
    console.print(
        f"[bold]{recipe.name}[/]: {recipe.tasks} {stream} tasks of {plan.environment.data_name}, "
        f"{method} with {describe_backbone(recipe)}, "
        f"scenario {recipe.evaluation.scenario}, seed {recipe.seed}, on {named}"
    )
    console.print(f"saved in [bold]{escape(str(folder.path))}[/]", soft_wrap=True)

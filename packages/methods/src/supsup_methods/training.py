"""The public way to a new run: what is known to be impossible is refused before anything is written, the rest is carried out."""

import operator
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import SupportsIndex

import torch
from rich.filesize import decimal
from supsup_core.atomic_files import make_folder
from supsup_datasets import AnyDataset

from supsup_methods import recipe_files
from supsup_methods.assembly import default_processes, default_tasks_at_once, refuse_impossible, stored_bytes
from supsup_methods.data_assembly import load_dataset
from supsup_methods.devices import resolve_devices
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint
from supsup_methods.experiment import Recipe
from supsup_methods.plugins import versions
from supsup_methods.registry import PACKAGES, kind_of
from supsup_methods.run_environment import adopt_environment, describe_environment
from supsup_methods.run_folder import RUNS, Environment, RunFolder, claim_run_path
from supsup_methods.running import RunObserver, execute
from supsup_methods.runs import Run, open_run
from supsup_methods.snapshots import SNAPSHOT_SECONDS


def train(
    recipe: Recipe,
    out: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "auto",
    data_root: str | os.PathLike[str] | None = None,
    tasks_at_once: int | None = None,
    snapshot_seconds: float = SNAPSHOT_SECONDS,
    resume: bool = False,
    observer: RunObserver | None = None,
) -> Run:
    """Learn a recipe's tasks, test them, keep everything in a folder, and return the run, as `supsup-train` does.

    Only a tracking store knows nothing of it.

    Args:
        recipe: what to learn, one of `recipes.RECIPES` for example, or that with other fields (`dataclasses.replace`).
        out: folder of the run; None for a new one under runs/.
        device: auto, cpu, cuda or cuda:N. Several with commas between share the tasks, a process on each; processes import the
            caller's script, so that it has to start them under `if __name__ == "__main__":`. auto is a GPU if there is one, or
            else the CPU, in this process; of a run that is resumed, it is what that began with.
        data_root: folder of full data in torchvision's layout, downloaded there if absent; None for the digits that ship with a
            dependency.
        tasks_at_once: trained side by side; None for as many as fit a GPU, and one on a CPU.
        snapshot_seconds: between two moments at which the state of a task in training is kept.
        resume: go on with the run in `out`, which this recipe began. What is done is not done again.
        observer: is told how far the run is; without one, what goes on though it should be known is warned of.

    Raises:
        UsageError: this cannot be carried out, or `out` holds something else; each is named as its option of the command.
        DataUnavailable: the data is not there.
        WorkerLost: one of several processes ended; what is finished is kept.
    """
    if not isinstance(recipe, Recipe):
        raise UsageError(f"recipe={recipe!r}: it is no Recipe; pass one, RECIPES['demo'] for example")
    kind_of(recipe.method)
    plan = plan_run(
        recipe_files.checked(recipe),
        None if out is None else Path(out),
        device=str(device),
        data_root=None if data_root is None else Path(data_root),
        tasks_at_once=tasks_at_once,
        snapshot_seconds=snapshot_seconds,
        resume=resume,
    )
    folder = plan.claimed()
    with plan.begun(folder):
        plan.carry_out(folder, observer or _Unobserved())
    return open_run(folder.path, plan.devices[0])


@dataclass(frozen=True)
class RunPlan:
    """A run that can be carried out, as far as can be known, and of which nothing is written yet.

    Attributes:
        out: where it will be, or where it is if it is resumed; None for a new place under runs/.
        devices: one for each process that trains; what the run's own process tests, it tests on the first.
        environment: what it depends on beside its recipe.
    """

    recipe: Recipe
    out: Path | None
    dataset: AnyDataset
    devices: tuple[torch.device, ...]
    environment: Environment
    snapshot_seconds: float
    resume: bool

    def claimed(self) -> RunFolder:
        """Make the run's folder where it is missing, and return it."""
        folder = RunFolder(self.out or claim_run_path(RUNS, self.recipe.name))
        make_folder(folder.path)
        return folder

    @contextmanager
    def begun(self, folder: RunFolder) -> Iterator[None]:
        """Keep the run to this process, and write what it is, or check that it still is what it was.

        Raises:
            UsageError: another process works on it, or it began with something else.
        """
        with folder.locked(), _own_threads():
            if self.resume:
                adopt_environment(folder.environment(), self.environment)
                folder.note_data_root(self.environment.data_root)
            else:
                folder.refuse_unless_new()  # again: another process may have been here since
                folder.begin(self.recipe, self.environment)
                torch.set_num_threads(self.environment.threads)
            yield

    def carry_out(self, folder: RunFolder, observer: RunObserver) -> None:
        """Do what is left of a run that is begun."""
        execute(folder, self.recipe, self.dataset, self.devices[0], observer, self.snapshot_seconds)


def plan_run(
    recipe: Recipe,
    out: Path | None,
    *,
    device: str = "auto",
    data_root: Path | None = None,
    tasks_at_once: int | None = None,
    snapshot_seconds: float = SNAPSHOT_SECONDS,
    resume: bool = False,
    may_share: bool = False,
) -> RunPlan:
    """Check that a run can be carried out here, and return all that it needs, writing nothing.

    Args:
        recipe: what to learn, every field within its bounds.
        out: folder of the run; None for a new one under runs/.
        device: as for `train`.
        data_root: as for `train`.
        tasks_at_once: as for `train`.
        snapshot_seconds: as for `train`.
        resume: whether `out` holds a run of this recipe, to go on with.
        may_share: whether `auto` on a CPU means as many processes as pay.

    Raises:
        UsageError: it cannot.
        DataUnavailable: the data is not there.
    """
    tasks_at_once = None if tasks_at_once is None else _checked_tasks_at_once(tasks_at_once)
    if not isinstance(snapshot_seconds, Real) or not snapshot_seconds >= 0:
        raise UsageError(f"--snapshot-seconds {snapshot_seconds}: it should be 0 or more; choose another value")
    if resume:
        recorded = _resumed(recipe, out)
        device = recorded.device if device == "auto" else device
        data_root = data_root or (Path(recorded.data_root) if recorded.data_root else None)
        tasks_at_once = tasks_at_once or recorded.tasks_at_once
    elif out is not None:
        RunFolder(out).refuse_unless_new()
    devices = resolve_devices(device)
    dataset = load_dataset(recipe.stream, data_root)
    if may_share and device == "auto" and devices[0].type == "cpu" and tasks_at_once is None:
        devices *= default_processes(recipe, dataset)
    tasks_at_once = tasks_at_once or default_tasks_at_once(recipe, dataset, devices)
    refuse_impossible(recipe, dataset, tasks_at_once, devices)
    _refuse_too_large(recipe, dataset, out or RUNS, resume=resume)
    environment = describe_environment(devices[0], dataset, data_root, tasks_at_once, devices[1:])
    return RunPlan(recipe, out, dataset, devices, environment, snapshot_seconds, resume)


def _checked_tasks_at_once(tasks: SupportsIndex) -> int:
    """Return how many tasks are trained side by side.

    Raises:
        UsageError: it is no whole number, or below 1.
    """
    try:
        number = operator.index(tasks)
    except TypeError:
        number = 0
    if number < 1:
        raise UsageError(f"--tasks-at-once {tasks}: a whole number of tasks is trained; choose 1 or more")
    return number


def _resumed(recipe: Recipe, out: Path | None) -> Environment:
    """Return what a run depends on that this recipe began.

    Raises:
        UsageError: there is none.
    """
    if out is None:
        raise UsageError("--resume: which run to go on with is missing; name its folder by --out")
    difference = recipe_files.first_difference(RunFolder(out).recipe(), recipe)
    if difference is not None:
        raise UsageError(f"--resume: the run in {out} was started with {difference}; start a new run")
    environment, package = RunFolder(out).environment(), PACKAGES.get(type(recipe.method))
    then, now = (environment.versions.get(package), versions().get(package)) if package else (None, None)
    if then != now:
        raise UsageError(
            f"--resume: {package} is {now} here, and the run in {out} was started with {then}, which decides its bits; install "
            "that, or start a new run"
        )
    return environment


@contextmanager
def _own_threads() -> Iterator[None]:
    """Give the caller back as many threads as it had."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _refuse_too_large(recipe: Recipe, dataset: AnyDataset, out: Path, *, resume: bool) -> None:
    """Compare the bytes that all tasks will take, and a resumed run does not hold yet, with those that are free.

    Raises:
        UsageError: the disk cannot hold them.
    """
    needed = stored_bytes(recipe, dataset)
    if resume:
        needed -= sum(file.stat().st_size for file in RunFolder(out).bank.rglob("*") if file.is_file())
    wanted = out.absolute()
    place = next(parent for parent in (wanted, *wanted.parents) if parent.exists())
    disk = shutil.disk_usage(place)
    if needed > disk.free and disk.total > 0:  # file systems of the kernel, like /proc, have no size
        if resume:
            raise UsageError(
                f"--resume: what is left to learn takes {decimal(needed)} and {place} has {decimal(disk.free)} free; free "
                "some space there"
            )
        raise UsageError(
            f"--tasks {recipe.tasks}: what they learn takes {decimal(needed)} and {place} has "
            f"{decimal(disk.free)} free; learn fewer tasks, or name an --out with more space"
        )


class _Unobserved:
    """Is told how a run goes, and passes on nothing but what should be known."""

    def begun(self, tasks_learned: int) -> None:
        pass

    def batch_trained(self) -> None:
        pass

    def task_learned(self, tasks_learned: int, seconds: float) -> None:
        pass

    def batch_tested(self) -> None:
        pass

    def tested(self, checkpoint: Checkpoint) -> None:
        pass

    def noted(self, message: str) -> None:
        warnings.warn(message, stacklevel=2)

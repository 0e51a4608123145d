"""The public way to a run: its method, network, bank, stream and results, for evaluation, dashboards and notebooks."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from supsup_core import FrozenNetwork, MaskBank
from supsup_datasets import AnyDataset, DataUnavailable, TaskStream

from supsup_methods.assembly import build_problem, open_method
from supsup_methods.continual_method import AnyMethod, OverContexts
from supsup_methods.data_assembly import build_stream, load_dataset
from supsup_methods.devices import prepare_device
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint
from supsup_methods.experiment import Recipe
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    """A run that was opened for reading.

    Attributes:
        method: what was learned, ready to answer.
        checkpoints: the tests so far; `guessed` of a task's score is its row of the confusion of tasks.
        summary: the results, or None while the run is not done.
    """

    path: Path
    recipe: Recipe
    method: AnyMethod = field(repr=False)
    stream: TaskStream = field(repr=False)
    dataset: AnyDataset = field(repr=False)
    checkpoints: tuple[Checkpoint, ...] = field(repr=False)
    summary: Summary | None = field(repr=False)

    @property
    def network(self) -> FrozenNetwork:
        """The network's functional forward."""
        return self.method.net

    @property
    def bank(self) -> MaskBank:
        """The masks of SupSup.

        Raises:
            UsageError: the method learns no masks.
        """
        if isinstance(self.method, OverContexts) and isinstance(self.method.bank, MaskBank):
            return self.method.bank
        raise UsageError(f"{self.path}: {self.recipe.method.kind} learns no masks; use its method")


def open_run(
    path: str | os.PathLike[str], device: torch.device | str = "cpu", data_root: str | os.PathLike[str] | None = None
) -> Run:
    """Open a run's folder, whether it is done or not, on any device; a GPU computes as in training then (`prepare_device`).

    Args:
        path: the folder.
        device: where it answers.
        data_root: folder that holds the data, where it is not where the run learned from it.

    Raises:
        UsageError: there is no run here, one of its files is damaged, or its data is no longer what it learned from;
            or a data root is given, and the data lies in none.
        DataUnavailable: the data that it learned from is gone.
        SupsupError: its bank is damaged.
    """
    folder = RunFolder(Path(path))
    recipe, environment = folder.recipe(), folder.environment()
    if data_root is not None and environment.data_root is None:
        raise UsageError(
            f"--data-root {data_root}: {folder.path} learned from {environment.data_name}, which ships with a dependency; leave "
            "it out"
        )
    root = data_root if data_root is not None else environment.data_root
    try:
        loaded = load_dataset(recipe.stream, None if root is None else Path(root))
    except DataUnavailable as gone:
        if data_root is not None or root is None:
            raise
        raise DataUnavailable(f"{gone}; where the data has moved, pass its folder as data_root (--data-root)") from None
    if loaded.digest != environment.data_digest:
        raise UsageError(
            f"{folder.path}: its data, {environment.data_name} of {root or 'a dependency'}, is no longer what "
            "it learned from, and answers would mean nothing; put the data back"
        )
    device = torch.device(device)
    prepare_device(device)
    dataset = loaded.to(device)
    problem = build_problem(recipe, dataset, device)
    method = open_method(recipe, problem, folder.bank, whole_groups=None).method
    summary = folder.summary() if folder.is_done else None
    checkpoints = tuple(folder.progress().checkpoints)
    return Run(folder.path, recipe, method, build_stream(recipe, dataset), dataset, checkpoints, summary)


def find_runs(parent: Path) -> Iterator[RunFolder]:
    """Yield the runs directly under a folder, by name, demo-10 behind demo-9.

    What cannot be looked into is passed over, and what has a name that is no text.
    """
    for entry in sorted(parent.iterdir(), key=_natural) if parent.is_dir() else ():
        folder = RunFolder(entry)
        with contextlib.suppress(PermissionError, UnicodeEncodeError):
            entry.name.encode()
            if folder.holds_run:
                yield folder


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sort key in which numbers count as numbers."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]

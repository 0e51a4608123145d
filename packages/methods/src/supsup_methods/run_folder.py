"""A run as a folder: what was asked, where it ran, what was learned, and how it scored.

| file | content | written |
|---|---|---|
| `recipe.json` | the experiment | first, once |
| `environment.json` | device, threads, data, versions: what a resumed run must find again | first, once |
| `bank/` | the masks | after each task |
| `progress.json` | seconds of each task, checkpoints so far | after each task and checkpoint |
| `summary.json` | the results | last: a run with this file is done |
| `lock` | held while a process works on the run | |
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from supsup_core.atomic_files import replace_file
from supsup_core.bank_files import MANIFEST

from supsup_methods import recipe_files
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.experiment import Recipe

RECIPE = "recipe.json"
ENVIRONMENT = "environment.json"
PROGRESS = "progress.json"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Environment:
    """What a run depends on beside its recipe. Resuming asks for the same, so that it ends with the same bits."""

    device: str
    threads: int
    data_name: str
    data_digest: str
    data_root: str | None
    versions: dict[str, str]


@dataclass
class Progress:
    """How far a run has come; the bank itself tells how many tasks are learned."""

    train_seconds: dict[int, float]
    checkpoints: list[Checkpoint]


@dataclass(frozen=True)
class RunFolder:
    """One run's files."""

    path: Path

    @property
    def bank(self) -> Path:
        """Folder of the mask bank."""
        return self.path / "bank"

    @property
    def holds_bank(self) -> bool:
        """Whether a task was saved; a crash while the first one was written leaves a folder without a manifest."""
        return (self.bank / MANIFEST).exists()

    @property
    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return (self.path / RECIPE).exists()

    @property
    def is_done(self) -> bool:
        """Whether the run here came to its end."""
        return (self.path / SUMMARY).exists()

    @property
    def is_active(self) -> bool:
        """Whether a living process works on the run."""
        try:
            with open(self.path / "lock", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def refuse_unless_new(self) -> None:
        """Check that a new run may be written here.

        Raises:
            UsageError: the place is taken.
        """
        if self.holds_run:
            raise UsageError(
                f"--out {self.path}: it holds another run; go on with it by --resume, or choose another folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path}: it is a file; choose another folder")
        if self.path.exists() and any(self.path.iterdir()):
            raise UsageError(f"--out {self.path}: it is not empty and holds no run; choose another folder")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the run to this process.

        Raises:
            UsageError: another process works on it.
        """
        with open(self.path / "lock", "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"--out {self.path}: another process works on this run; wait for it, or stop it first"
                ) from None
            yield

    def begin(self, recipe: Recipe, environment: Environment) -> None:
        """Write what the run is."""
        self._write(ENVIRONMENT, asdict(environment))
        replace_file(self.path / RECIPE, recipe_files.to_json(recipe).encode())

    def recipe(self) -> Recipe:
        """Return the run's recipe.

        Raises:
            UsageError: there is no run here, or the file is damaged.
        """
        if not self.holds_run:
            raise UsageError(f"{self.path}: no run here ({RECIPE} is missing); check the path")
        return recipe_files.from_json((self.path / RECIPE).read_bytes(), str(self.path / RECIPE))

    def environment(self) -> Environment:
        """Return where the run was started."""
        return Environment(**self._read(ENVIRONMENT))

    def progress(self) -> Progress:
        """Return how far the run has come."""
        if not (self.path / PROGRESS).exists():
            return Progress({}, [])
        content = self._read(PROGRESS)
        checkpoints = [
            Checkpoint(entry["tasks_learned"], tuple(TaskScore(**score) for score in entry["scores"]), entry["seconds"])
            for entry in content["checkpoints"]
        ]
        return Progress({int(task): seconds for task, seconds in content["train_seconds"].items()}, checkpoints)

    def write_progress(self, progress: Progress) -> None:
        """Replace the record of how far the run has come."""
        self._write(PROGRESS, asdict(progress))

    def summary(self) -> dict[str, Any]:
        """Return the results of a run that is done."""
        return self._read(SUMMARY)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the results, which marks the run as done."""
        self._write(SUMMARY, summary)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            raise UsageError(f"{self.path / name}: missing; restore it from a copy, or start a new run") from None
        except ValueError as error:
            raise UsageError(
                f"{self.path / name}: not JSON ({error}); restore it from a copy, or start a new run"
            ) from None
        if not isinstance(content, dict):
            raise UsageError(f"{self.path / name}: not a JSON object; restore it from a copy, or start a new run")
        return content

    def _write(self, name: str, content: dict[str, Any]) -> None:
        replace_file(self.path / name, (json.dumps(content, indent=1) + "\n").encode())


def new_run_path(parent: Path, name: str) -> Path:
    """Return a path under `parent` that does not exist: NAME-1, NAME-2, ..."""
    taken = {entry.name for entry in os.scandir(parent)} if parent.is_dir() else set()
    number = 1
    while f"{name}-{number}" in taken:
        number += 1
    return parent / f"{name}-{number}"

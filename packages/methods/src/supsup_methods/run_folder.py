"""A run as a folder: what was asked, where it ran, what was learned, and how it scored.

| file | content | written |
|---|---|---|
| `recipe.json` | the experiment | first, once |
| `environment.json` | device, threads, tasks at once, data, versions, arithmetic: as resuming asks for them | first |
| `bank/` | what was learned: masks, or what else the method keeps | after each task |
| `in-training-000007.safetensors` | the tasks from 7 on that train together, minutes ago | every five minutes, while they do |
| `progress.json` | seconds and first test of each task, checkpoints so far | after each task and checkpoint |
| `stretches.json` | in NNs, which mask each part of the stream went to, its true task, and ν | before the results |
| `summary.json` | the results | last: a run with this file is done |
| `asked-….json` | what the run answers under another search, a task after another | when asked |
| `watched-000003.json` | what was seen of task 3 when it was trained again (`--watch-task`) | when asked |
| `lock` | held while a process works on the run; then how that ended | |

Of `environment.json`, where the data lies is written again when a run goes on over data that has moved.
"""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from supsup_core.atomic_files import replace_file
from supsup_core.bank_files import stored_tasks
from supsup_core.bank_manifest import MANIFEST

from supsup_methods import recipe_files
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.experiment import Recipe
from supsup_methods.mask_bookkeeping import Stretch
from supsup_methods.result_records import Summary
from supsup_methods.run_lock import holding, is_held
from supsup_methods.state_files import stored_task_files

RECIPE = "recipe.json"
ENVIRONMENT = "environment.json"
PROGRESS = "progress.json"
STRETCHES = "stretches.json"
SUMMARY = "summary.json"
LOCK = "lock"
BANK = "bank"
RUNS = Path("runs")
"""Where runs are, unless another place is named: under the folder one works in."""

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Environment:
    """What a run depends on beside its recipe. Resuming asks for the same, so that it ends with the same bits."""

    device: str
    """Where tasks are trained and tested; several with commas between, for a process on each of them."""
    threads: int
    """Of each process."""
    data_name: str
    data_digest: str
    data_root: str | None
    versions: dict[str, str]
    tasks_at_once: int = 1
    arithmetic: str = "autograd"
    """What computes training steps (`machine_loops.arithmetic`); of runs older than this field, nothing but autograd did."""
    test_order: str = "of the data"
    """Of test images (`evaluation.TEST_ORDER`); that of runs older than this field."""
    machine: str = ""
    """Processor, cores and GPU, for whoever reads the figures; a resumed run may find another."""

    @property
    def devices(self) -> tuple[str, ...]:
        """A device for each process that trains; with a single one, the run's own process trains."""
        return tuple(self.device.split(","))


@dataclass
class Progress:
    """How far a run has come; the files of what was learned tell how many tasks are."""

    train_seconds: dict[int, float]
    checkpoints: list[Checkpoint]
    first_scores: dict[int, TaskScore] = field(default_factory=dict)
    """The test of each task just after it was learned."""
    first_test_seconds: float = 0.0


@dataclass(frozen=True)
class RunFolder:
    """One run's files."""

    path: Path

    @property
    def bank(self) -> Path:
        """Folder of what was learned."""
        return self.path / BANK

    @property
    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return (self.path / RECIPE).exists()

    @property
    def digest(self) -> str:
        """SHA-256 of what was asked and where it ran: runs that share it learn the same bits. Nothing where no run is."""
        try:
            parts = [(self.path / name).read_bytes() for name in (RECIPE, ENVIRONMENT)]
        except FileNotFoundError:
            return ""
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    @property
    def tasks_saved(self) -> int:
        """How many tasks the files hold.

        Raises:
            CorruptBank: they are damaged.
        """
        if (self.bank / MANIFEST).exists():  # a crash while a bank's first task was written leaves none
            return stored_tasks(self.bank)
        return stored_task_files(self.bank)

    @property
    def is_done(self) -> bool:
        """Whether the run here came to its end."""
        return (self.path / SUMMARY).exists()

    @property
    def has_results(self) -> bool:
        """Whether the results can be read."""
        try:
            self.summary()
        except UsageError:
            return False
        return True

    @property
    def is_active(self) -> bool:
        """Whether a living process works on the run."""
        return is_held(self.path / LOCK)

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
        if self.path.exists() and not all(_is_leftover(entry.name) for entry in self.path.iterdir()):
            raise UsageError(f"--out {self.path}: it is not empty and holds no run; choose another folder")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the run to this process, and note how the context ends (`run_lock`).

        Raises:
            UsageError: another process works on it.
        """
        with holding(self.path / LOCK, self.path):
            yield

    def begin(self, recipe: Recipe, environment: Environment) -> None:
        """Write what the run is."""
        self._write(ENVIRONMENT, asdict(environment))
        replace_file(self.path / RECIPE, recipe_files.to_json(recipe).encode())

    def note_data_root(self, root: str | None) -> None:
        """Write where the data lies now, where that is another place than it was: whoever opens the run looks there."""
        noted = self.environment()
        if root != noted.data_root:
            self._write(ENVIRONMENT, asdict(replace(noted, data_root=root)))

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
        return self._read(ENVIRONMENT, _ENVIRONMENT)

    def progress(self) -> Progress:
        """Return how far the run has come."""
        if not (self.path / PROGRESS).exists():
            return Progress({}, [])
        return self._read(PROGRESS, _PROGRESS)

    def write_progress(self, progress: Progress) -> None:
        """Replace the record of how far the run has come."""
        self._write(PROGRESS, asdict(progress), indent=None)  # after each task, so it should be quick

    def summary(self) -> Summary:
        """Return the results of a run that is done."""
        return self._read(SUMMARY, _SUMMARY)

    def write_stretches(self, parts: Sequence[Stretch]) -> None:
        """Write which mask each part of a stream went to."""
        self._write(STRETCHES, {"stretches": [asdict(part) for part in parts]}, indent=None)

    def write_summary(self, summary: Summary) -> None:
        """Write the results, which marks the run as done."""
        self._write(SUMMARY, dict(summary))

    def _read(self, name: str, adapter: TypeAdapter[_Content]) -> _Content:
        """Return what a file says, as the adapter's type."""
        path = self.path / name
        again = f"go on with supsup-train --resume --out {self.path}, which makes it again"
        way_out = again if name in (PROGRESS, SUMMARY) else "restore it from a copy, or start a new run"
        try:
            return adapter.validate_python(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise UsageError(f"{path}: missing; {way_out}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"{path}: {place}: {first['msg']}; {way_out}") from None
        except ValueError as error:
            raise UsageError(f"{path}: not JSON ({error}); {way_out}") from None

    def _write(self, name: str, content: dict[str, Any], indent: int | None = 1) -> None:
        replace_file(self.path / name, (json.dumps(content, indent=indent) + "\n").encode())


def claim_run_path(parent: Path, name: str) -> Path:
    """Make and return the first of the folders NAME-1, NAME-2, ... under `parent` that does not exist."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = parent / f"{name}-{number}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("unreachable")


def _is_leftover(name: str) -> bool:
    """Tell whether a start that failed before it wrote the recipe may have left this file."""
    return name in (LOCK, ENVIRONMENT) or name.endswith(".partial")


_ENVIRONMENT = TypeAdapter(Environment)
_PROGRESS = TypeAdapter(Progress)
_SUMMARY = TypeAdapter(Summary)

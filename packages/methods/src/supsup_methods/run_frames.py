"""What runs recorded, as data frames for figures and tables (extra `plots`)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from supsup_methods.byte_accounts import MaskAccount, PaperBytes
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.mask_bookkeeping import Stretch, mask_owners
from supsup_methods.metrics import backward_transfer, forgetting
from supsup_methods.run_folder import STRETCHES, Progress, RunFolder

CSC = "as scipy.sparse.csc, about"
"""The form of an estimate, which is many times the others where masks are dense."""
_STRETCHES = TypeAdapter(list[Stretch])


@dataclass(frozen=True)
class TaskTests:
    """The tests of a run, small enough to keep for each run that a reader looks at.

    Attributes:
        checkpoints: a line for each, columns `tasks`, `accuracy`, `task inferred right` (or missing), `forgetting` and
            `backward transfer` (or missing; see `metrics`), all fractions, and `seconds`.
        scores: a line for each checkpoint and task, columns `checkpoint` (tasks learned), `task`, `accuracy`, `task inferred
            right` (or missing); fractions.
        guesses: a line for each checkpoint, task and answer, columns `checkpoint`, `task`, `guessed`, `batches`.
        first: the test of each task just after it was learned, columns `task` and `accuracy` (fraction).
    """

    checkpoints: pd.DataFrame
    scores: pd.DataFrame
    guesses: pd.DataFrame
    first: pd.DataFrame

    def at(self, checkpoint: int | None) -> pd.DataFrame:
        """Return what `figures.task_accuracy` draws.

        Args:
            checkpoint: its number of tasks learned; None for the first tests alone, of a run that has no checkpoint yet.
        """
        first = self.first.rename(columns={"accuracy": "accuracy when just learned"})
        if checkpoint is None:
            return first.assign(**{"accuracy": float("nan"), "task inferred right": float("nan")})
        scores = self.scores[self.scores["checkpoint"] == checkpoint].drop(columns="checkpoint")
        return scores.merge(first, on="task", how="left")

    def guesses_at(self, checkpoint: int) -> pd.DataFrame:
        """Return what `confusion_figures.task_confusion` draws."""
        return self.guesses[self.guesses["checkpoint"] == checkpoint].drop(columns="checkpoint")


def task_tests(progress: Progress) -> TaskTests:
    """Return the tests of a run so far."""
    checkpoints, first = progress.checkpoints, progress.first_scores
    return TaskTests(
        _frame(
            ("tasks", "accuracy", "task inferred right", "forgetting", "backward transfer", "seconds"),
            (
                (
                    each.tasks_learned,
                    each.accuracy,
                    each.task_inference_accuracy,
                    forgetting(checkpoints, first, each),
                    backward_transfer(first, each),
                    each.seconds,
                )
                for each in checkpoints
            ),
        ),
        _frame(("checkpoint", "task", "accuracy", "task inferred right"), _scores(checkpoints)),
        _frame(
            ("checkpoint", "task", "guessed", "batches"),
            (
                (each.tasks_learned, score.task, guessed, batches)
                for each in checkpoints
                for score in each.scores
                for guessed, batches in score.guessed.items()
            ),
        ),
        _frame(("task", "accuracy"), ((task, score.accuracy) for task, score in sorted(first.items()))),
    )


def read_stretches(folder: RunFolder) -> list[Stretch]:
    """Return which mask each part of a run's stream was given to; nothing where the run keeps no such record, or not yet.

    Raises:
        UsageError: the record is damaged.
    """
    path = folder.path / STRETCHES
    try:
        return _STRETCHES.validate_python(json.loads(path.read_bytes())["stretches"])
    except FileNotFoundError:
        return []
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:120]
        raise UsageError(f"{path}: it does not say which masks were trained ({said}); restore it from a copy") from None


def stretch_rows(parts: Sequence[Stretch]) -> pd.DataFrame:
    """Return what `stream_figures.masks_along_stream` draws, with columns `batches`, `new` and `ratio` beside."""
    owners = mask_owners(parts)
    return _frame(
        ("batch", "batches", "mask", "task", "own", "new", "ratio"),
        (
            (part.first_batch, part.batches, part.mask, part.task, owners[part.mask] == part.task, part.new, part.ratio)
            for part in parts
        ),
    )


def decision_rows(parts: pd.DataFrame, every: int) -> pd.DataFrame:
    """Return what `stream_figures.decisions_along_stream` draws, from stretches that are also cut where a task ends.

    Args:
        parts: as `stretch_rows` returns them.
        every: training batches from one decision to the next.
    """
    return parts.loc[parts["batch"] % every == 0, ["batch", "ratio", "new"]].reset_index(drop=True)


def byte_rows(account: MaskAccount | None, stored: Mapping[str, int], counted: PaperBytes | None) -> pd.DataFrame:
    """Return what `bytes_figures.bytes_by_part` draws: the forms in which a run's storage can be counted.

    Args:
        account: of a bank of masks; None for other methods.
        stored: bytes of `contexts`, `shared` and `buffers`, as the method keeps them.
        counted: by Table 2's convention; None where it has none.
    """
    own = {"contexts": "each task's own", "shared": "trained and shared", "buffers": "running statistics"}
    lines = [("as the run keeps it", label, stored[name]) for name, label in own.items() if stored[name]]
    if account is not None:
        for dtype, ledger in account.coded.items():
            kept = f", {str(dtype).removeprefix('torch.')} statistics" if account.packed_buffers else ""
            parts = {
                "each task's own": ledger.contexts,
                "running statistics": ledger.buffers,
                "bookkeeping": ledger.bookkeeping,
                "manifest": ledger.manifest,
            }
            lines += [(f"entropy-coded{kept}", part, count) for part, count in parts.items() if count]
        order_0 = next(iter(account.coded.values())).order_0
        lines += [("order-0 reference", "each task's own", round(order_0))]
        lines += [(CSC, "each task's own", account.csc)]
    if counted is not None:
        lines += [("by Table 2's convention", part, count) for part, count in counted.parts.items() if count]
    return _frame(("form", "part", "bytes"), lines)


def density_rows(account: MaskAccount) -> pd.DataFrame:
    """Return what `bytes_figures.density_by_layer` draws."""
    return _frame(
        ("layer", "weights", "least", "mean", "most"),
        ((each.layer, each.weights, each.least, each.mean, each.most) for each in account.densities),
    )


def _scores(checkpoints: Sequence[Checkpoint]) -> Iterable[tuple[Any, ...]]:
    for each in checkpoints:
        for score in each.scores:
            yield each.tasks_learned, score.task, score.accuracy, _found(score)


def _found(score: TaskScore) -> float:
    return score.guesses_right / score.guesses if score.guesses else float("nan")


_WHOLE = {"tasks", "checkpoint", "task", "guessed", "batches", "batch", "mask", "bytes", "weights"}
_WORDS = {"form", "part", "layer"}
_CHECKS = {"own", "new"}


def _frame(columns: tuple[str, ...], lines: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    """Return a frame whose columns have the same types with lines and without."""
    frame = pd.DataFrame(list(lines), columns=list(columns))
    types = {
        name: "int64" if name in _WHOLE else "str" if name in _WORDS else "bool" if name in _CHECKS else "float64"
        for name in columns
    }
    return frame.astype(types)

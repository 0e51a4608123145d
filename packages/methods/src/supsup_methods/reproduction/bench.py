"""Where targets get their runs from: a folder of them, in which what is there is not run again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from supsup_methods.errors import UsageError
from supsup_methods.evaluation import TEST_ORDER
from supsup_methods.experiment import Recipe, Stream
from supsup_methods.precision import Precision
from supsup_methods.run_folder import RunFolder
from supsup_methods.task_order import TaskOrder

CarryOut: TypeAlias = Callable[[Recipe, Path], None]
"""Runs a recipe in a folder, or goes on with the run there, to its end."""


class _Labelled(Protocol):
    @property
    def label(self) -> str: ...


AnyRow = TypeVar("AnyRow", bound=_Labelled)


@dataclass(frozen=True)
class Bench:
    """What a target works with.

    Attributes:
        runs: folder of runs.
        seeds: how many, from 0 on.
        quick: whether a small version is asked for.
        data_root: of full data; None for the digits that ship with a dependency.
        digest_of: the data of a stream there.
        device: by its name.
        carry_out: runs a recipe.
        say: tells one line of progress.
        tasks: learned in each run at most; None for as many as the recipe has.
        epochs: of each task at most, where a recipe counts them; None for as many as it has.
        row: the label of the one that is asked for; None for all.
        precision: of matrix products in training, where a recipe counts epochs.
    """

    runs: Path
    seeds: int
    quick: bool
    data_root: Path | None
    digest_of: Callable[[Stream], str]
    device: str
    carry_out: CarryOut
    say: Callable[[str], None]
    tasks: int | None = None
    epochs: int | None = None
    row: str | None = None
    precision: Precision = "float32"

    def chosen(self, rows: Sequence[AnyRow]) -> list[AnyRow]:
        """Return the row that is asked for, or all."""
        return [row for row in rows if self.row in (None, row.label)]

    def each_seed(self, recipe: Recipe) -> Iterator[RunFolder]:
        """Yield a run of the recipe for each seed, having run what is missing.

        Raises:
            UsageError: a run is there that was made with other settings, on other data or another device, or tested in another
                order.
        """
        for seed in range(self.seeds):
            yield self._run(replace(recipe, seed=seed))

    def run_of(self, recipe: Recipe) -> RunFolder:
        """Return where a recipe's run is, or will be."""
        return RunFolder(self.runs / f"{recipe.name}-seed-{recipe.seed}")

    def _run(self, recipe: Recipe) -> RunFolder:
        folder = self.run_of(recipe)
        if folder.holds_run and folder.recipe() != recipe:
            raise UsageError(
                f"{folder.path}: this run was made with other settings than {recipe.name} has now; name another --out, or "
                "remove it"
            )
        if folder.holds_run:
            self._refuse_other(folder)
        if not _has_all_results(folder, recipe):
            self.carry_out(recipe, folder.path)
            last = folder.summary()["checkpoints"][-1]
            self.say(f"{recipe.name}, seed {recipe.seed}: accuracy {last['accuracy']:.2%}")
        return folder

    def _refuse_other(self, folder: RunFolder) -> None:
        """Keep figures apart that come from other data, another device or other guesses."""
        made = folder.environment()
        data = f"{made.data_name} in {made.data_root}" if made.data_root else made.data_name
        for what, then, now in (
            (f"data ({data})", made.data_digest, self.digest_of(folder.recipe().stream)),
            (f"device ({made.device})", made.devices[0], self.device),
            (f"order of test images ({made.test_order})", made.test_order, TEST_ORDER),
        ):
            if then != now:
                raise UsageError(
                    f"{folder.path}: this run was made with another {what}; name it again, or another --out"
                )


def _has_all_results(folder: RunFolder, recipe: Recipe) -> bool:
    """Tell whether a run is done, and the records of all its tests can be read: what lacks one is tested again."""
    if not (folder.is_done and folder.has_results):
        return False
    try:
        return not TaskOrder(recipe, 1).checkpoints_due(folder.progress(), recipe.tasks)
    except UsageError:  # a damaged record
        return False

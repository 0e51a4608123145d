"""What a run answers under another search: masks do not depend on how tasks are inferred, so they are learned once.

Answers are kept beside the run, in a file `asked-….json` for each search, task by task: who stops loses little, and nothing is
measured twice, whether `supsup-reproduce` or the dashboard asks.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from supsup_core.atomic_files import replace_file
from supsup_datasets import AnyDataset, Scenario

from supsup_methods.assembly import build_problem, open_method
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.continual_method import AnyMethod
from supsup_methods.data_assembly import build_stream, load_dataset
from supsup_methods.devices import prepare_device
from supsup_methods.errors import UsageError
from supsup_methods.evaluation import TEST_ORDER, Checkpoint, TaskScore, evaluate_task
from supsup_methods.experiment import Recipe
from supsup_methods.guess_traces import owners_of_masks
from supsup_methods.registry import inference_of
from supsup_methods.reproduction.bench import Bench
from supsup_methods.result_records import Accuracies
from supsup_methods.run_folder import RunFolder
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.task_guessing import TaskInference

_KEEP_SECONDS = 2.0  # from one writing of the answers to the next, at most, but for a task that takes longer


@dataclass
class _Test:
    """The scores of the first tasks, as far as they were tested after so many were learned."""

    tasks_learned: int
    scores: list[TaskScore]


@dataclass
class _Record:
    """What a file holds: tests of all tasks as results, and every test task by task, which older files lack."""

    inference: dict[str, Any]
    checkpoints: list[Accuracies] = field(default_factory=list)
    tests: list[_Test] = field(default_factory=list)


_RECORD = TypeAdapter(_Record)


@dataclass(frozen=True)
class Asked:
    """A run and a search that it is asked to infer tasks by, in place of its own; and what is known of the answers.

    Attributes:
        folder: of the run.
        inference: the search.
    """

    folder: RunFolder
    inference: TaskInference

    @property
    def path(self) -> Path:
        """Where the answers are kept."""
        words = json.dumps([asdict(self.inference), TEST_ORDER], sort_keys=True)
        return self.folder.path / f"asked-{hashlib.sha256(words.encode()).hexdigest()[:12]}.json"

    def scores(self, tasks_learned: int) -> tuple[TaskScore, ...]:
        """Return the scores of the first tasks after so many were learned, as far as they are known.

        Raises:
            UsageError: the file of the answers is damaged.
        """
        return next((tuple(t.scores) for t in self._record().tests if t.tasks_learned == tasks_learned), ())

    def accuracies(self, tasks_learned: int) -> Accuracies | None:
        """Return the test of all tasks after so many were learned, or None where it is not complete.

        Raises:
            UsageError: the file of the answers is damaged.
        """
        known = self._record().checkpoints
        return next((each for each in known if each["tasks_learned"] == tasks_learned), None)

    def ask(
        self, dataset: AnyDataset, tasks_learned: int, tasks_tested: int, device: torch.device | str = "cpu"
    ) -> Generator[TaskScore]:
        """Test the first tasks that are not tested yet, one after another, and yield the score of each.

        The search chooses among all that were learned by then. Whoever stops asking keeps what was yielded.

        Args:
            dataset: of the run's stream.
            tasks_learned: how many tasks (in NNs stretches of the stream) the run had learned.
            tasks_tested: how many of them are tested, from the first on.
            device: to test on.

        Raises:
            UsageError: the run's method infers no task, or has not learned so many, or the file of the answers is damaged.
        """
        if len(self.scores(tasks_learned)) >= tasks_tested:
            return
        recipe, device = self.folder.recipe(), torch.device(device)
        dataset = dataset.to(device)
        method = self.method(dataset, tasks_learned, device)
        stream, batch_size = build_stream(recipe, dataset), recipe.evaluation.batch_size
        owners, scenario = owners_of_masks(method, stream, recipe), asked_scenario(recipe)

        def test(task: int) -> list[TaskScore]:
            return [evaluate_task(method, stream[task], scenario, batch_size, owners=owners)]

        with closing(tested_in_turn([self], test, tasks_learned, tasks_tested)) as tested:
            for (score,) in tested:
                yield score

    def _record(self) -> _Record:
        try:
            return _RECORD.validate_python(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return _Record(asdict(self.inference))
        except (ValidationError, ValueError) as error:
            reason = "fields are missing or wrong" if isinstance(error, ValidationError) else f"not JSON ({error})"
            raise UsageError(f"{self.path}: {reason}; delete it, and what it held is measured again") from None

    def method(self, dataset: AnyDataset, tasks_learned: int, device: torch.device) -> AnyMethod:
        """Return the run's method as it was after so many tasks, with this search in place of its own.

        Raises:
            UsageError: it infers no task, or has not learned so many.
        """
        prepare_device(device)
        recipe, path = self.folder.recipe(), self.folder.path
        settings = recipe.method
        if (
            not isinstance(settings, SupSupSettings | BatchESettings | UnknownTasksSettings)
            or inference_of(settings) is None
        ):
            raise UsageError(
                f"{path}: {settings.kind} searches no contexts for tasks, so it cannot be asked in another way"
            )
        recipe = replace(recipe, method=replace(settings, inference=self.inference))
        method = open_method(recipe, build_problem(recipe, dataset, device), self.folder.bank, None).method
        if method.tasks_learned < tasks_learned:
            raise UsageError(
                f"{path}: {method.tasks_learned} tasks are learned, and {tasks_learned} are asked for; choose fewer"
            )
        then = method if tasks_learned == method.tasks_learned else method.first(tasks_learned)
        if then is None:
            raise AssertionError("unreachable: methods over contexts keep all of their earlier states")
        return then

    def keep(self, tasks_learned: int, scores: list[TaskScore]) -> None:
        """Write scores, unless as many are kept already: by another process, for example."""
        record = self._record()
        before = next((test for test in record.tests if test.tasks_learned == tasks_learned), _Test(tasks_learned, []))
        if len(before.scores) >= len(scores):
            return
        record.tests = [test for test in record.tests if test is not before] + [_Test(tasks_learned, scores)]
        if len(scores) == tasks_learned and self.accuracies(tasks_learned) is None:
            record.checkpoints = sorted(
                [*record.checkpoints, as_accuracies(tasks_learned, scores)], key=lambda each: each["tasks_learned"]
            )
        replace_file(self.path, (json.dumps(asdict(record)) + "\n").encode())


def tested_in_turn(
    asked: Sequence[Asked], test: Callable[[int], list[TaskScore]], tasks_learned: int, tasks_tested: int
) -> Generator[list[TaskScore]]:
    """Test one task after another by several searches at once, and yield the scores of each; they are kept now and then.

    Args:
        asked: of one run; what one of them does not know is tested by all.
        test: from the index of a task to its score by each of them.
        tasks_learned: how many tasks the run had learned.
        tasks_tested: how many of them are tested, from the first on.
    """
    known = [each.scores(tasks_learned) for each in asked]
    first = min(len(scores) for scores in known)
    found, kept = [list(scores[:first]) for scores in known], time.monotonic()

    def keep() -> None:
        for each, scores in zip(asked, found, strict=True):
            each.keep(tasks_learned, scores)

    try:
        for task in range(first, tasks_tested):
            scores = test(task)
            for before, score in zip(found, scores, strict=True):
                before.append(score)
            if time.monotonic() - kept > _KEEP_SECONDS:
                keep()
                kept = time.monotonic()
            yield scores
    finally:
        keep()


def as_accuracies(tasks_learned: int, scores: list[TaskScore]) -> Accuracies:
    """Return the means over tasks of some scores, fractions; what needs earlier tests is None."""
    found = Checkpoint(tasks_learned, tuple(scores), seconds=0.0)
    return Accuracies(
        tasks_learned=tasks_learned,
        accuracy=found.accuracy,
        task_inference_accuracy=found.task_inference_accuracy,
        forgetting=None,
        backward_transfer=None,
    )


def asked_scenario(recipe: Recipe) -> Scenario:
    """Return the scenario that a recipe is asked under: its own, or GNu where that gives the task and leaves nothing to infer."""
    own = Scenario(recipe.evaluation.scenario)
    return Scenario.GNu if own.task_given_at_test else own


def accuracies_under(bench: Bench, run: RunFolder, inference: TaskInference) -> list[Accuracies]:
    """Return the tests of a run at its checkpoints, had it inferred tasks so; kept beside the run, and made once.

    Where it did infer them so, they are its own.

    Raises:
        UsageError: the run's method infers no task, or the file of the answers is damaged.
    """
    if asks_so_itself(run, inference):
        return [as_accuracies(each.tasks_learned, list(each.scores)) for each in run.progress().checkpoints]
    asked, found = Asked(run, inference), []
    dataset: AnyDataset | None = None
    for checkpoint in run.progress().checkpoints:
        learned = checkpoint.tasks_learned
        known = asked.accuracies(learned)
        if known is None:
            dataset = dataset or load_dataset(run.recipe().stream, bench.data_root).to(bench.device)
            deque(asked.ask(dataset, learned, learned, bench.device), maxlen=0)
            known = as_accuracies(learned, list(asked.scores(learned)))
            bench.say(f"{run.path.name}, {learned} tasks, {inference.kind}: accuracy {known['accuracy']:.2%}")
        found.append(known)
    return found


def asks_so_itself(run: RunFolder, inference: TaskInference) -> bool:
    """Tell whether a run's own tests are those that another search would make: the same search, scenario and order."""
    recipe = run.recipe()
    return (
        inference_of(recipe.method) == inference
        and asked_scenario(recipe) == Scenario(recipe.evaluation.scenario)
        and run.environment().test_order == TEST_ORDER
    )

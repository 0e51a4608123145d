"""What a terminal shows while a run goes on: live bars, or a line for each task where nobody watches."""

import time
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from supsup_datasets import TaskStream

from supsup_methods.evaluation import Checkpoint
from supsup_methods.experiment import Recipe
from supsup_methods.training_length import steps_of_task


@dataclass
class RunProgress:
    """Shows the task, the step rate and the time left; a context manager."""

    console: Console
    recipe: Recipe
    stream: TaskStream
    _bars: Progress = field(init=False)
    _training: TaskID = field(init=False)
    _testing: TaskID | None = field(init=False, default=None)
    _tasks_learned: int = field(init=False, default=0)
    _started: float = field(init=False, default=0.0)
    _steps: int = field(init=False, default=0)
    _test_seconds: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}% · {task.fields[rate]} · left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._training = self._bars.add_task(self._label(0), total=self._batches_until(self.recipe.tasks), rate="")

    def __enter__(self) -> "RunProgress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begun(self, tasks_learned: int) -> None:
        """Start counting at the tasks that an earlier process learned."""
        self._tasks_learned, self._started = tasks_learned, time.perf_counter()
        done = self._batches_until(tasks_learned)
        self._bars.update(self._training, completed=done, description=self._label(tasks_learned))

    def batch_trained(self) -> None:
        """Advance by one training step."""
        self._steps += 1
        if self._steps % 10 == 0:
            rate = self._steps / (time.perf_counter() - self._started - self._test_seconds)
            self._bars.update(self._training, advance=10, rate=f"{rate:.0f} steps/s")

    def task_learned(self, tasks_learned: int, seconds: float) -> None:
        """Say that a task is learned; in a file or a pipe this line is all there is."""
        self._tasks_learned = tasks_learned
        completed = self._batches_until(tasks_learned)
        self._bars.update(self._training, completed=completed, description=self._label(tasks_learned))
        if not self.console.is_terminal:
            rate = (completed - self._batches_until(tasks_learned - 1)) / seconds
            left = (
                (time.perf_counter() - self._started - self._test_seconds)
                / max(1, self._steps)
                * (self._batches_until(self.recipe.tasks) - completed)
            )
            self.console.print(
                f"task {tasks_learned}/{self.recipe.tasks} learned · {rate:.0f} steps/s · {left:.0f} s left",
                highlight=False,
            )

    def batch_tested(self) -> None:
        """Advance by one test batch."""
        if self._testing is None:
            per_task = -(-len(self.stream[0].test) // self.recipe.evaluation.batch_size)
            total = self._tasks_learned * per_task
            self._testing = self._bars.add_task(f"testing {self._tasks_learned} tasks", total=total, rate="")
        self._bars.update(self._testing, advance=1)

    def tested(self, checkpoint: Checkpoint) -> None:
        """Put the testing bar away; its time does not count in the step rate."""
        self._test_seconds += checkpoint.seconds
        if self._testing is not None:
            self._bars.remove_task(self._testing)
            self._testing = None

    def noted(self, message: str) -> None:
        """Print a line that stays."""
        self.console.print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True, highlight=False)

    def _batches_until(self, tasks: int) -> int:
        """Return the training batches of the first tasks, all as large as task 0: those of split streams differ a little."""
        first, other = self._batches_of_first_and_others
        return (first if tasks else 0) + max(0, tasks - 1) * other

    @cached_property
    def _batches_of_first_and_others(self) -> tuple[int, int]:
        images, training = len(self.stream[0].train), self.recipe.method.training
        return steps_of_task(training, 0, images), steps_of_task(training, 1, images)

    def _label(self, tasks_learned: int) -> str:
        current = min(tasks_learned + 1, self.recipe.tasks)
        return f"learning task {current}/{self.recipe.tasks}"

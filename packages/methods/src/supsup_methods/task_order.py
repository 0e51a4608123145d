"""Which tasks a run trains together, and which tests it owes: a function of its recipe and its environment alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from supsup_methods.experiment import Recipe
from supsup_methods.run_folder import Progress


@dataclass(frozen=True)
class TaskOrder:
    """The order of a run.

    Attributes:
        recipe: of the run.
        tasks_at_once: how many tasks are trained together, as the last bits of what is learned may depend on it.
    """

    recipe: Recipe
    tasks_at_once: int

    def next_group(self, learned: int) -> range:
        """Return the tasks to train together after `learned`, where a group ended; it ends at a checkpoint at the latest."""
        return range(learned, min(learned + self.tasks_at_once, self.recipe.next_checkpoint(learned)))

    def groups(self, learned: int) -> Iterator[range]:
        """Yield the groups that are left after `learned` tasks, where a group ended."""
        while learned < self.recipe.tasks:
            group = self.next_group(learned)
            yield group
            learned = group.stop

    def whole_groups(self, tasks: int) -> int:
        """Return how many of the first `tasks` were trained in groups that end among them."""
        start = 0
        while start < tasks and self.next_group(start).stop <= tasks:
            start = self.next_group(start).stop
        return start

    def checkpoints_due(self, progress: Progress, learned: int) -> list[int]:
        """Return after how many tasks a test is missing: now, or earlier where the record of it was lost."""
        tested = {checkpoint.tasks_learned for checkpoint in progress.checkpoints}
        return [tasks for tasks in range(1, learned + 1) if self.recipe.is_checkpoint(tasks) and tasks not in tested]

    def first_tests_due(self, progress: Progress, learned: int) -> list[range]:
        """Return the groups of learned tasks whose first test is missing: where its record was lost."""
        due, start = [], 0
        while start < learned:
            tasks = range(start, min(self.next_group(start).stop, learned))
            if any(task not in progress.first_scores for task in tasks):
                due.append(tasks)
            start = tasks.stop
        return due

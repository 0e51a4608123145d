"""A run that can be asked which task an image is from, with what is known of its tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import streamlit as st
from supsup_datasets import LabelSpace, Task
from supsup_methods.continual_method import OverContexts
from supsup_methods.guess_traces import owners_of_masks
from supsup_methods.registry import MethodSettings, inference_of
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import Run

from supsup_dashboard.run_choice import opened, stamp


@dataclass(frozen=True)
class Subject:
    """The run.

    Attributes:
        folder: its files.
        stamped: how far they had come when it was opened.
        run: opened.
        method: its method, which keeps contexts that can be searched.
        owners: the true task of each mask, where masks are no tasks (NNs); else None.
        places: each true task that was learned, and where the stream shows it first.
    """

    folder: RunFolder
    stamped: tuple[int, ...]
    run: Run
    method: OverContexts
    owners: Mapping[int, int] | None
    places: Mapping[int, int]

    @property
    def word(self) -> Literal["task", "mask"]:
        """For what answers."""
        return "task" if self.owners is None else "mask"

    @property
    def labels(self) -> int:
        """Labels of a task."""
        return self.run.stream[0].num_labels

    @property
    def outputs(self) -> int:
        """Neurons of the last layer."""
        return self.run.recipe.backbone.outputs

    @property
    def state(self) -> tuple[Path, tuple[int, ...]]:
        """Which run this is, and how far it has come: a key for caches."""
        return self.folder.path, self.stamped

    def task(self, identity: int) -> Task:
        """Return a true task."""
        return self.run.stream[self.places[identity]]

    def right(self, identity: int) -> tuple[int, ...]:
        """Return the answers that are right for a true task."""
        if self.owners is None:
            return (identity,)
        return tuple(mask for mask, owner in self.owners.items() if owner == identity)

    def meaning(self, answer: int, output: int) -> str:
        """Return which class an output names under an answer; beyond the labels it names none."""
        if output >= self.labels:
            return f"none (output {output})"
        return self.class_of(self.task(answer if self.owners is None else self.owners[answer]), output)

    def class_of(self, task: Task, label: int) -> str:
        """Return a label's class in a task, by its name if it has one."""
        number = task.classes[label] if task.label_space is LabelSpace.LOCAL else label
        names = self.run.dataset.class_names
        return names[number] if names else str(number)


def subject_of(folder: RunFolder) -> Subject | None:
    """Open a run; None where it cannot be asked, having said why and what to do.

    Raises:
        UsageError: one of its files is damaged.
        DatasetError: its data is gone.
        SupsupError: its bank is damaged.
    """
    settings = folder.recipe().method
    if inference_of(settings) is None:
        _say_no_search(settings)
        return None
    if folder.tasks_saved == 0:
        st.info("This run has learned no task yet, so there is none to find. Come back when its first one is learned.")
        return None
    stamped = stamp(folder)
    run = opened(folder, stamped)
    if not isinstance(run.method, OverContexts):  # it finds the task in a way of its own
        _say_no_search(settings)
        return None
    return Subject(folder, stamped, run, run.method, *_truths(folder.path, stamped, run))


def _say_no_search(settings: MethodSettings) -> None:
    st.info(
        f"This run's method, {settings.kind}, does not find the task by a search over contexts. Choose a run of supsup, of "
        "supsup-unknown-tasks, or of batch-ensemble whose last layer is rank-one."
    )


@st.cache_data(max_entries=8, show_spinner=False)
def _truths(path: Path, stamped: tuple[int, ...], _run: Run) -> tuple[dict[int, int] | None, dict[int, int]]:
    """Return the owners of masks, and where each true task is first shown."""
    learned = range(_run.method.tasks_learned)
    places = {_run.stream.identity(index): index for index in reversed(learned)}
    return owners_of_masks(_run.method, _run.stream, _run.recipe), dict(sorted(places.items()))

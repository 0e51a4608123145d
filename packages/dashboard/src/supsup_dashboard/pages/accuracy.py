"""Accuracy of runs against the tasks they learned, the paper's curves behind it; and how each task of one run fares."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from supsup_core import SupsupError
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe
from supsup_methods.recipes import RECIPES
from supsup_methods.reporting.confusion_figures import FEW, confused, task_confusion
from supsup_methods.reporting.figures import task_accuracy
from supsup_methods.reporting.stream_figures import decisions_along_stream, masks_along_stream
from supsup_methods.reporting.table_figures import learning_curves
from supsup_methods.reproduction.tables import PANELS, ROWS, rows_like
from supsup_methods.run_folder import PROGRESS, Environment, RunFolder
from supsup_methods.run_frames import TaskTests, decision_rows, read_stretches, stretch_rows, task_tests
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings

from supsup_dashboard.charts import show_chart
from supsup_dashboard.run_choice import choose_runs, stamp

_SECONDS = 5  # from one look at the runs to the next: one may go on at any time
_FAR = 5  # times as many tasks, and more
_DIGITS = 4  # of the paper's accuracies as fractions: it prints hundredths of a percent
_CURVE_OF = {f"Table {table}: {row.label}": (table, row) for table, rows in ROWS.items() for row in rows}


def show() -> None:
    """Show the curves of the chosen runs, and the tasks of one of them."""
    st.title("Accuracy")
    folders = choose_runs("Its accuracy against the tasks it learned is drawn here.")
    seen = [_Seen(folder, stamp(folder)) for folder in folders]
    _look_again(seen)
    runs = {each.folder.path.name: each for each in seen if _readable(each)}
    if not runs:
        if not folders and "chosen-runs" in st.session_state:
            st.info("Choose at least one run above.")
        return
    papers = _choose_papers(runs)
    far = _is_far(runs, papers)
    scale = "log" if st.toggle("Logarithmic axis of tasks", far, key=f"logarithmic-{far}") else "linear"
    _show_curves(runs, papers, scale)
    _show_one(runs)


@dataclass(frozen=True)
class _Seen:
    """A run as it was before the page was drawn; what changes meanwhile is shown the next time.

    Attributes:
        folder: its files.
        stamped: what changes with them.
    """

    folder: RunFolder
    stamped: tuple[int, ...]

    @property
    def recipe(self) -> Recipe:
        """What was asked."""
        return _recipe(self.folder.path, self.stamped)

    @property
    def environment(self) -> Environment:
        """Where it ran."""
        return _environment(self.folder.path, self.stamped)

    @property
    def tests(self) -> TaskTests:
        """How it scored so far."""
        return _tests(self.folder.path, self.stamped)


@st.fragment(run_every=_SECONDS)
def _look_again(seen: Sequence[_Seen]) -> None:
    """Draw the page anew when a run has come further, or has gone, since it was drawn."""
    if any(stamp(each.folder) != each.stamped for each in seen):
        st.rerun()


def _readable(run: _Seen) -> bool:
    """Tell whether a run's files can be read, having said what is wrong where they cannot."""
    try:
        _ = run.recipe, run.environment, run.tests
    except (OSError, SupsupError, UsageError) as error:
        st.error(f"{run.folder.path.name}: {error}")
        return False
    return True


@st.cache_data(max_entries=200, show_spinner=False)
def _recipe(path: Path, stamped: tuple[int, ...]) -> Recipe:
    return RunFolder(path).recipe()


@st.cache_data(max_entries=200, show_spinner=False)
def _environment(path: Path, stamped: tuple[int, ...]) -> Environment:
    return RunFolder(path).environment()


@st.cache_data(max_entries=50, show_spinner="Reading the tests")
def _tests(path: Path, stamped: tuple[int, ...]) -> TaskTests:
    try:
        return task_tests(RunFolder(path).progress())
    except ZeroDivisionError:
        raise UsageError(
            f"{path / PROGRESS}: it tells of a test without images; remove it, and go on with supsup-train --resume --out "
            f"{path}, which makes it again"
        ) from None


def _choose_papers(runs: Mapping[str, _Seen]) -> dict[str, str | None]:
    """Let the reader choose curves of the paper; return them with the run that each is like, if one is."""
    like: dict[str, str | None] = {}
    for name, run in runs.items():
        for table, rows in rows_like(run.recipe).items():
            for row in rows:
                like.setdefault(f"Table {table}: {row.label}", name)
    tables = [table for table in ROWS if any(_CURVE_OF[label][0] == table for label in like)]
    left, right = st.columns(2)
    shown = left.multiselect(
        "Figures of the paper",
        list(ROWS),
        default=tables[:1],
        format_func=lambda table: f"{PANELS[table]} (Table {table})",
        key=f"figures-{'-'.join(tables)}",
        placeholder="None",
    )
    labels = [label for label, (table, _) in _CURVE_OF.items() if table in shown]
    fitting = [label for label in labels if label in like]
    chosen = right.multiselect(
        "Its curves, drawn behind the runs",
        labels,
        default=fitting or labels,
        key=f"curves-{zlib.crc32(repr((shown, fitting)).encode()):08x}",  # a widget of the same key keeps what it held
        disabled=not labels,
        placeholder="None",
    )
    return {label: like.get(label) for label in chosen}


def _is_far(runs: Mapping[str, _Seen], papers: Mapping[str, str | None]) -> bool:
    """Tell whether the paper's curves go on so far beyond the runs that a linear axis would squeeze these."""
    ours = [int(run.tests.checkpoints["tasks"].max()) for run in _tested(runs).values()]
    theirs = [max(_CURVE_OF[label][1].paper) for label in papers]
    return bool(ours and theirs) and max(theirs) > _FAR * max(ours)


def _tested(runs: Mapping[str, _Seen]) -> dict[str, _Seen]:
    return {name: run for name, run in runs.items() if len(run.tests.checkpoints)}


def _show_curves(runs: Mapping[str, _Seen], papers: Mapping[str, str | None], scale: str) -> None:
    tested = _tested(runs)
    curves = [run.tests.checkpoints.assign(run=name) for name, run in tested.items()]
    waiting = [name for name in runs if name not in tested]
    if waiting:
        st.info(
            f"No test of all tasks yet: {', '.join(waiting)}. A run tests them at its checkpoints and at its end; the tests of "
            "single tasks are below."
        )
    paper = _paper_rows(papers)
    if not curves and paper.empty:
        return
    rows = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["run", "tasks", "accuracy"])
    percent = rows.assign(accuracy=100 * rows["accuracy"].astype(float))
    figure = learning_curves(percent, paper).update_layout(xaxis_type=scale, uirevision=scale)
    printed = (paper["accuracy"].astype(float) / 100).round(_DIGITS)
    behind = pd.DataFrame({"run": "paper: " + paper["row"], "tasks": paper["tasks"], "accuracy": printed})
    numbers = pd.concat([rows, behind], ignore_index=True) if len(rows) else behind
    about = "Accuracy in percent, mean over tasks, against the number of tasks learned: of the chosen runs and of the paper."
    show_chart(figure, numbers, "accuracy-against-tasks", about)
    for line in _unlike_papers(runs, papers):
        st.caption(line)


def _unlike_papers(runs: Mapping[str, _Seen], papers: Mapping[str, str | None]) -> Iterator[str]:
    """Yield a line for each run behind which a curve of the paper stands that it is not quite like."""
    for label, name in papers.items():
        if name is None:
            continue
        recipe, environment = runs[name].recipe, runs[name].environment
        printed = RECIPES[_CURVE_OF[label][1].recipe]
        notes = [] if environment.data_root else [f"its data is {environment.data_name}"]
        if recipe.method.training != printed.method.training:
            notes.append(f"it is trained otherwise than {printed.name}")
        if notes:
            yield f"{name} is not quite like the paper's row ({label}): {', and '.join(notes)}."


def _paper_rows(papers: Mapping[str, str | None]) -> pd.DataFrame:
    lines: list[dict[str, Any]] = [
        {"row": label, "tasks": tasks, "accuracy": number.accuracy_percent, "like": like}
        for label, like in papers.items()
        for tasks, number in _CURVE_OF[label][1].paper.items()
    ]
    return pd.DataFrame(lines, columns=["row", "tasks", "accuracy", "like"])


def _show_one(runs: Mapping[str, _Seen]) -> None:
    st.header("Task by task")
    left, right = st.columns(2)
    run = runs[left.selectbox("Of the run", list(runs), key="task-by-task")]
    tests = run.tests
    learned = [int(tasks) for tasks in tests.checkpoints["tasks"]]
    if not learned and tests.first.empty:
        st.info("Nothing is tested yet: a run tests each task when it has learned it.")
        return
    at = None
    if learned:
        at = right.selectbox(
            "Tested after", learned[::-1], format_func=lambda tasks: f"{tasks} tasks learned", key="checkpoint"
        )
        _show_totals(tests.checkpoints.set_index("tasks").loc[at])
    rows = tests.at(at)
    about = "Accuracy in percent of each task, now and when it was just learned, and how often it was inferred right."
    show_chart(task_accuracy(rows), rows, "task-by-task", about)
    settings = run.recipe.method
    untold = isinstance(settings, UnknownTasksSettings)
    if at is not None:
        _show_confusion(tests.guesses_at(at), at, masks=untold)
    if isinstance(settings, UnknownTasksSettings):
        _show_decisions(run, settings)


def _show_totals(checkpoint: pd.Series) -> None:
    figures = {
        "Accuracy": _percent(checkpoint["accuracy"]),
        "Tasks inferred right": _percent(checkpoint["task inferred right"]),
        "Forgetting": _points(checkpoint["forgetting"]),
        "Backward transfer": _points(checkpoint["backward transfer"]),
    }
    for column, (name, value) in zip(st.columns(len(figures)), figures.items(), strict=True):
        column.metric(name, value)


def _show_confusion(guesses: pd.DataFrame, tasks: int, *, masks: bool) -> None:
    st.subheader("Which task test batches were given to")
    if guesses.empty:
        st.info("The task was given with each test batch, so none was guessed (scenario GG).")
        return
    wrong = guesses if masks else confused(guesses)
    if not masks:
        share = wrong["batches"].sum() / guesses["batches"].sum()
        st.write(
            f"{wrong['batches'].sum():,} of {guesses['batches'].sum():,} batches went to another task ({share:.2%})."
        )
    if tasks > FEW and wrong.empty:
        return
    figure = task_confusion(guesses, tasks, masks=masks)
    about = "For each task, the share of its test batches that each task was guessed for, in percent."
    show_chart(figure.update_layout(height=560), guesses, "confusion", about)


def _show_decisions(run: _Seen, settings: UnknownTasksSettings) -> None:
    st.subheader("Which mask the stream was given to")
    try:
        parts = _stretches(run.folder.path, run.stamped)
    except (OSError, UsageError) as error:
        st.error(str(error))
        return
    if parts.empty:
        st.info("The run writes its decisions when it is done.")
        return
    decisions = decision_rows(parts, settings.allocation.every)
    about = "For each decision along the stream, (k + 1) times the largest ν, and the threshold 1 + ε."
    show_chart(decisions_along_stream(decisions, settings.allocation.epsilon), decisions, "decisions", about)
    about = "For each part of the stream, the mask that was trained, and whether it is one of the part's own task."
    show_chart(masks_along_stream(parts), parts, "masks-along-stream", about)


@st.cache_data(max_entries=10, show_spinner="Reading the decisions")
def _stretches(path: Path, stamped: tuple[int, ...]) -> pd.DataFrame:
    return stretch_rows(read_stretches(RunFolder(path)))


def _percent(fraction: float) -> str:
    return "–" if pd.isna(fraction) else f"{fraction:.2%}"


def _points(fraction: float) -> str:
    return "–" if pd.isna(fraction) else f"{100 * fraction:+.2f} points"

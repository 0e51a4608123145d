"""Accuracy of a run against γ (Figure 11, left): what is known of it, and a button that measures the rest."""

from contextlib import closing

import pandas as pd
import streamlit as st
from supsup_methods.reporting.table_figures import accuracy_against_share
from supsup_methods.reproduction.asked_again import asked_scenario
from supsup_methods.share_curve import CurveProgress, ShareQuestion, known_curve, measure_curve
from supsup_methods.task_guessing import Gamma, OneShot

from supsup_dashboard.charts import show_chart
from supsup_dashboard.inference.subject import Subject

_FEW_TASKS = 10  # that are tested unless the reader asks for more


def show_share_curve(subject: Subject, search: OneShot | Gamma) -> None:
    """Show the curve as far as it is known; measure the rest, task by task, when the reader asks for it and while he stays.

    Args:
        subject: the run.
        search: whose objective and images per guess the curve is about.

    Raises:
        UsageError: a file of answers is damaged.
    """
    st.subheader("Accuracy against γ", divider=True)
    question = _question(subject, search)
    known = known_curve(subject.folder, question)
    missing = int(known["accuracy"].isna().sum())
    place = st.container()
    if not missing:
        _show_points(known, place)
        return
    pressed = st.button(f"Measure {missing} of {len(known)} points", icon=":material/play_arrow:")
    if not pressed:
        _show_points(known, place)
        return
    _measure(subject, question, place.empty())
    st.rerun()


def _question(subject: Subject, search: OneShot | Gamma) -> ShareQuestion:
    recipe, learned = subject.run.recipe, subject.run.method.tasks_learned
    text, number = st.columns([3, 1])
    tested = number.number_input(
        "Tasks whose test images are shown", 1, learned, min(_FEW_TASKS, learned), key="inference-tasks-tested"
    )
    images, together = min(search.images_per_guess, recipe.evaluation.batch_size), recipe.evaluation.batch_size
    text.caption(
        f"Each round of a search keeps a share γ of the {subject.word}s; all {len(subject.method.bank):,} are searched. Of "
        f"{together} test images that belong together {images} {'tells' if images == 1 else 'tell'} the {subject.word} of all. "
        f"Objective {search.objective}; scenario {asked_scenario(recipe).value}. Answers are kept beside the run, task by task: "
        "leave the page, or press Stop, and the rest can be measured later."
    )
    return ShareQuestion(learned, tested, len(subject.method.bank), search.objective, search.images_per_guess)


def _show_points(known: pd.DataFrame, place: "st.delta_generator.DeltaGenerator") -> None:
    points = known.dropna(subset="accuracy")
    with place:
        if points.empty:
            st.info("No point of this curve is measured yet. Press the button to measure them.")
            return
        show_chart(
            accuracy_against_share(_percent(points)),
            points,
            "accuracy-against-share",
            f"Accuracy against γ: {len(points)} of {len(known)} points are measured.",
        )


def _measure(subject: Subject, question: ShareQuestion, place: "st.delta_generator.DeltaGenerator") -> None:
    """Measure what is missing. Every call that draws ends this where the reader has left, and what was found is kept."""
    st.button("Stop", icon=":material/stop:")  # any press of a button does: the page is shown anew
    by_share, by_task = st.progress(0.0), st.progress(0.0)
    drawn = 0
    with closing(measure_curve(subject.folder, subject.run.dataset, question)) as measuring:
        for progress in measuring:
            if progress.point != drawn:
                drawn = progress.point
                _redraw(subject, question, place, drawn)
            _tell(progress, by_share, by_task)


def _redraw(subject: Subject, question: ShareQuestion, place: "st.delta_generator.DeltaGenerator", number: int) -> None:
    points = known_curve(subject.folder, question).dropna(subset="accuracy")
    if not points.empty:
        place.plotly_chart(
            accuracy_against_share(_percent(points)), key=f"share-curve-{number}", alt="Accuracy against γ, so far"
        )


def _tell(
    progress: CurveProgress,
    by_share: "st.delta_generator.DeltaGenerator",
    by_task: "st.delta_generator.DeltaGenerator",
) -> None:
    by_share.progress(progress.fraction, text=f"Point {progress.point} of {progress.points}: γ = {progress.share:.3g}")
    by_task.progress(progress.tasks / progress.tasks_tested, text=f"Task {progress.tasks} of {progress.tasks_tested}")


def _percent(points: pd.DataFrame) -> pd.DataFrame:
    return points.assign(**{name: 100 * points[name].astype(float) for name in ("accuracy", "task inferred right")})

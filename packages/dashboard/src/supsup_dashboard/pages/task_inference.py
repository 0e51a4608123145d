"""How a run finds the task of an image: the search round by round, what every mask says, and accuracy against γ."""

import threading
from collections.abc import Hashable
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st
from supsup_core import SupsupError
from supsup_datasets import DatasetError
from supsup_methods.errors import UsageError
from supsup_methods.guess_traces import GuessTrace, output_entropies, trace_guess
from supsup_methods.reporting.inference_figures import (
    Marked,
    beliefs_by_round,
    entropy_of_outputs,
    likeliest_tasks,
    slopes_of_tasks,
)
from supsup_methods.task_guessing import Gamma, OneShot
from torch import Tensor

from supsup_dashboard.charts import show_chart
from supsup_dashboard.inference.image_choice import Shown, choose_images, show_pictures
from supsup_dashboard.inference.share_curve import show_share_curve
from supsup_dashboard.inference.subject import Subject, subject_of
from supsup_dashboard.run_choice import choose_run

_MOST_IMAGES = 128
_ENTROPIES_AT_ONCE = 200  # tasks whose networks all answer in a fraction of a second
_SEARCHING = threading.Lock()  # a bank counts its masks when it is first asked, which two tabs should not do at once


def show() -> None:
    """Show how a chosen run finds the task of an image, and its accuracy against γ."""
    st.title("Task inference")
    folder = choose_run("This page shows how a run finds the task that an image is from.")
    if folder is None:
        return
    try:
        subject = subject_of(folder)
        if subject is None:
            return
        search = _choose_search(subject)
        st.subheader("One guess", divider=True)
        try:
            _show_guess(subject, search)
        except UsageError as error:  # of this image, or of this way to ask; the curve below can still be looked at
            st.error(str(error))
        show_share_curve(subject, search)
    except (OSError, DatasetError, SupsupError, UsageError) as error:
        st.error(str(error))


def _choose_search(subject: Subject) -> OneShot | Gamma:
    name, share_place, objective_place, images_place = st.columns([3, 2, 3, 1])
    search = name.segmented_control("Search", ("One-Shot", "Binary", "γ"), default="One-Shot", required=True)
    share = 0.5
    if search == "γ":
        share = share_place.slider("γ, share of the candidates that a round keeps", 0.05, 0.9, 0.25, 0.05)
    superfluous = subject.outputs > subject.labels
    objective: Literal["H", "G"] = objective_place.segmented_control(
        "Objective",
        ("H", "G") if superfluous else ("H",),
        default="H",
        required=True,
        format_func=lambda each: {"H": "H, entropy", "G": "G, spare outputs"}[each],
        help=None if superfluous else f"G needs more outputs than the {subject.labels} labels; this run has no more.",
    )
    images = images_place.number_input("Images per guess", 1, _MOST_IMAGES, 1)
    if search == "One-Shot":
        return OneShot(objective=objective, images_per_guess=images)
    return Gamma(share=share, objective=objective, images_per_guess=images)


def _show_guess(subject: Subject, search: OneShot | Gamma) -> None:
    shown = choose_images(subject, search.images_per_guess)
    if shown is None:
        return
    pictures, answers = st.columns([1, 3])
    with pictures:
        show_pictures(subject, shown)
    trace = _traced(*subject.state, shown.key, search, subject, shown.images)
    marked = Marked(trace.task, subject.right(shown.task), subject.word)
    with answers:
        _show_answer(subject, shown, trace)
        _show_beliefs(trace, marked)
    _show_slopes(trace, marked, search.objective)
    _show_entropies(subject, shown, marked)


def _show_answer(subject: Subject, shown: Shown, trace: GuessTrace) -> None:
    answer, truth, sure, label = st.columns(4)
    right = "right" if trace.task in subject.right(shown.task) else "wrong"
    answer.metric("Answer", f"{subject.word} {trace.task}")
    truth.metric("True task" if shown.labels else "Shown as task", f"{shown.task}: {right}")
    sure.metric(
        "Confidence",
        f"{trace.confidence:.1%}",
        help="The answer's share of softmax(-dO/dα) over those left in the last round. It is not calibrated.",
    )
    words = [subject.meaning(trace.task, output) for output in trace.outputs]
    if len(words) == 1:
        label.metric("Label under the answer", words[0])
    if shown.labels is not None:
        task = subject.task(shown.task)
        true = [subject.class_of(task, each) for each in shown.labels]
        if len(words) == 1:
            st.caption(f"The image's own label is {true[0]}.")
        else:
            hits = sum(ours == theirs for ours, theirs in zip(words, true, strict=True))
            label.metric("Labels right", f"{hits} of {len(words)}")
    if subject.owners is not None:
        owner = subject.owners[trace.task]
        st.caption(
            f"Masks are no tasks here, as nobody named those: mask {trace.task} was trained mostly on task {owner}."
        )


def _show_beliefs(trace: GuessTrace, marked: Marked) -> None:
    gradients = "one gradient" if trace.rounds == 1 else f"{trace.rounds} rounds, a gradient in each"
    st.markdown(f"**Beliefs**: {gradients}")
    figure = beliefs_by_round(trace.beliefs, likeliest_tasks(trace.slopes, marked), marked)
    about = (
        f"Belief in each {marked.word} before each round of the search; {marked.word} {trace.task} is left at the end."
    )
    show_chart(figure, trace.beliefs, "inference-beliefs", about)


def _show_slopes(trace: GuessTrace, marked: Marked, objective: Literal["H", "G"]) -> None:
    st.markdown("**Slopes**: the lower, the likelier")
    number = 1
    if trace.rounds > 1:
        rounds = list(range(1, trace.rounds + 1))
        number = st.select_slider("Round", rounds, key=f"inference-round-of-{trace.rounds}")
    figure = slopes_of_tasks(trace.slopes[trace.slopes["round"] == number], marked, objective)
    about = f"Slope of the objective along each {marked.word} in round {number}."
    show_chart(figure, trace.slopes, "inference-slopes", about)


def _show_entropies(subject: Subject, shown: Shown, marked: Marked) -> None:
    contexts = len(subject.method.bank)
    st.markdown(f"**Entropy of every {subject.word}'s own output**: the lower, the surer")
    if contexts > _ENTROPIES_AT_ONCE and not st.toggle(
        f"Run all {contexts:,} networks: a forward pass for each, about {contexts / 1000:.1g} s",
        key="inference-all-entropies",
    ):
        return
    entropies = _entropies(*subject.state, shown.key, subject, shown.images)
    figure = entropy_of_outputs(entropies, marked, subject.outputs)
    show_chart(figure, entropies, "inference-entropies", f"Entropy of the output under each {subject.word}, in nats.")


@st.cache_data(max_entries=64, show_spinner="Searching")
def _traced(
    path: Path,
    stamped: tuple[int, ...],
    shown: tuple[Hashable, ...],
    search: OneShot | Gamma,
    _subject: Subject,
    _images: Tensor,
) -> GuessTrace:
    method = _subject.method
    with _SEARCHING:
        return trace_guess(search, method.net, method.bank, _subject.labels, _images)


@st.cache_data(max_entries=64, show_spinner="Running every network")
def _entropies(
    path: Path, stamped: tuple[int, ...], shown: tuple[Hashable, ...], _subject: Subject, _images: Tensor
) -> pd.DataFrame:
    with _SEARCHING:
        return output_entropies(_subject.method.net, _subject.method.bank, _images)

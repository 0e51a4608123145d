"""The masks of a run beside each other: what each two have in common, and how dense they are."""

from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st
from supsup_methods.mask_statistics import evenly_chosen, mask_statistics
from supsup_methods.reporting.mask_figures import Overlap, density_rows, mask_density, mask_overlap, overlap_rows
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import Run

from supsup_dashboard.charts import show_chart
from supsup_dashboard.run_choice import opened, stamp

_MOST = 100
"""Masks in a heat map: 4,950 pairs, which a page can show."""

_MEASURES: dict[str, Overlap] = {
    "share of equal bits": "equal",
    "intersection over union of ones": "intersection_over_union",
}


def show_mask_set(folder: RunFolder, noun: Literal["task", "mask"]) -> None:
    """Show what masks of a run have in common, and their densities.

    Args:
        folder: of the run.
        noun: what a mask belongs to.

    Raises:
        SupsupError: the bank is damaged.
        UsageError: a file of the run is damaged.
        DatasetError: the run's data is gone.
    """
    st.header("All masks")
    stamped = stamp(folder)
    run = opened(folder, stamped)
    count = len(run.bank)
    if count < 2:
        st.info("There is nothing to compare before two masks are learned.")
        return
    tasks = _chosen(count, noun, folder.path.name)
    pairs, densities = _counted(folder.path, stamped, tasks, run)
    st.subheader("Overlap")
    left, right = st.columns([2, 1])
    with right:
        measure = _MEASURES[st.radio("Measure", list(_MEASURES), key="overlap-measure")]
        st.caption(_in_words(pairs, measure, noun))
    with left:
        about = f"For each two of {len(tasks)} {noun}s, how much their masks have in common, as a heat map."
        show_chart(mask_overlap(pairs, measure, noun), pairs, "mask-overlap", about)
    st.subheader("Density")
    about = f"The share of ones for each layer and {noun}, as a heat map."
    show_chart(mask_density(densities, noun), densities, "mask-density", about)


def _chosen(count: int, noun: str, run: str) -> tuple[int, ...]:
    """Let the reader choose a range of masks, and return all of them, or as many as can be shown."""
    first, last = st.slider(f"{noun.capitalize()}s, from and to", 0, count - 1, (0, count - 1), key=f"mask-range-{run}")
    if last == first:
        first, last = (first, first + 1) if first + 1 < count else (first - 1, first)
    chosen = evenly_chosen(first, last, _MOST)
    if len(chosen) < last - first + 1:
        st.caption(
            f"{len(chosen)} of {last - first + 1:,} {noun}s are shown, at even distances; narrow the range to see all of it."
        )
    return chosen


def _in_words(pairs: pd.DataFrame, measure: Overlap, noun: str) -> str:
    """Return the mean and the most alike pair, and what to expect of masks that have nothing to do with each other."""
    most = pairs.loc[pairs[measure].idxmax()]
    pair = f"{most['task']:.0f} and {most['other']:.0f}, {most[measure]:.2%}"
    says = f"Mean {pairs[measure].mean():.2%}; most alike are {noun}s {pair}. "
    unrelated = {
        "equal": "Unrelated masks of densities p and q agree in p q + (1 - p)(1 - q) of their bits: in half where half are ones.",
        "intersection_over_union": "Unrelated masks of densities p and q have p q / (p + q - p q): a third where half are ones.",
    }
    return says + unrelated[measure]


@st.cache_data(max_entries=16, show_spinner="Counting bits")
def _counted(
    path: Path, stamped: tuple[int, ...], tasks: tuple[int, ...], _run: Run
) -> tuple[pd.DataFrame, pd.DataFrame]:
    statistics = mask_statistics(_run.network, _run.bank, tasks)
    return overlap_rows(statistics), density_rows(statistics)

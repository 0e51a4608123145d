"""One mask of HopSupSup as it is found again for test images, step by step (Figure 7, Appendix B.2)."""

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.recovery_scoring import RecoveryTrace
from supsup_methods.reporting.hopfield_figures import distance_to_right_mask, recovery_terms
from supsup_methods.reporting.style import GREY
from supsup_methods.run_folder import RunFolder

from supsup_dashboard.charts import show_chart
from supsup_dashboard.run_choice import stamp


def show_recovery(folder: RunFolder, settings: HopSupSupSettings) -> None:
    """Show how the mask of a chosen task was found again at a chosen test.

    Raises:
        UsageError: the record of the run's tests is damaged.
    """
    st.header("A mask found again")
    st.caption(
        "The reservoir keeps no mask by task. For the test images of a task, recovery goes from the mean of all stored masks "
        "to one of them: the entropy of the outputs leads at first, the energy of the reservoir at last (Eq. 7)."
    )
    checkpoints = {each.tasks_learned: each for each in _checkpoints(folder.path, stamp(folder))}
    if not checkpoints:
        st.info("Nothing is tested yet: this run recovers masks when it tests the tasks that it has learned.")
        return
    left, right = st.columns(2)
    with left:
        after = st.selectbox(
            "Tasks learned before the test", sorted(checkpoints, reverse=True), key=f"recovery-test-{folder.path.name}"
        )
    traces = {score.task: (score, score.recovery) for score in checkpoints[after].scores if score.recovery is not None}
    if not traces:
        st.info("The tests of this run were recorded without the way of each recovery; start the run anew to see it.")
        return
    with right:
        task = st.selectbox("Task", list(traces), key=f"recovery-task-{folder.path.name}-{after}")
    _show_trace(*traces[task], settings)


def _show_trace(score: TaskScore, trace: RecoveryTrace, settings: HopSupSupSettings) -> None:
    st.markdown(_outcome(score, trace))
    steps = len(trace.entropy)
    step = st.slider("Step", 1, steps, steps, key="recovery-step") if steps > 1 else 1
    _show_step(trace, step)
    if trace.distances is None:
        st.info(
            "The distance to the right mask is not known: this run forgot its masks, as the method does. To see it, start a run "
            "with the field witness on (`--method.witness`), which keeps them beside the reservoir to score with."
        )
    else:
        rows = distance_rows(score.task, trace)
        about = "For each layer, in how many units the mask differs from the right one, at each step."
        show_chart(_marked(distance_to_right_mask(rows), step), rows, "recovery-distance", about)
    values = value_rows(trace)
    about = "Entropy of the outputs, energy of the reservoir, and the terms of the objective, at each step."
    figure = recovery_terms(values, settings.recovery.strength)
    show_chart(_marked(figure, step), values, "recovery-terms", about)


def _show_step(trace: RecoveryTrace, step: int) -> None:
    """Show the values of one step; distances are those after it, the others what it saw."""
    cells = st.columns(4)
    if trace.distances is None:
        cells[0].metric("Units unlike the right mask", "unknown")
    else:
        off = {layer: way[step - 1] for layer, way in trace.distances.items()}
        by_layer = ", ".join(f"{layer}: {units:,}" for layer, units in off.items())
        cells[0].metric(
            "Units unlike the right mask", f"{sum(off.values()):,}", help=f"After the step, by layer: {by_layer}."
        )
    cells[1].metric("Entropy H, nats", f"{trace.entropy[step - 1]:.3f}")
    cells[2].metric("Energy E", f"{trace.energy[step - 1]:,.1f}")
    cells[3].metric("Objective J, nats", f"{trace.objective[step - 1]:.3f}")


def _outcome(score: TaskScore, trace: RecoveryTrace) -> str:
    """Return what came of the recovery, in a sentence or two."""
    answered = f"**{score.accuracy:.2%}** of the test images are right under the mask that was found"
    if trace.distances is None or trace.right_mask_accuracy is None:
        return f"{answered}."
    answered += f", {trace.right_mask_accuracy:.2%} under the right one."
    if trace.steps_to_right is not None:
        return f"Found to the last unit, and for good after step {trace.steps_to_right}. {answered}"
    off = sum(way[-1] for way in trace.distances.values())
    nearest = next(iter(score.guessed), None)
    where = "" if nearest is None else f"; the nearest of all masks is that of task {nearest}"
    return f"Not found: {off:,} units are wrong at the end{where}. {answered}"


def distance_rows(task: int, trace: RecoveryTrace) -> pd.DataFrame:
    """Return a line for each layer and step: `seed`, `task`, `step`, `layer`, `distance`, as Figure 7 is drawn from."""
    parts = [
        pd.DataFrame({"seed": 0, "task": task, "step": range(1, len(way) + 1), "layer": layer, "distance": way})
        for layer, way in (trace.distances or {}).items()
    ]
    return pd.concat(parts, ignore_index=True)


def value_rows(trace: RecoveryTrace) -> pd.DataFrame:
    """Return a line for each step: `step`, `entropy` (nats), `energy`, `objective`."""
    return pd.DataFrame(
        {
            "step": range(1, len(trace.entropy) + 1),
            "entropy": trace.entropy,
            "energy": trace.energy,
            "objective": trace.objective,
        }
    )


def _marked(figure: go.Figure, step: int) -> go.Figure:
    return figure.add_vline(x=step, line_color=GREY, line_width=1)


@st.cache_data(max_entries=8, show_spinner=False)
def _checkpoints(path: Path, stamped: tuple[int, ...]) -> list[Checkpoint]:
    return RunFolder(path).progress().checkpoints

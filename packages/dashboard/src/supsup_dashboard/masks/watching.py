"""One mask of a run in training: what was seen of it, and the button that has it trained again."""

import uuid
from pathlib import Path

import streamlit as st
from supsup_methods.errors import UsageError
from supsup_methods.reporting.mask_figures import (
    bits_turned,
    density_while_training,
    loss_rows,
    loss_while_training,
    mask_convergence,
    score_histograms,
    score_rows,
    step_rows,
)
from supsup_methods.run_folder import RECIPE, RunFolder
from supsup_methods.watched_records import WatchedTraining, read_watched, watched_path, watched_tasks

from supsup_dashboard.charts import show_chart
from supsup_dashboard.queueing.jobs import Job, queue
from supsup_dashboard.run_choice import changed


def show_watching(folder: RunFolder) -> None:
    """Show how the mask of a chosen task formed, or offer to have it trained again.

    Raises:
        UsageError: the record, or a file of the run, is damaged.
        CorruptBank: the bank is damaged.
    """
    st.header("A mask in training")
    learned = folder.tasks_saved
    if learned == 0:
        st.info("No task is learned yet. Come back when the first one is, or go on with the run on the page Runs.")
        return
    run = folder.path
    seen = [task for task in watched_tasks(run) if task < learned]
    if seen:
        st.caption(f"Watched so far: {', '.join(f'task {task}' for task in seen)}.")
    task = _chosen_task(run.name, learned, seen[0] if seen else 0)
    path = watched_path(run, task)
    job = queue().last_of(path)
    if job is not None and not job.is_open and job.asked.timestamp() + 1 < changed(run / RECIPE) / 1e9:
        job = None  # of an earlier run of that name
    if job is not None and job.is_open:
        _show_job(job.number)
        return
    watched = _read(run, task, path.stat().st_mtime_ns) if path.exists() else None
    _offer(folder, task, again=watched is not None)
    if job is not None:
        _tell_failure(job)
    if watched is not None:
        _show_watched(watched)


def _chosen_task(run: str, learned: int, first: int) -> int:
    """Let the reader choose a task, at first one that was watched."""
    key = f"watched-task-{run}"
    st.session_state.setdefault(key, first)
    place, _ = st.columns([1, 3])
    return int(place.number_input(f"Task, 0 to {learned - 1}", 0, learned - 1, key=key))


def _offer(folder: RunFolder, task: int, *, again: bool) -> None:
    """Show a button that has the mask trained again."""
    if not again:
        st.info(
            "Scores are gone when a mask is learned. But the training of a task can be repeated to the last bit: it takes as "
            "long as the task did, and the run stays as it is."
        )
    label = "Watch it once more" if again else "Train this mask again and watch"
    if not st.button(label, type="secondary" if again else "primary", icon=":material/visibility:", key="watch"):
        return
    command = ("supsup-eval", str(folder.path), "--watch-task", str(task))
    device = folder.environment().devices[0]
    place = watched_path(folder.path, task)
    try:
        queue().submit(command, f"watch task {task} of {folder.path.name}", place, device, uuid.uuid4().hex)
    except UsageError as error:  # another tab was faster: its job is shown below
        st.warning(str(error))
        return
    st.rerun()


@st.fragment(run_every=1)
def _show_job(number: int) -> None:
    """Show how far the training is; when it ends, the page shows what was seen."""
    try:
        queue().ensure_runner()
        job = queue().job(number)
    except UsageError:  # another tab forgot it, with its run; or the page says what is wrong with the queue
        st.rerun()
    except OSError as error:
        st.error(str(error))
        return
    if not job.is_open:
        st.rerun()
    if job.state == "waiting":
        st.info(f"Waits for its turn on {job.device}; the page Launch shows what runs there.")
    else:
        st.info("The mask is trained again. Figures follow when it is done.")
        st.code(queue().log_tail(number, 12) or "starting", language=None)
    if st.button("Stop", icon=":material/stop:", key=f"stop-watching-{number}"):
        queue().stop(number)


def _tell_failure(job: Job) -> None:
    """Say that the last attempt came to nothing, if so."""
    if job.outcome in ("cancelled", "stopped"):
        st.warning("The training was stopped before its end.")
    elif job.is_failure:
        st.error(f"The last training {job.outcome} with status {job.status}. Its last words:")
        st.code(queue().log_tail(job.number, 8) or "none", language=None)


def _show_watched(watched: WatchedTraining) -> None:
    _show_verdict(watched)
    steps, losses = step_rows(watched), loss_rows(watched)
    left, right = st.columns(2)
    with left:
        st.subheader("Bits that still will turn")
        about = "For each layer, the share of bits unlike the final mask, against training steps."
        show_chart(mask_convergence(steps), steps, "mask-convergence", about)
    with right:
        st.subheader("Loss")
        show_chart(loss_while_training(losses), losses, "mask-loss", "The loss of a batch, against training steps.")
    left, right = st.columns(2)
    with left:
        st.subheader("Bits that turned in a step")
        about = "For each layer, the share of bits that turned since the point before, for each step, against training steps."
        show_chart(bits_turned(steps), steps, "mask-bits-turned", about)
    with right:
        st.subheader("Density")
        about = "For each layer, the share of ones in the mask, against training steps."
        show_chart(density_while_training(steps), steps, "mask-density-in-training", about)
    _show_scores(watched)


def _show_verdict(watched: WatchedTraining) -> None:
    """Say what was trained, and whether it is what the run has."""
    trained = f"{watched.moments[-1]:,} steps in {watched.seconds:.1f} s on {watched.machine}"
    if watched.as_run:
        st.success(f"{trained}. The mask that came out is the run's own, bit for bit.", icon=":material/check:")
        return
    differs = f"in {watched.bits_unlike_run / watched.bits:.3%} of its bits" if watched.bits_unlike_run else "in no bit"
    statistics = "" if watched.statistics_as_run else ", and its running statistics differ"
    why = "; ".join(watched.unlike_run) or "nothing else is known to be different; files may have been changed"
    st.warning(f"{trained}. The mask that came out differs from the run's {differs}{statistics}: {why}.")


def _show_scores(watched: WatchedTraining) -> None:
    st.subheader("Scores")
    st.caption(
        "A threshold mask lets a weight through where its score is 0 or more, right of the dashed line; an edge-popup mask "
        "where the score is among the largest of its layer, left or right."
    )
    layers = [f"{each.layer} ({each.weights:,} weights)" for each in watched.layers]
    chosen = st.selectbox("Layer", range(len(layers)), format_func=layers.__getitem__, key="scores-of-layer")
    scores = score_rows(watched, watched.layers[min(chosen, len(layers) - 1)].layer)
    about = "A histogram of the layer's scores for each moment, as a heat map."
    show_chart(score_histograms(scores), scores, "mask-scores", about)


@st.cache_data(max_entries=32, show_spinner=False)
def _read(run: Path, task: int, changed: int) -> WatchedTraining | None:
    return read_watched(run, task)

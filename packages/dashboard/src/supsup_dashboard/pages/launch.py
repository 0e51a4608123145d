"""Start a run: a recipe, its fields, a device, the command line that it comes to, and the queue."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import RUNS, claim_run_path

from supsup_dashboard.data_root import HOW_TO_NAME_IT, data_root
from supsup_dashboard.launching.command_line import as_typed, train_command
from supsup_dashboard.launching.devices import available_devices, device_option
from supsup_dashboard.launching.recipe_form import edited_recipe
from supsup_dashboard.queueing.jobs import Job, queue

_TOKEN = "launch-token"  # noqa: S105  # of one filled-in form: pressing Start twice starts one run

_SHOWN = 20  # of the queue


def show() -> None:
    """Show the form, the command line, and what was asked for before."""
    st.title("Launch")
    name = st.selectbox("Recipe", list(RECIPES), key="recipe", format_func=_described)
    default = RECIPES[name]
    try:
        recipe = edited_recipe(default)
        place, root = _where(), _data()
    except UsageError as error:
        st.error(str(error))
        _show_queue()
        return
    st.markdown("The same in a terminal:")
    st.code(as_typed(train_command(default, recipe, device=place.option, out=None, data_root=root)), language="bash")
    if st.button("Start", type="primary", icon=":material/play_arrow:", key="start"):
        _start(default, recipe, place, root)
    if started := st.session_state.pop("started", None):
        st.success(f"{started} is in the queue. The page Runs shows how it goes.")
    _show_queue()


def _described(name: str) -> str:
    recipe = RECIPES[name]
    tasks = "1 task" if recipe.tasks == 1 else f"{recipe.tasks} tasks"
    return f"{name}: {recipe.method.kind}, {tasks} of {recipe.stream.kind}, {recipe.backbone.kind}"


@dataclass(frozen=True)
class _Place:
    """Where a run is to be trained: what `--device` is given, and the devices that the queue keeps free for it."""

    option: str
    devices: str


def _where() -> _Place:
    """Let the reader choose devices."""
    devices = {device.name: device for device in available_devices()}
    chosen = st.multiselect(
        "Device",
        list(devices),
        default=[next(iter(devices))],
        format_func=lambda name: f"{name} ({devices[name].about})",
        key="devices",
        help="Several GPUs share the tasks of a run, a process on each, where its tasks are independent.",
    )
    if not chosen:
        raise UsageError("Device: none is chosen; choose one")
    return _Place(device_option(chosen, devices), ",".join(chosen))


def _data() -> Path | None:
    """Let the reader choose between the digits that are there and the full data, and return the folder of the latter."""
    root = data_root()
    if root is None:
        st.caption(f"Data: the 5,000 digits that ship with a dependency. For full data {HOW_TO_NAME_IT}.")
        return None
    full = st.radio("Data", ("full data", "the 5,000 digits that ship with a dependency"), key="data", horizontal=True)
    return root if full == "full data" else None


def _start(default: Recipe, recipe: Recipe, place: _Place, root: Path | None) -> None:
    """Put the run into the queue, under the next free name; pressing the button twice adds one run."""
    token = st.session_state.setdefault(_TOKEN, uuid.uuid4().hex)
    out = claim_run_path(RUNS, recipe.name)
    command = train_command(default, recipe, device=place.option, out=out, data_root=root)
    try:
        job = queue().submit(command, f"{recipe.name}, {recipe.tasks} tasks", out, place.devices, token)
    except UsageError as error:
        out.rmdir()
        st.error(str(error))
        return
    if job.place != out:
        out.rmdir()
    del st.session_state[_TOKEN]
    st.session_state["started"] = "" if job.place is None else job.place.name
    st.rerun()


@st.fragment(run_every=2)
def _show_queue() -> None:
    """Show what waits and what runs, and what came of the last ones."""
    st.subheader("Queue")
    jobs = queue().jobs()
    if not jobs:
        st.info("Nothing was started from here yet. Runs that are started in a terminal are on the page Runs.")
        return
    queue().ensure_runner()
    moment = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone=st.context.timezone)
    table = pd.DataFrame([_line(job) for job in jobs[:_SHOWN]])
    st.dataframe(table, hide_index=True, column_config={"asked for": moment})
    open_jobs = [job for job in jobs if job.state in ("waiting", "running")]
    for job in open_jobs:
        st.button(f"Stop {_name(job)}", key=f"stop-{job.number}", icon=":material/stop:", on_click=_stop, args=(job,))
    failed = next((job for job in jobs if job.state in ("ended", "died") and job.status not in (0, None, 130)), None)
    if failed is not None:
        st.caption(f"The last words of {_name(failed)}, which ended with status {failed.status}:")
        st.code(queue().log_tail(failed.number, 5) or "(none)", language=None)


def _line(job: Job) -> dict[str, object]:
    return {
        "job": job.number,
        "what": job.about,
        "where": "" if job.place is None else str(job.place),
        "device": job.device,
        "state": job.state,
        "exit status": job.status,
        "asked for": job.asked,
    }


def _name(job: Job) -> str:
    """Return the name of a run, and of other jobs what they are about."""
    return job.place.name if job.place is not None and job.command[0] == "supsup-train" else job.about


def _stop(job: Job) -> None:
    """Stop a job, and give back the name of a run that never began: an empty folder."""
    queue().stop(job.number)
    place = job.place
    if place is not None and place.is_dir() and not any(place.iterdir()) and not queue().is_alive(job.number):
        place.rmdir()

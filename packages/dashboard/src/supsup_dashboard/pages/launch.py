"""Start a run: a recipe, its fields, a device, the command line that it comes to, and the queue."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import streamlit as st
from supsup_datasets import AnyDataset
from supsup_methods.assembly import refuse_impossible
from supsup_methods.data_assembly import load_dataset, needs_data_root, refuse_missing_data
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe, Stream
from supsup_methods.recipes import RECIPES
from supsup_methods.run_folder import RUNS, claim_run_path

from supsup_dashboard.data_root import HOW_TO_NAME_IT, data_root
from supsup_dashboard.job_table import choose_job
from supsup_dashboard.kept_values import beginning, held
from supsup_dashboard.launching.command_line import as_typed, train_command
from supsup_dashboard.launching.devices import available_devices, device_option, free_memory
from supsup_dashboard.launching.recipe_form import edited_recipe, runs_own_code
from supsup_dashboard.plain_text import plain
from supsup_dashboard.queueing.jobs import Job, queue
from supsup_dashboard.runs.rows import jobs_to_show

_TOKEN = "launch-token"  # noqa: S105  # of one filled-in form: pressing Start twice starts one run

_SHOWN = 20  # jobs that are over
_STARTED = "started"  # the number of the job that was asked for last
_DIGITS = "the 5,000 digits that ship with a dependency"


def show() -> None:
    """Show the form, the command line, and what was asked for before."""
    st.title("Launch")
    names = list(RECIPES)
    at_first = names.index(beginning("recipe", names[0]))
    default = RECIPES[held("recipe", st.selectbox("Recipe", names, at_first, key="recipe", format_func=_described))]
    # What is wrong in one part takes no other part away: a widget that is not drawn forgets what was chosen.
    recipe, place, data = _told(lambda: edited_recipe(default)), _told(_where), _told(lambda: _data(default))
    if recipe is not None and place is not None and data is not None:
        command = train_command(default, recipe, device=place.option, out=None, data_root=data.root)
        st.markdown("The same in a terminal:")
        st.code(as_typed(command), language="bash")
        why_not = _why_not(recipe, data)
        if why_not is not None:
            st.warning(why_not)
        if st.button("Start", type="primary", icon=":material/play_arrow:", key="start", disabled=why_not is not None):
            _start(default, recipe, place, data)
    _show_queue()


_Made = TypeVar("_Made")


def _told(make: Callable[[], _Made]) -> _Made | None:
    """Return what is made, or None having said what is wrong."""
    try:
        return make()
    except (UsageError, OSError) as error:  # a disk is full, for example
        st.error(str(error))
        return None


def _why_not(recipe: Recipe, data: "_Data") -> str | None:
    """Return why a run cannot be started here, as far as that is known without reading data; None where it can."""
    if runs_own_code(recipe):
        return "--backbone.factory: it names code to run, which nothing here does; start it in a terminal"
    try:
        refuse_missing_data(recipe.stream, data.root)
        if data.root is None:
            refuse_impossible(recipe, _digits(recipe.stream))
    except UsageError as error:
        return f"{error}. For full data {HOW_TO_NAME_IT}." if needs_data_root(recipe.stream) else str(error)
    return None


@st.cache_resource(max_entries=1, show_spinner=False)
def _digits(stream: Stream) -> AnyDataset:
    return load_dataset(stream, None)


def _described(name: str) -> str:
    recipe = RECIPES[name]
    tasks = "1 task" if recipe.tasks == 1 else f"{recipe.tasks} tasks"
    return f"{name}: {recipe.method.kind}, {tasks} of {recipe.stream.kind}, {recipe.backbone.kind}"


@dataclass(frozen=True)
class _Place:
    """Where a run is to be trained: what `--device` is given, and the devices that the queue keeps free for it."""

    option: str
    devices: str


@dataclass(frozen=True)
class _Data:
    """Where a run's data lies: in a folder, or in a dependency."""

    root: Path | None


def _where() -> _Place:
    """Let the reader choose devices."""
    devices = {device.name: device for device in available_devices()}
    still_there = [name for name in beginning("devices", [next(iter(devices))]) if name in devices]
    chosen = st.multiselect(
        "Device",
        list(devices),
        default=still_there,
        format_func=lambda name: devices[name].label,
        key="devices",
        help="Several GPUs share the tasks of a run, a process on each, where its tasks are independent.",
    )
    held("devices", chosen)
    if told := free_memory(devices.values()):
        st.caption(told)
    if not chosen:
        raise UsageError("Device: none is chosen; choose one")
    return _Place(device_option(chosen, devices), ",".join(chosen))


def _data(default: Recipe) -> _Data:
    """Let the reader choose between the digits that are there and the full data, where the recipe leaves the choice."""
    root = data_root()
    if needs_data_root(default.stream):
        st.caption(f"Data: {default.stream.kind}, which comes with no dependency.")
        return _Data(root)
    if root is None:
        st.caption(f"Data: {_DIGITS}. For full data {HOW_TO_NAME_IT}.")
        return _Data(None)
    choices = ("full data", _DIGITS)
    at_first = choices.index(beginning("data", choices[0]))
    full = held("data", st.radio("Data", choices, at_first, key="data", horizontal=True)) == choices[0]
    return _Data(root if full else None)


def _start(default: Recipe, recipe: Recipe, place: _Place, data: _Data) -> None:
    """Put the run into the queue, under the next free name; pressing the button twice adds one run."""
    token = st.session_state.setdefault(_TOKEN, uuid.uuid4().hex)
    out = _told(lambda: _free_path(recipe.name))
    if out is None:
        return
    command = train_command(default, recipe, device=place.option, out=out, data_root=data.root)
    job = _told(lambda: queue().submit(command, f"{recipe.name}, {recipe.tasks} tasks", out, place.devices, token))
    if job is None and any(each.place == out for each in _told(queue().open_jobs) or ()):
        return  # it waits all the same, and nobody could be started to work on it
    if job is None or job.place != out:
        out.rmdir()
    if job is None:
        return
    del st.session_state[_TOKEN]
    st.session_state[_STARTED] = job.number
    st.rerun()


def _free_path(name: str) -> Path:
    """Claim the folder of a new run: its name is free under runs/, and no job that is open has it.

    Where somebody removed the folder of a job that is to come, that one keeps its name, and has its folder again.
    """
    taken = {job.place for job in queue().jobs() if job.is_open}
    while (path := claim_run_path(RUNS, name)) in taken:
        pass
    return path


@st.fragment(run_every=2)
def _show_queue() -> None:
    """Show what runs and what waits, and what came of the last ones."""
    st.subheader("Queue")
    jobs = _told(_looked_after)
    if jobs is None:
        return
    if not jobs:
        st.info("Nothing was started from here yet. Runs that are started in a terminal are on the page Runs.")
        return
    started = next((job for job in jobs if job.number == st.session_state.get(_STARTED)), None)
    if started is not None and started.is_open:
        st.success(f"{plain(_name(started))} is in the queue. The page Runs shows how it goes.")
    chosen = choose_job(_listed(jobs), "queue")
    if chosen is not None and chosen.is_open:
        st.button(
            f"Stop {plain(_name(chosen))}",
            key=f"stop-{chosen.number}",
            icon=":material/stop:",
            on_click=_stop,
            args=(chosen.number,),
        )
    elif any(job.is_open for job in jobs):
        st.caption("Choose a job that runs or waits to stop it.")
    failed = next((job for job in jobs_to_show(jobs) if job.is_failure), None)
    if failed is not None:
        st.caption(f"The last words of {plain(_name(failed))}, which {failed.outcome} with status {failed.status}:")
        st.code(queue().log_tail(failed.number, 5) or "(none)", language=None)


def _listed(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that run, those that wait in the order of their turns, and the last of those that are over."""
    asked = jobs[::-1]
    running, waiting = ([job for job in asked if job.state == state] for state in ("running", "waiting"))
    return [*running, *waiting, *[job for job in jobs if not job.is_open][:_SHOWN]]


def _name(job: Job) -> str:
    """Return the name of a run, and of other jobs what they are about."""
    return job.place.name if job.place is not None and job.command[0] == "supsup-train" else job.about


def _stop(number: int) -> None:
    if _told(lambda: queue().stop(number)) is False:
        st.toast(f"Job {number} has ended")


def _looked_after() -> list[Job]:
    """Return the jobs, having seen to it that a runner is at work on them."""
    queue().ensure_runner()
    return queue().jobs()

"""Targets of `supsup-reproduce`, put into the queue from the page Reproduction, and what they say while they run."""

import uuid
from pathlib import Path

import streamlit as st
from supsup_methods.errors import UsageError
from supsup_methods.reproduction.findings import record_stem
from supsup_methods.reproduction.ledger import RECORDS
from supsup_methods.reproduction.targets import FIGURES, TARGETS

from supsup_dashboard.data_root import HOW_TO_NAME_IT, data_root
from supsup_dashboard.launching.command_line import as_typed
from supsup_dashboard.launching.devices import available_devices, device_option, free_memory
from supsup_dashboard.moments import spoken_moment
from supsup_dashboard.queueing.jobs import Job, queue

REPRODUCTION = Path("reproduction")
"""Where `supsup-reproduce` keeps runs and records, unless another place is named: under the folder one works in."""

_COMMAND = "supsup-reproduce"
_TOKEN = "reproduction-token"  # noqa: S105  # of one filled-in form: pressing the button twice adds one job
_SHOWN = 5  # jobs that are over


def show_launch(target: str) -> None:
    """Show the form that measures a target.

    Args:
        target: that is asked for at first.
    """
    try:
        root = data_root()
    except UsageError as error:
        st.error(str(error))
        return
    names = [*FIGURES, *TARGETS]
    known = names.index(target) if target in names else 0
    left, middle, right, last = st.columns(4, vertical_alignment="bottom")
    chosen = left.selectbox("Measure", names, index=known, key=f"measure-{target}")
    devices = {device.name: device for device in available_devices()}
    device = middle.selectbox(
        "Device",
        list(devices),
        format_func=lambda name: devices[name].label,
        key="reproduction-device",
        help=free_memory(devices.values()) or None,
    )
    seeds = right.number_input(
        "Seeds", min_value=1, max_value=10_000, value=None, placeholder="as many as the paper", key="reproduction-seeds"
    )
    quick = last.checkbox(
        "Small version (quick)",
        value=root is None,
        help="Minutes in place of hours; its numbers are labelled and not the paper's.",
        key="reproduction-quick",
    )
    if root is None and not quick and (chosen in FIGURES or TARGETS[chosen].learns):
        st.warning(f"The paper's numbers need full data: {HOW_TO_NAME_IT}, or measure the small version.")
        return
    row = None
    if chosen in TARGETS and TARGETS[chosen].rows:
        row = st.selectbox(
            "Row",
            TARGETS[chosen].rows,
            index=None,
            placeholder="all",
            help="One row alone has a record of its own, which the tables above join with the others.",
            key=f"reproduction-row-{chosen}",
        )
    option = device_option([device], devices)
    command = reproduce_command(chosen, device=option, seeds=seeds, quick=quick, root=root, row=row)
    st.markdown("The same in a terminal:")
    st.code(as_typed(command), language="bash")
    if st.button("Measure", type="primary", icon=":material/play_arrow:", key="measure"):
        record = record_path(chosen, quick=quick, row=row)
        _submit(chosen if row is None else f"{chosen}, {row}", command, record, device)
    if started := st.session_state.pop("measuring", None):
        st.success(f"{started} is in the queue.")


def reproduce_command(
    target: str, *, device: str, seeds: int | None, quick: bool, root: Path | None, row: str | None = None
) -> tuple[str, ...]:
    """Return the command that measures a target.

    Args:
        target: of `supsup-reproduce`.
        device: as `--device` takes it.
        seeds: how many; None for as many as the paper has.
        quick: whether the small version is asked for.
        root: of full data; None for the digits that ship with a dependency.
        row: the name of the one that is asked for; None for all.
    """
    command = [_COMMAND, target, "--device", device, "--out", str(REPRODUCTION)]
    command += [] if root is None else ["--data-root", str(root)]
    command += [] if seeds is None else ["--seeds", str(seeds)]
    command += [] if row is None else ["--rows", row]
    return (*command, "--quick") if quick else tuple(command)


def record_path(target: str, *, quick: bool, row: str | None = None) -> Path:
    """Return where the command that measures a target writes its record: on it no two jobs may work at once.

    Args:
        target: as for `reproduce_command`.
        quick: likewise.
        row: likewise.
    """
    stem = record_stem(REPRODUCTION / RECORDS, target, quick=quick, part=() if row is None else (row,))
    return stem.with_name(f"{stem.name}.json")


def _submit(target: str, command: tuple[str, ...], place: Path, device: str) -> None:
    token = st.session_state.setdefault(_TOKEN, uuid.uuid4().hex)
    about = f"{target}, {'small version' if '--quick' in command else 'reproduction'}"
    try:
        queue().submit(command, about, place, device, token)
    except UsageError as error:
        st.error(str(error))
        return
    del st.session_state[_TOKEN]
    st.session_state["measuring"] = target
    st.rerun()


@st.fragment(run_every=2)
def show_jobs() -> None:
    """Show the targets that wait or run, with the end of their logs, and how the last ones ended."""
    try:
        jobs = [job for job in queue().jobs() if job.command[0] == _COMMAND]
    except UsageError as error:
        st.error(str(error))
        return
    open_jobs = [job for job in jobs if job.is_open]
    over = [job for job in jobs if not job.is_open][:_SHOWN]
    if open_jobs:
        queue().ensure_runner()
    before: set[int] = st.session_state.get("reproduction-open", set())
    st.session_state["reproduction-open"] = {job.number for job in open_jobs}
    if before & {job.number for job in over}:
        st.rerun()  # the page above shows the new record
    for job in open_jobs:
        _show_job(job, stoppable=True)
    for job in over:
        with st.expander(f"{job.about}: {job.outcome}"):
            _show_job(job, stoppable=False)


def _show_job(job: Job, *, stoppable: bool) -> None:
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    left.caption(f"{job.about}: {job.outcome} on {job.device}, asked for {spoken_moment(job.asked)}.")
    if stoppable and right.button("Stop", key=f"stop-reproduction-{job.number}", icon=":material/stop:"):
        queue().stop(job.number)
        st.rerun(scope="fragment")
    st.code(queue().log_tail(job.number) or "It has said nothing yet.", language=None)

"""Bytes: what runs keep, accuracy beside it, and what a guess costs the more tasks there are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import streamlit as st
import torch
from supsup_core import InvalidArgument, MaskBank, SupsupError
from supsup_datasets.errors import DatasetError
from supsup_methods.byte_accounts import MaskAccount, PaperBytes, above, file_bytes, mask_account, paper_bytes
from supsup_methods.continual_method import OverContexts
from supsup_methods.devices import describe_machine
from supsup_methods.errors import UsageError
from supsup_methods.guess_costs import doubling, guess_costs
from supsup_methods.reporting.bytes_figures import bytes_by_part, density_by_layer, seconds_per_guess
from supsup_methods.reporting.table_figures import accuracy_against_bytes
from supsup_methods.reproduction.paper_numbers import paper_frontier
from supsup_methods.result_records import Summary
from supsup_methods.run_folder import RECIPE, SUMMARY, RunFolder
from supsup_methods.run_frames import CSC, byte_rows, density_rows
from supsup_methods.runs import Run

from supsup_dashboard.charts import show_chart
from supsup_dashboard.moments import spoken_moment
from supsup_dashboard.run_choice import changed, choose_runs, opened, stamp

_PAPERS = {"SplitCIFAR100 (Figure 2, right; Table 2)": "2", "SplitImageNet (Figure 2, left)": "figure 2, left"}
_FITTING = {"split-cifar100": 0, "split-image-folder": 0, "split-imagenet": 1}  # paper's values by the stream of runs
_COUNTED, _TIMED = "counted runs", "costs of guesses"


_Key: TypeAlias = tuple[Path, int]
"""Of a run: its folder, and when it was begun."""


@dataclass(frozen=True)
class _Counted:
    """How far a run had come when its bytes were counted."""

    stamped: tuple[int, ...]
    tasks: int


@dataclass(frozen=True)
class _Costs:
    """What guesses cost, as this session measured it.

    Attributes:
        rows: what `bytes_figures.seconds_per_guess` draws: of the tasks that were learned then.
        at: when it was measured: another time, with other work on the machine, costs are others.
    """

    rows: pd.DataFrame
    at: datetime


def show() -> None:
    """Show the frontier of the chosen runs, and the ledger and the cost of a guess of one of them."""
    st.title("Bytes")
    folders = choose_runs("What it stores is counted here.")
    if not folders:
        if "chosen-runs" in st.session_state:
            st.info("Choose at least one run above.")
        return
    runs = {folder.path.name: folder for folder in folders}
    with _errors_shown():
        _show_frontier(runs)
    st.header("Ledger of one run")
    folder = runs[st.selectbox("Of the run", list(runs), key="ledger")]
    with _errors_shown():
        _show_ledger(folder)
    with _errors_shown():
        _show_costs(folder)


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Show what is wrong with a run in place of what would be shown of it."""
    try:
        yield
    except (DatasetError, OSError, SupsupError, UsageError) as error:
        st.error(str(error))


def _show_frontier(runs: Mapping[str, RunFolder]) -> None:
    st.header("Accuracy against bytes")
    summaries = dict(_summaries(runs))
    unfinished = [name for name in runs if name not in summaries]
    if unfinished:
        st.info(f"Without results, and so not drawn: {', '.join(unfinished)}. Results are there when a run is done.")
    fitting = {_FITTING[summary["settings"]["stream"]["kind"]] for summary in summaries.values() if _has_paper(summary)}
    names = list(_PAPERS)
    chosen = st.selectbox(
        "The paper's values behind",
        names,
        index=min(fitting) if fitting else None,
        placeholder="None",
        key=f"paper-{sorted(fitting)}",
    )
    points = [point for name, summary in summaries.items() for point in _points(runs[name], summary)]
    rows = pd.DataFrame(points, columns=["row", "bytes", "accuracy"])
    paper = paper_frontier(_PAPERS[chosen]) if chosen else None
    if rows.empty and paper is None:
        return
    st.caption(
        "Bytes as a run keeps them: masks as packed bits. Entropy-coded, sparse masks take less: counted below, they are drawn."
    )
    behind = [] if paper is None else [_printed(paper)]
    about = "Accuracy in percent against the bytes of all tasks, of the chosen runs and of the paper."
    numbers = pd.concat([frame for frame in (rows, *behind) if len(frame)], ignore_index=True)
    percent = rows.assign(accuracy=100 * rows["accuracy"].astype(float))
    show_chart(accuracy_against_bytes(percent, paper), numbers, "accuracy-against-bytes", about)


def _printed(paper: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's values under its name, accuracies as the fractions of which it prints four digits."""
    return paper.assign(row="paper: " + paper["row"], accuracy=(paper["accuracy"] / 100).round(4))


def _points(folder: RunFolder, summary: Summary) -> Iterator[tuple[str, float, float]]:
    """Yield the name, bytes and accuracy of a run, and of its masks entropy-coded where they were counted."""
    name, accuracy = folder.path.name, summary["checkpoints"][-1]["accuracy"]
    yield name, summary["bytes"]["total"], accuracy
    counted = _counted(folder)
    if counted is not None:
        account, *_ = _account(folder.path, counted.stamped)
        for ledger in () if account is None else list(account.coded.values())[:1]:
            yield f"{name}, entropy-coded", ledger.total - ledger.manifest, accuracy


def _has_paper(summary: Summary) -> bool:
    return summary["settings"]["stream"]["kind"] in _FITTING


def _summaries(runs: Mapping[str, RunFolder]) -> Iterator[tuple[str, Summary]]:
    """Yield the results of the runs that are done, and say what is wrong with those that cannot be read."""
    for name, folder in runs.items():
        if folder.is_done:
            try:
                yield name, _summary(folder.path, stamp(folder))
            except (OSError, UsageError) as error:
                st.error(str(error))


@st.cache_data(max_entries=200, show_spinner=False)
def _summary(path: Path, stamped: tuple[int, ...]) -> Summary:
    summary = RunFolder(path).summary()
    if not summary["checkpoints"]:
        raise UsageError(
            f"{path / SUMMARY}: it tells of no test; remove it, and go on with supsup-train --resume --out {path}, which "
            "makes it again"
        )
    return summary


def _show_ledger(folder: RunFolder) -> None:
    recipe, tasks = folder.recipe(), folder.tasks_saved
    if tasks == 0:
        st.info("Nothing is learned yet: there are bytes to count when the first task is saved.")
        return
    st.write(
        f"{recipe.method.kind}, {tasks} of {recipe.tasks} tasks learned: all files of {folder.bank} take "
        f"**{file_bytes(folder.bank):,} bytes**, {file_bytes(folder.bank) / tasks:,.1f} a task."
    )
    if not _asked_to_count(folder) or (moment := _counted(folder)) is None:
        return
    account, counted, parts = _account(folder.path, moment.stamped)
    about = "Bytes of what was learned in several forms, each by its parts."
    show_chart(bytes_by_part(parts[parts["form"] != CSC]), parts, "bytes-by-part", about)
    _show_totals(account, parts)
    _show_convention(counted, has_masks=account is not None)
    if account is not None:
        st.subheader("Density of the masks")
        densities = density_rows(account)
        about = "Share of ones in the masks of each layer, in percent: mean, least and most over tasks."
        show_chart(density_by_layer(densities), densities, "densities", about)


@st.cache_data(max_entries=20, show_spinner="Counting: the masks are entropy-coded")
def _account(path: Path, stamped: tuple[int, ...]) -> tuple[MaskAccount | None, PaperBytes | None, pd.DataFrame]:
    """Return what the masks take, what Table 2's convention gives, and both as rows."""
    run = opened(RunFolder(path), stamped)
    method = run.method
    counted = paper_bytes(run.recipe.method, run.network, method.tasks_learned)
    account = None
    if isinstance(method, OverContexts) and isinstance(method.bank, MaskBank):
        account = mask_account(run.network, method.bank)
    stored = {"contexts": method.bytes.contexts, "shared": method.bytes.shared, "buffers": method.bytes.buffers}
    # A mapping proxy does not go into a cache.
    plain = None if counted is None else PaperBytes(dict(counted.parts), counted.row, counted.note)
    return account, plain, byte_rows(account, stored, counted)


def _show_totals(account: MaskAccount | None, parts: pd.DataFrame) -> None:
    table = parts.groupby("form", sort=False)["bytes"].sum().reset_index()
    if account is not None:
        order_0 = next(iter(account.coded.values())).order_0
        table["above the order-0 reference"] = [
            _share(above(own, order_0)) for own in (_own_bytes(parts, form) for form in table["form"])
        ]
    numbers = {"bytes": st.column_config.NumberColumn(format="localized")}
    st.dataframe(table, hide_index=True, column_config=numbers, alt="Bytes of each form")
    if account is not None:
        st.caption(
            "The reference is Σ n H₂(density) / 8 over masks and layers: the least that masks take where only their densities "
            "are known. What is above it is told of the masks alone, without running statistics and bookkeeping."
        )


def _own_bytes(parts: pd.DataFrame, form: str) -> float:
    return float(parts.loc[(parts["form"] == form) & (parts["part"] == "each task's own"), "bytes"].sum())


def _show_convention(counted: PaperBytes | None, *, has_masks: bool) -> None:
    if counted is None and has_masks:
        st.caption(
            "The paper's rows of SupSup follow from no formula that we know; as scipy.sparse.csc is an estimate."
        )
    if counted is None:
        return
    row = f"as Table 2's {counted.row}" if counted.row else "no row of Table 2, and counted as its rows are"
    st.caption(f"By Table 2's convention: {row}. {counted.note[:1].upper()}{counted.note[1:]}".strip())


def _show_costs(folder: RunFolder) -> None:
    st.header("Cost of a guess")
    st.write("How long it takes to infer the task of one image, among the first 1, 2, 4, ... tasks of this run.")
    if folder.tasks_saved == 0:
        st.info("Nothing is learned yet.")
        return
    costs: dict[_Key, _Costs] = st.session_state.setdefault(_TIMED, {})
    key = _key(folder)
    label = "Measure again" if key in costs else "Measure"
    if st.button(label, help="Takes some seconds, or a minute with thousands of tasks", key="measure-guesses"):
        try:
            costs[key] = _Costs(_measured_costs(folder), datetime.now(UTC))
        except InvalidArgument as error:
            st.info(str(error))
            return
        st.rerun()
    if key not in costs:
        return
    measured = costs[key]
    about = "Milliseconds for one guess against the number of tasks to choose from, on logarithmic axes."
    show_chart(seconds_per_guess(measured.rows), measured.rows, "cost-of-a-guess", about)
    machine, threads = describe_machine(torch.device("cpu")), torch.get_num_threads()
    st.caption(
        f"Measured here, {spoken_moment(measured.at)}, among up to {measured.rows['tasks'].max():,} tasks: {machine}, {threads} "
        "threads; the median of repeats, from one image."
    )


def _measured_costs(folder: RunFolder) -> pd.DataFrame:
    """Return what `bytes_figures.seconds_per_guess` draws, measured now; a bar tells how far it is."""
    run = opened(folder, stamp(folder))
    lines = []
    method = run.method
    steps = doubling(len(method.bank)) if isinstance(method, OverContexts) else []
    bar = st.progress(0.0, "Measuring")
    for cost in guess_costs(method, _image(run)):
        lines.append({"search": cost.search, "tasks": cost.tasks, "seconds": cost.seconds})
        bar.progress(min(1.0, len(lines) / (2 * max(1, len(steps)))), f"Measuring: {cost.tasks} tasks")
    bar.empty()
    return pd.DataFrame(lines)


def _image(run: Run) -> torch.Tensor:
    """Return the first test image of the first task."""
    return next(iter(run.stream[0].test.in_order(1))).images


def _asked_to_count(folder: RunFolder) -> bool:
    """Show a button, and return whether it was pressed for this run in this session."""
    counted = _counted(folder)
    label = "Count what it could take" if counted is None else "Count again"
    about = "Entropy-codes the masks in a temporary folder"
    is_known = counted is not None and counted.stamped == stamp(folder)
    st.button(label, help=about, disabled=is_known, key="count", on_click=_count, args=(folder,))
    if counted is not None and not is_known:
        st.caption(f"Counted when {counted.tasks} tasks were learned.")
    return counted is not None


def _count(folder: RunFolder) -> None:
    st.session_state.setdefault(_COUNTED, {})[_key(folder)] = _Counted(stamp(folder), folder.tasks_saved)


def _counted(folder: RunFolder) -> _Counted | None:
    """Return how far a run had come when it was counted in this session; None where it was not."""
    counted: dict[_Key, _Counted] = st.session_state.get(_COUNTED, {})
    return counted.get(_key(folder))


def _key(folder: RunFolder) -> _Key:
    """Return what tells a run from a later one of its name."""
    return folder.path, changed(folder.path / RECIPE)


def _share(fraction: float | None) -> str:
    return "–" if fraction is None else f"{fraction:+.2%}"

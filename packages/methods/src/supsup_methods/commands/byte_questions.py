"""What `supsup-eval --bytes` says of a run: its files, Table 2's way of counting, and masks as short as they can be."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from supsup_core import ByteLedger, MaskBank
from supsup_datasets import Scenario

from supsup_methods.byte_accounts import (
    MaskAccount,
    PaperBytes,
    above,
    file_bytes,
    holds,
    mask_account,
    paper_bytes,
    with_statistics_as,
)
from supsup_methods.commands.mask_questions import Asked
from supsup_methods.continual_method import OverContexts
from supsup_methods.evaluation import evaluate_task
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import Run
from supsup_methods.supsup import SupSup

_NONE = "–"


def ask_about_bytes(console: Console, run: Run, asked: Asked) -> dict[str, Any]:
    """Print what a run's storage comes to, and return it: bytes, densities and accuracies as fractions."""
    method, tasks = run.method, run.method.tasks_learned
    stored = {"files": file_bytes(RunFolder(run.path).bank), **asdict(method.bytes), "total": method.bytes.total}
    counted = paper_bytes(run.recipe.method, run.network, tasks)
    console.print(_stored_table(run, stored, counted))
    answers: dict[str, Any] = {"tasks": tasks, "stored": stored, "paper": _paper_answer(counted)}
    if isinstance(method, OverContexts) and isinstance(method.bank, MaskBank):
        account = mask_account(run.network, method.bank)
        console.print(_mask_table(account))
        console.print(_density_table(account))
        answers["masks"] = _mask_answer(account)
    if isinstance(method, SupSup) and run.network.task_buffers and method.bank.buffers.dtype == torch.float32:
        answers["accuracy"] = _accuracies(run, method, asked)
        console.print(_accuracy_table(answers["accuracy"], asked.tasks))
        if not holds(torch.float16, method.bank):
            largest, most = float(method.bank.buffers.abs().max()), torch.finfo(torch.float16).max
            console.print(
                f"float16 holds numbers up to {most:,.0f}, and running statistics here go up to {largest:,.0f}"
            )
    return answers


def _accuracies(run: Run, method: SupSup, asked: Asked) -> dict[str, float]:
    """Return the accuracy with the task given (GG), by the dtype that running statistics are rounded to if it holds them."""
    accuracies = {}
    for dtype in (torch.float16, torch.float32) if holds(torch.float16, method.bank) else (torch.float32,):
        rounded = copy.copy(method)
        rounded.bank = with_statistics_as(run.network, method.bank, dtype)
        scores = [
            evaluate_task(rounded, run.stream[task], Scenario.GG, asked.batch_size) for task in range(asked.tasks)
        ]
        accuracies[_name(dtype)] = sum(score.accuracy for score in scores) / len(scores)
    return accuracies


def _stored_table(run: Run, stored: Mapping[str, int], counted: PaperBytes | None) -> Table:
    tasks = run.method.tasks_learned
    table = Table(title=f"{escape(str(run.path))}: {tasks} tasks learned, {run.recipe.method.kind}, bytes")
    for column in ("", "bytes", "bytes a task"):
        table.add_column(column, justify="left" if column == "" else "right")

    def add(label: str, value: int | None) -> None:
        table.add_row(
            label, _NONE if value is None else f"{value:,}", _NONE if value is None else f"{value / tasks:,.1f}"
        )

    for name, label in _OWN.items():
        add(label, stored[name])
    table.add_section()
    for part, value in ({} if counted is None else counted.parts).items():
        add(f"Table 2's convention: {part}", value)
    add("Table 2's convention", None if counted is None else counted.total)
    table.caption = _caption(run, counted)
    return table


_OWN = {
    "files": "all files of bank/",
    "total": "numbers alone, without headers",
    "contexts": "of these each task's own",
    "shared": "of these trained and shared",
    "buffers": "of these running statistics",
}


def _caption(run: Run, counted: PaperBytes | None) -> str:
    if counted is None and isinstance(run.method, OverContexts):
        return "the paper's rows of SupSup follow from no formula that we know; an estimate is below"
    if counted is None:
        return f"the paper counts no method like {run.recipe.method.kind}"
    row = "no row of Table 2, counted as its rows are" if counted.row is None else f"as Table 2's {counted.row}"
    return f"{row}; {counted.note}" if counted.note else row


def _mask_table(account: MaskAccount) -> Table:
    table = Table(title=f"Bytes of {account.masks} masks")
    names = [_column(account, dtype) for dtype in account.coded]
    for column in ("", "packed bits", *names):
        table.add_column(column, justify="left" if column == "" else "right")
    ledgers = list(account.coded.values())
    plain, order_0 = account.packed + account.packed_buffers, ledgers[0].order_0
    table.add_row("masks", f"{account.packed:,}", *(f"{each.contexts:,}" for each in ledgers))
    table.add_row("running statistics", f"{account.packed_buffers:,}", *(f"{each.buffers:,}" for each in ledgers))
    table.add_row("bookkeeping", _NONE, *(f"{each.bookkeeping:,}" for each in ledgers))
    table.add_row("without manifest", f"{plain:,}", *(f"{_but_manifest(each):,}" for each in ledgers))
    a_task = (f"{_but_manifest(each) / account.masks:,.1f}" for each in ledgers)
    table.add_row("without manifest, a mask", f"{plain / account.masks:,.1f}", *a_task)
    table.add_row("manifest", _NONE, *(f"{each.manifest:,}" for each in ledgers))
    table.add_section()
    table.add_row("order-0 reference", *[f"{order_0:,.1f}"] * (1 + len(ledgers)))
    over = (account.packed, *(each.contexts for each in ledgers))
    table.add_row("masks above it", *(_share(above(each, order_0)) for each in over))
    statistics = (account.packed_buffers, *(each.buffers for each in ledgers))
    whole = (plain, *(_but_manifest(each) for each in ledgers))
    shares = (above(all_of_it, order_0 + kept) for all_of_it, kept in zip(whole, statistics, strict=True))
    table.add_row("without manifest, above it", *map(_share, shares))
    table.caption = (
        "The reference is Σ n H₂(density) / 8 over masks and layers; running statistics are added to it in the last row. As "
        f"scipy.sparse.csc, about {account.csc:,}: 2 for each one, 2 (outputs + 1) for each layer and mask, 2 for each running "
        "statistic, and 4 in place of 2 where a layer's numbers need it."
    )
    return table


def _density_table(account: MaskAccount) -> Table:
    table = Table(title=f"Density by layer, over {account.masks} masks")
    for column in ("layer", "weights", "least", "mean", "most"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for each in account.densities:
        shares = (f"{value:.3%}" for value in (each.least, each.mean, each.most))
        table.add_row(escape(each.layer), f"{each.weights:,}", *shares)
    return table


def _accuracy_table(accuracies: Mapping[str, float], tasks: int) -> Table:
    table = Table(title=f"Accuracy over {tasks} tasks, scenario GG")
    table.add_column("running statistics")
    table.add_column("accuracy", justify="right")
    for name, accuracy in accuracies.items():
        table.add_row(name, f"{accuracy:.2%}")
    return table


def _paper_answer(counted: PaperBytes | None) -> dict[str, Any] | None:
    if counted is None:
        return None
    return {"row": counted.row, "parts": dict(counted.parts), "total": counted.total, "note": counted.note}


def _mask_answer(account: MaskAccount) -> dict[str, Any]:
    order_0 = next(iter(account.coded.values())).order_0
    return {
        "masks": account.masks,
        "order_0": order_0,
        "packed": {"contexts": account.packed, "buffers": account.packed_buffers},
        "coded": {_name(dtype): _ledger_answer(ledger, account.masks) for dtype, ledger in account.coded.items()},
        "csc_estimate": account.csc,
        "densities": [asdict(each) for each in account.densities],
    }


def _ledger_answer(ledger: ByteLedger, masks: int) -> dict[str, float | None]:
    """Return the bytes of an entropy-coded bank; shares above the reference are fractions."""
    return {
        "contexts": ledger.contexts,
        "buffers": ledger.buffers,
        "bookkeeping": ledger.bookkeeping,
        "manifest": ledger.manifest,
        "total": ledger.total,
        "per_mask_without_manifest": _but_manifest(ledger) / masks,
        "contexts_above_order_0": above(ledger.contexts, ledger.order_0),
        "all_but_manifest_above_order_0": above(_but_manifest(ledger), ledger.order_0 + ledger.buffers),
    }


def _but_manifest(ledger: ByteLedger) -> int:
    """Return the bytes that grow with the masks."""
    return ledger.total - ledger.manifest


def _column(account: MaskAccount, dtype: torch.dtype) -> str:
    return f"entropy-coded, {_name(dtype)} statistics" if account.packed_buffers else "entropy-coded"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _share(fraction: float | None) -> str:
    return _NONE if fraction is None else f"{fraction:+.2%}"

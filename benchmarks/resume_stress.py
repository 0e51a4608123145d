"""Stops real runs in every way we know, at random moments, goes on with --resume, and looks for anything lost.

    python benchmarks/resume_stress.py [--stops N] [--tasks N] [--seed N]

One run goes through without a stop. Others are stopped again and again: Ctrl-C, SIGTERM, `kill -9`, `kill -9` while a file of
the bank is written, a power cut that leaves the newest file truncated, a full disk. After each stop the tasks on disk must be
those of the first run, bit for bit, and at least those that the run said it had learned; in the end masks and accuracies must
be the first run's. With a truncated file the run must go on, too. Only where that file says what the run is may it refuse, in
one line that names the file and with status 2; then the file is put back and the run goes on. Exit 1 if anything was lost, or
wrong without a word.

The seed repeats the choices; what a process had just done at a random moment, no seed repeats.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from stopped_processes import Process, Stopped
from supsup_core import MaskBank, SupsupError
from supsup_methods.commands.exits import BAD_INPUT, INTERRUPTED
from supsup_methods.run_folder import ENVIRONMENT, RECIPE, RunFolder
from supsup_methods.runs import open_run

MOST_STOPS_OF_A_RUN = 5
SMALLEST_LIMIT_BYTES = 500
NOT_MENDED = (RECIPE, ENVIRONMENT)
MOST_TASKS_AHEAD = 2  # so that there is work left for the next stops
# Seconds of learning in all, with files that are written many times and still are small.
BATCHES = 250
SMALL = (
    "--method.training.batches",
    str(BATCHES),
    "--method.training.batch-size",
    "64",
    "--backbone.hidden",
    "32",
    "16",
    "--backbone.outputs",
    "20",
)


@dataclass(frozen=True)
class Reference:
    """The run that nobody stopped.

    Attributes:
        bank: its masks.
        results: of its summary, what does not depend on the clock.
        scores: what each checkpoint counted.
        start_seconds: from the start of the process to its first line, imports for the most part.
        work_seconds: from there to its end.
    """

    bank: MaskBank
    results: dict[str, Any]
    scores: list[Any]
    start_seconds: float
    work_seconds: float


@dataclass
class Stress:
    """Everything that the stops share, and what they found."""

    work: Path
    options: tuple[str, ...]
    reference: Reference
    random: np.random.Generator
    console: Console
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    litter_files: int = 0
    deck: list[str] = field(default_factory=list)

    def start(self, folder: RunFolder, file_limit_bytes: int | None = None) -> Process:
        """Start the run, or go on with it: where a stop came before the run was written down, it starts again."""
        options = ("--resume",) if folder.holds_run else self.options
        return Process(folder.path, options, file_limit_bytes)

    def next_way(self) -> str:
        """Draw a way to stop: each comes once before any comes again."""
        if not self.deck:
            self.deck = [str(name) for name in self.random.permutation(list(WAYS))]
        return self.deck.pop()

    def moment(self, process: Process, folder: RunFolder) -> None:
        """Wait for a random moment: one in six while libraries are imported, the others while there is work to do.

        By the tasks that the process learns and not by the clock, as others may use the machine.
        """
        if self.random.random() < 1 / 6:
            start_delay = self.random.uniform(0, self.reference.start_seconds)
            process.wait_until(lambda: time.perf_counter() - process.started > start_delay, 0.01)
            return
        tasks = len(self.reference.bank)
        ahead = int(self.random.integers(0, min(MOST_TASKS_AHEAD, tasks - folder.tasks_saved) + 1))
        delay = self.random.uniform(0, self.reference.work_seconds / tasks)
        process.wait_until(lambda: bool(process.lines) and len(process.learned) >= ahead, 0.001)
        reached = time.perf_counter()
        process.wait_until(lambda: time.perf_counter() - reached > delay, 0.001)


Way = Callable[[Stress, RunFolder], Stopped]
"""A way to stop a run: starts it or goes on with it, and returns when it has ended."""


def by_signal(how: signal.Signals, *expected: int) -> Way:
    """Return the way that sends a signal at a random moment."""

    def way(stress: Stress, folder: RunFolder) -> Stopped:
        process = stress.start(folder)
        stress.moment(process, folder)
        return Stopped(process, *process.end(how), expected)

    return way


def kill_while_writing(stress: Stress, folder: RunFolder) -> Stopped:
    """Kill the run up to 3 ms after a new file of the bank has come up: while it is written, or put in its place."""
    left_behind = _partial_files(folder.bank)  # by an earlier kill
    process = stress.start(folder)
    skipped, delay = int(stress.random.integers(0, 4)), stress.random.uniform(0, 0.003)
    seen: set[str] = set()

    def is_writing() -> bool:
        seen.update(_partial_files(folder.bank) - left_behind)
        return len(seen) > skipped

    process.wait_until(is_writing, 0)
    time.sleep(delay)
    return Stopped(process, *process.end(signal.SIGKILL), (-signal.SIGKILL,))


def power_cut(stress: Stress, folder: RunFolder) -> Stopped:
    """Kill the run at a random moment, and truncate what it wrote last, as a file system may that lost power."""
    stopped = by_signal(signal.SIGKILL, -signal.SIGKILL)(stress, folder)
    files = [path for path in folder.path.rglob("*") if path.is_file() and _is_content(path)]
    if files:
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        content = newest.read_bytes()
        os.truncate(newest, int(stress.random.integers(0, len(content))))
        stopped.damaged = (newest, content)
    return stopped


def full_disk(stress: Stress, folder: RunFolder) -> Stopped:
    """Let writes fail beyond a random size of a file."""
    largest = stress.reference.bank.context_bytes
    # Evenly on a log scale, so that the run's small files meet it too.
    limit_bytes = round(np.exp(stress.random.uniform(np.log(SMALLEST_LIMIT_BYTES), np.log(largest))))
    process = stress.start(folder, limit_bytes)
    return Stopped(process, *process.end(), (BAD_INPUT,))


WAYS: dict[str, Way] = {
    # Ctrl-C before our code runs, or after it has ended, meets Python's own answer: it dies of the signal.
    "Ctrl-C (SIGINT)": by_signal(signal.SIGINT, INTERRUPTED, -signal.SIGINT),
    "SIGTERM": by_signal(signal.SIGTERM, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT),
    "kill -9": by_signal(signal.SIGKILL, -signal.SIGKILL),
    "kill -9 while the bank is written": kill_while_writing,
    "power cut: newest file truncated": power_cut,
    "full disk": full_disk,
}


def stop_once(stress: Stress, folder: RunFolder, name: str) -> bool:
    """Stop a run in one way, look at what is left, and return whether it had come to its end before."""
    before, partial_before = folder.tasks_saved, _partial_files(folder.path)
    stopped = WAYS[name](stress, folder)
    counts = stress.counts.setdefault(name, Counter())
    counts["stops"] += 1
    begun, done = stopped.process.begun_seconds is not None, stopped.status == 0
    counts["before the first line"] += not begun and not done
    counts["already done"] += done
    counts["left a partial file"] += bool(_partial_files(folder.path) - partial_before)
    if stopped.status not in (0, *stopped.expected):
        stress.problems.append(f"{name}: {folder.path.name} ended with {stopped.status}: {stopped.errors[-2000:]}")
    if stopped.status in (INTERRUPTED, BAD_INPUT) and len(stopped.errors.splitlines()) != 1:
        stress.problems.append(f"{name}: {folder.path.name} did not say one line: {stopped.errors[-2000:]}")
    if stopped.damaged is not None:
        done = False  # a finished run whose last file is damaged has to be looked at again
        counts["files truncated"] += 1
        _go_on_with_damage(stress, folder, stopped.damaged)
    _look_for_losses(stress, folder, f"{name}: {folder.path.name}", before, stopped.process.learned)
    stored = folder.tasks_saved
    counts["tasks begun again"] += begun and not done and stored < len(stress.reference.bank)
    stress.console.print(
        f"{folder.path.name}  {name:<34} {stopped.status:>4}  {stored} tasks stored  {escape(stopped.errors.strip())}",
        soft_wrap=True,
    )
    return done


def _go_on_with_damage(stress: Stress, folder: RunFolder, damaged: tuple[Path, bytes]) -> None:
    """Let the run go on with its truncated file; where it may refuse and does, put the file back."""
    path, content = damaged
    process = stress.start(folder)
    status, errors = process.end()
    if status == 0:
        stress.refusals[f"{path.name}: went on"] += 1
        compare_end(stress, folder)
        return
    refused = status == BAD_INPUT and len(errors.splitlines()) == 1 and path.name in errors
    if not refused or path.name not in NOT_MENDED:
        stress.problems.append(f"{path} truncated: status {status}: {errors[-2000:]}")
    said = errors.strip().replace(f"{folder.path.name}/", "RUN/").replace(str(folder.path), "RUN")
    stress.refusals[f"{path.name}: {said}"] += 1
    path.write_bytes(content)


def _look_for_losses(stress: Stress, folder: RunFolder, where: str, before: int, learned: list[int]) -> None:
    """Compare the tasks on disk with the reference's, and with what was stored before a process and what it learned."""
    if learned and learned[0] != before + 1:
        stress.problems.append(f"{where}: {before} tasks were stored, and the first that it learned was {learned[0]}")
    if not folder.holds_run:
        return
    try:
        bank = open_run(folder.path).bank
        rows = bank.rows
    except (SupsupError, ValueError) as error:
        stress.problems.append(f"{where}: cannot be opened: {error}")
        return
    stored, reference = len(bank), stress.reference.bank
    if stored < max([before, *learned]):
        stress.problems.append(f"{where}: {stored} tasks are stored where {max([before, *learned])} were learned")
    if bank.checksums != reference.checksums[:stored] or not torch.equal(rows, reference.rows[:stored]):
        stress.problems.append(f"{where}: the masks are not the uninterrupted run's")


def compare_end(stress: Stress, folder: RunFolder) -> None:
    """Compare a run that is done with the reference, bit for bit."""
    run = open_run(folder.path)
    reference = stress.reference
    if run.summary is None or _results(folder) != reference.results or _scores(folder) != reference.scores:
        stress.problems.append(f"{folder.path.name}: it ended with other accuracies than the uninterrupted run")
    if not torch.equal(run.bank.rows, reference.bank.rows) or run.bank.checksums != reference.bank.checksums:
        stress.problems.append(f"{folder.path.name}: it ended with other masks than the uninterrupted run")


def stress_one_run(stress: Stress, number: int, stops: int) -> int:
    """Stop one run up to `stops` times, let it come to its end, compare; return how often it was stopped."""
    folder = RunFolder(stress.work / f"run-{number}")
    done, made = False, 0
    while made < stops and not done:
        done = stop_once(stress, folder, stress.next_way())
        made += 1
    if not done:
        before, process = folder.tasks_saved, stress.start(folder)
        status, errors = process.end()
        if status != 0:
            stress.problems.append(f"{folder.path.name}: cannot be finished: status {status}: {errors[-2000:]}")
            return made
        _look_for_losses(stress, folder, folder.path.name, before, process.learned)
    compare_end(stress, folder)
    stress.litter_files += len(_partial_files(folder.path))
    return made


def make_reference(work: Path, options: tuple[str, ...]) -> Reference:
    """Run without a stop, twice: the first fills caches and makes the tracking store, so that the second tells the time."""
    for name in ("warm-up", "reference"):
        folder = RunFolder(work / name)
        process = Process(folder.path, options)
        process.wait_until(partial(_is_done, folder), 0.001)
        done_seconds = time.perf_counter() - process.started
        status, errors = process.end()
        if status != 0 or process.begun_seconds is None:
            raise SystemExit(f"the uninterrupted run ended with {status}: {errors}")
        begun_seconds = process.begun_seconds
    bank = open_run(folder.path).bank
    return Reference(bank, _results(folder), _scores(folder), begun_seconds, done_seconds - begun_seconds)


def _is_done(folder: RunFolder) -> bool:
    return folder.is_done


def _results(folder: RunFolder) -> dict[str, Any]:
    """Return the summary without what depends on the clock."""
    return {name: value for name, value in folder.summary().items() if name not in ("seconds", "finished")}


def _scores(folder: RunFolder) -> list[Any]:
    return [(checkpoint.tasks_learned, checkpoint.scores) for checkpoint in folder.progress().checkpoints]


def _is_content(path: Path) -> bool:
    """Tell whether a run needs this file: without the tracking process's note of its id it goes on."""
    return path.suffix in (".json", ".safetensors")


def _partial_files(folder: Path) -> set[str]:
    """Return the names of files that are being written, or were when the run was killed."""
    return {path.name for path in folder.rglob("*.partial")} if folder.exists() else set()


def report(stress: Stress, runs: int, seconds: float) -> None:
    """Print what was tried and what was found."""
    columns = (
        "stops",
        "before the first line",
        "already done",
        "tasks begun again",
        "left a partial file",
        "files truncated",
    )
    table = Table(title=f"{runs} runs of {len(stress.reference.bank)} tasks, {seconds:.0f} s")
    table.add_column("way to stop")
    for column in columns:
        table.add_column(column, justify="right")
    for name in WAYS:
        counts = stress.counts.get(name, Counter())
        table.add_row(name, *(str(counts[column]) for column in columns))
    total = sum(stress.counts.values(), Counter())
    table.add_section()
    table.add_row("all", *(str(total[column]) for column in columns))
    stress.console.print(table)
    for said, times in stress.refusals.items():
        stress.console.print(f"  {times} × {escape(said)}", soft_wrap=True)
    for problem in stress.problems:
        stress.console.print(f"[red]PROBLEM[/] {escape(problem)}", soft_wrap=True)
    stress.console.print(f"partial files that lie in the folders of finished runs: {stress.litter_files}")
    stress.console.print(f"lost, or wrong without a word: {len(stress.problems) or 'nothing'}")


def main() -> None:
    """Stop, resume, compare, report."""
    parser = argparse.ArgumentParser(description="Stop real runs at random moments and look for anything lost.")
    parser.add_argument("--stops", type=int, default=50, help="how many stops in all")
    parser.add_argument("--tasks", type=int, default=6, help="tasks of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the choices, and of the runs")
    asked = parser.parse_args()
    middle = [str(tasks) for tasks in sorted({max(1, asked.tasks // 3), max(1, 2 * asked.tasks // 3)})]
    options = ("--tasks", str(asked.tasks), "--seed", str(asked.seed), *SMALL, "--evaluation.checkpoints", *middle)
    console = Console(width=150, highlight=False)
    work = Path(tempfile.mkdtemp(prefix="supsup-stress-"))
    start = time.perf_counter()
    reference = make_reference(work, options)
    console.print(
        f"uninterrupted: {reference.start_seconds:.1f} s to its first line, {reference.work_seconds:.1f} s of work; "
        f"accuracy {json.dumps([checkpoint['accuracy'] for checkpoint in reference.results['checkpoints']])}"
    )
    stress = Stress(work, options, reference, np.random.default_rng(asked.seed), console)
    runs = made = 0
    while made < asked.stops:
        stops = min(int(stress.random.integers(1, MOST_STOPS_OF_A_RUN + 1)), asked.stops - made)
        made += stress_one_run(stress, runs, stops)
        runs += 1
    report(stress, runs, time.perf_counter() - start)
    if stress.problems:
        console.print(f"the runs are kept in {work}")
        sys.exit(1)
    shutil.rmtree(work, ignore_errors=True)  # the last tracking processes may still write their notes


if __name__ == "__main__":
    main()

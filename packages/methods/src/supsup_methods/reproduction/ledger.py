"""The ledger: every number of the paper beside ours, read from the records alone. REPRODUCTION.md and the dashboard show it."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from supsup_datasets import EMBEDDED_MNIST

from supsup_methods.errors import UsageError
from supsup_methods.reproduction.explanations import EXPLANATIONS, REMARKS
from supsup_methods.reproduction.paper_numbers import PaperNumber, paper_numbers
from supsup_methods.reproduction.table2 import expected_accuracies
from supsup_methods.reproduction.tables import ROWS

RECORDS = "records"
"""Folder of the records, in that of the reproduction."""

Status: TypeAlias = Literal["reproduced", "deviates", "not run", ""]
"""Nothing where there is nothing to be near to."""

_FIELDS = {"target", "quick", "rows", "data", "machine", "commit", "seconds", "written"}
_ROW_FIELDS = {"what", "ours", "paper", "mean", "std", "unit", "seeds", "difference", "status"}
_TABLES = {f"table{number}": number for number in ROWS}
_TABLE_2 = "table2"
_PART = re.compile(r": [^:]+$|, \d+ tasks$")  # of a number's name: which of its row's it is


@dataclass(frozen=True)
class Record:
    """What `supsup-reproduce` wrote of a target.

    Attributes:
        target: its name.
        quick: whether this is the small version, whose numbers are not the paper's.
        rows: as `findings.Row` and its record have them, by what each is of.
        tables: more numbers, a mapping for each line.
        data: that was learned from.
        machine: that seconds depend on.
        commit: of the code; None where it was not told.
        seconds: of runs.
        written: when, as ISO 8601 has it.
        seeds: of the runs; empty where nothing was run.
        runs: seconds of each run, by its name; older records lack them.
    """

    target: str
    quick: bool
    rows: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    data: str
    machine: str
    commit: str | None
    seconds: float
    written: str
    seeds: tuple[int, ...]
    runs: Mapping[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether its numbers are held against the paper's: those of quick versions and of the digits that ship are not."""
        return not self.quick and self.data != EMBEDDED_MNIST


@dataclass(frozen=True)
class Entry:
    """One number: the paper's, ours, or both.

    Attributes:
        what: it is of.
        paper: as the paper has it; nothing where it says nothing.
        paper_value: that as a number, where it is one to compare with.
        ours: a value for each seed; none where it is not run.
        mean: of them.
        std: their sample standard deviation; None with fewer than two.
        unit: of ours.
        difference: ours less the paper's.
        status: whether it is as near as it should be.
        row: its row, where the table has a column for each number of tasks.
        tasks: its column there.
    """

    what: str
    paper: str = ""
    paper_value: float | None = None
    ours: tuple[float, ...] = ()
    mean: float | None = None
    std: float | None = None
    unit: str = "%"
    difference: float | None = None
    status: Status = ""
    row: str = ""
    tasks: int = 0

    @property
    def seeds(self) -> int:
        """Of ours."""
        return len(self.ours)


@dataclass(frozen=True)
class Section:
    """A target: its numbers, where they come from, and what explains those that deviate.

    Attributes:
        name: of the target.
        entries: its numbers, those of the paper first and in its order.
        notes: explanations.
        records: where ours come from, in the order in which they were written; none where it is not run.
    """

    name: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()

    @property
    def hours(self) -> float:
        """Of runs, each counted once."""
        return hours_of(self.records)

    @property
    def measured(self) -> str:
        """The day of the last record, as ISO 8601 has it; nothing where there is none."""
        return self.records[-1].written[:10] if self.records else ""

    def table(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return a table of the newest record that has it, or nothing."""
        return next((record.tables[name] for record in reversed(self.records) if name in record.tables), ())

    def rows_of(self, record: Record) -> list[str]:
        """Return the rows, or the numbers that stand in none, that come from a record."""
        newest = _newest(self.records)
        ours = (entry for entry in self.entries if entry.ours and newest[entry.what] is record)
        return list(dict.fromkeys(entry.row or _PART.sub("", entry.what) for entry in ours))

    @property
    def counts(self) -> Counter[Status]:
        """How many numbers have each status, of those with a number of the paper to be near to."""
        return Counter(entry.status for entry in self.entries if entry.status)


@dataclass(frozen=True)
class Ledger:
    """All sections: the paper's tables first, then what else was measured, then what no target measures."""

    sections: tuple[Section, ...]
    untouched: tuple[Entry, ...] = field(default=())
    """The paper's numbers that no target measures."""

    @property
    def counts(self) -> Counter[Status]:
        """How many numbers have each status."""
        return sum((section.counts for section in self.sections), Counter(each.status for each in self.untouched))

    @property
    def measured_for_two_tables(self) -> int:
        """How many of the numbers that were measured stand in an earlier table too, whose run they are of."""
        measured = Counter(
            (row.recipe, row.inference, entry.tasks)
            for section in self.sections
            if section.name in _TABLES
            for row in ROWS[_TABLES[section.name]]
            for entry in section.entries
            if entry.row == row.label and entry.ours and entry.paper_value is not None
        )
        return measured.total() - len(measured)


def ledger_of(records: Sequence[Record]) -> Ledger:
    """Return the ledger over those records that count.

    A target may have several, of some of its rows each. Where two hold the same number, that of the newer one counts.
    """
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.written):
        if record.counts:
            found[record.target].append(record)
    names = (_TABLE_2, *_TABLES, *(name for name in sorted(found) if name not in (_TABLE_2, *_TABLES)))
    return Ledger(tuple(_section(name, found.get(name, ())) for name in names), tuple(_without_target()))


def read_records(folder: Path) -> Iterator[Record | UsageError]:
    """Yield the records of a folder by the names of their files; in place of one that cannot be read, what is wrong with it."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield read_record(path)
        except UsageError as error:
            yield error


def read_record(path: Path) -> Record:
    """Return a record.

    Raises:
        UsageError: the file is none, or lacks something.
    """
    try:
        record = json.loads(path.read_bytes())
        missing = _FIELDS - set(record) | {name for row in record["rows"] for name in _ROW_FIELDS - set(row)}
        if missing:
            lacking = ", ".join(sorted(missing))
            raise UsageError(f"{path}: the record has no {lacking}; restore it, or remove it")
        return Record(
            target=str(record["target"]),
            quick=bool(record["quick"]),
            rows={row["what"]: row for row in record["rows"]},
            tables=dict(record.get("tables", {})),
            data=str(record["data"]),
            machine=str(record["machine"]),
            commit=record["commit"],
            seconds=float(record["seconds"]),
            written=str(record["written"]),
            seeds=tuple(record.get("seeds", ())),
            runs={str(name): float(seconds) for name, seconds in record.get("runs", {}).items()},
        )
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: it is no record ({error!r}); restore it, or remove it") from None


def section_aside(name: str, records: Sequence[Record]) -> Section:
    """Return the numbers of a target's records that do not count, as a section of their own."""
    ours = tuple(record for record in records if record.target == name)
    newest = _newest(ours)
    return Section(name, tuple(_entry(what, None, record.rows[what]) for what, record in newest.items()), records=ours)


def hours_of(records: Sequence[Record]) -> float:
    """Return the hours of the runs of records. A run that several records come from counts once."""
    runs = {(name, seconds) for record in records for name, seconds in record.runs.items()}
    return (sum(seconds for _, seconds in runs) + sum(record.seconds for record in records if not record.runs)) / 3600


def _section(name: str, records: Sequence[Record]) -> Section:
    newest = _newest(records)
    used = tuple(record for record in records if any(record is each for each in newest.values()))
    measured = {what: record.rows[what] for what, record in newest.items()}
    entries = [
        _entry(what, number, measured.pop(what, None), row, number.tasks if row else 0)
        for what, number, row in _expected(name)
    ]
    entries += [_entry(what, None, row) for what, row in measured.items()]
    deviating = {entry.row or entry.what for entry in entries if entry.status == "deviates"}
    notes = [f"{label}: {EXPLANATIONS[name, label]}" for label in sorted(deviating) if (name, label) in EXPLANATIONS]
    return Section(name, tuple(entries), (*remarks_on(name), *notes), used)


def remarks_on(name: str) -> tuple[str, ...]:
    """Return what is to be said of a section, whatever was measured of it."""
    return (REMARKS[name],) if name in REMARKS else ()


def _newest(records: Sequence[Record]) -> dict[str, Record]:
    """Return for each number the last of some records that holds it from as many seeds as any of them."""
    newest: dict[str, Record] = {}
    for record in records:
        for what, row in record.rows.items():
            if what not in newest or len(row["ours"]) >= len(newest[what].rows[what]["ours"]):
                newest[what] = record
    return newest


def _expected(name: str) -> Iterator[tuple[str, PaperNumber, str]]:
    """Yield what the record calls each number of the paper, that number, and its row where there is one of several."""
    if name == _TABLE_2:
        yield from ((what, number, "") for what, number in expected_accuracies().items())
    for row in ROWS[_TABLES[name]] if name in _TABLES else ():
        for tasks, number in row.paper.items():
            yield f"{row.label}, {tasks} tasks", number, row.label


def _entry(
    what: str, number: PaperNumber | None, row: Mapping[str, Any] | None, label: str = "", tasks: int = 0
) -> Entry:
    value = None if number is None else number.accuracy_percent
    if row is None:
        printed = "" if value is None else f"{value:.2f}"
        return Entry(what, printed, value, status="not run", row=label, tasks=tasks)
    return Entry(
        what,
        paper=row["paper"] if value is None else f"{value:.2f}",
        paper_value=row.get("paper_value") if value is None else value,
        ours=tuple(row["ours"]),
        mean=row["mean"],
        std=row["std"],
        unit=row["unit"],
        difference=row["difference"],
        status=row["status"],
        row=label,
        tasks=tasks,
    )


def _without_target() -> Iterator[Entry]:
    """Yield the numbers that no target measures."""
    measured = {*ROWS, *(number.table for number in expected_accuracies().values())}
    for number in paper_numbers():
        if number.table not in measured:
            yield _entry(f"{_place(number)}, {number.tasks} tasks", number, None)


def _place(number: PaperNumber) -> str:
    table = f"Table {number.table}" if number.table.isdecimal() else number.table.capitalize()
    stored = "" if number.bytes is None else f", {number.bytes:,} bytes"
    return f"{table}: {number.method}{stored}"

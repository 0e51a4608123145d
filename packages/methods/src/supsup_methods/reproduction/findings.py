"""What a target found: rows of ours beside the paper's, figures, and the record of both."""

import json
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from supsup_core.atomic_files import make_folder, replace_file

from supsup_methods.result_records import Summary, installed_versions


@dataclass(frozen=True)
class Row:
    """One number: as the paper has it, and as it was measured, a value for each seed."""

    what: str
    ours: tuple[float, ...]
    unit: str = "%"
    paper: str = ""
    """What the paper says of it; nothing where it says nothing."""
    paper_value: float | None = None
    """That as a number, where it is one to compare with."""
    tolerance: float | None = None
    """How near ours should be to it, in the unit."""

    @property
    def mean(self) -> float:
        """Of all seeds."""
        return statistics.fmean(self.ours)

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.paper_value is None else self.mean - self.paper_value

    @property
    def status(self) -> str:
        """Whether it is as near as it should be: reproduced, deviates, or nothing where there is nothing to be near to."""
        if self.difference is None or self.tolerance is None:
            return ""
        return "reproduced" if abs(self.difference) <= self.tolerance else "deviates"

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None with a single one."""
        return statistics.stdev(self.ours) if len(self.ours) > 1 else None


@dataclass(frozen=True)
class Findings:
    """What one target found."""

    rows: tuple[Row, ...]
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    """By a name that goes into the file's."""
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """More numbers, for the record and the terminal: a mapping for each line."""
    runs: tuple[Summary, ...] = ()
    """That they come from."""
    seconds: float = 0.0
    """Of training and testing, or of whatever else was measured."""
    machine: str = ""
    data: str = ""
    seeds: tuple[int, ...] = ()
    """Of what was measured without a run; those of runs are known."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """That it was measured at, by a name as recipes have one; those of runs are known."""


def findings_of(
    runs: Sequence[Summary],
    rows: Sequence[Row],
    figures: Mapping[str, go.Figure],
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Findings:
    """Return what was found by runs on one machine and data."""
    seconds = sum(sum(run["seconds"].values()) for run in runs)
    return Findings(tuple(rows), figures, tables or {}, tuple(runs), seconds, runs[0]["machine"], runs[0]["data"])


def write_findings(
    folder: Path, target: str, findings: Findings, *, quick: bool, part: Sequence[str] = ()
) -> list[Path]:
    """Write the record of a target and its figures, and return where they are.

    Args:
        folder: of records.
        target: its name.
        findings: what it found.
        quick: whether this is the small version.
        part: in which the record is less than all of the target, such as one row; it enters the file's name.
    """
    make_folder(folder)
    stem = record_stem(folder, target, quick=quick, part=part)
    record = stem.with_name(f"{stem.name}.json")
    replace_file(record, (json.dumps(_record(target, findings, quick), indent=1) + "\n").encode())
    return [record, *write_pages(figure_stems(stem, findings.figures))]


def record_stem(folder: Path, target: str, *, quick: bool, part: Sequence[str] = ()) -> Path:
    """Return where the record of a target, or of a part of it, is, without the file's ending."""
    words = re.findall(r"[a-z0-9]+", " ".join(part).casefold())
    return folder / "-".join([target, *words, *(("quick",) if quick else ())])


def figure_stems(stem: Path, figures: Mapping[str, go.Figure]) -> dict[Path, go.Figure]:
    """Return the figures of a record, or of a figure's panels, by where they are, without the files' endings.

    Args:
        stem: of the record, without the file's ending.
        figures: by their names.
    """
    return {stem.with_name(f"{stem.name}-{name}"): figure for name, figure in figures.items()}


def write_pages(figures: Mapping[Path, go.Figure]) -> list[Path]:
    """Write figures as HTML that needs no network, and return where they are.

    Args:
        figures: by where they go, without the files' endings.
    """
    written = []
    for stem, figure in figures.items():
        page = stem.with_name(f"{stem.name}.html")
        replace_file(page, figure.to_html(include_plotlyjs=True).encode())
        written.append(page)
    return written


def _record(target: str, findings: Findings, quick: bool) -> dict[str, Any]:
    rows = [
        {
            **asdict(row),
            "mean": row.mean,
            "std": row.std,
            "seeds": len(row.ours),
            "difference": row.difference,
            "status": row.status,
        }
        for row in findings.rows
    ]
    first = findings.runs[0] if findings.runs else None
    return {
        "target": target,
        "quick": quick,
        "rows": rows,
        "tables": findings.tables,
        "recipes": sorted({run["recipe"] for run in findings.runs}),
        "seeds": sorted({*findings.seeds, *(run["seed"] for run in findings.runs)}),
        "settings": {**findings.settings, **{run["recipe"]: run["settings"] for run in findings.runs}},
        "data": findings.data,
        "machine": findings.machine,
        "versions": first["versions"] if first else installed_versions(),
        "seconds": findings.seconds,
        "runs": {f"{run['recipe']}-seed-{run['seed']}": sum(run["seconds"].values()) for run in findings.runs},
        "commit": _commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """Return the commit of the working tree that this code lies in, with a + where files differ; None outside of one."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ("git", "-C", str(Path(__file__).parent), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

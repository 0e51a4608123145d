"""The figures of a record, drawn again from the numbers in it."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.reporting.hopfield_figures import distance_bands, recall_against_stored, recovered_accuracy
from supsup_methods.reporting.stream_figures import masks_by_epsilon
from supsup_methods.reporting.table_figures import accuracy_against_bytes, accuracy_against_share, values_beside_paper
from supsup_methods.reproduction.figures_7_and_8 import DISTANCES
from supsup_methods.reproduction.forward_cost import WAYS, overhead_figure, overheads
from supsup_methods.reproduction.ledger import Entry, Section
from supsup_methods.reproduction.paper_numbers import paper_frontier
from supsup_methods.reproduction.tables import table_figure
from supsup_methods.reproduction.vision_rows import curve_of

_CURVE = re.compile(r"(?P<row>.+), (?P<tasks>\d+) tasks")
_SHARE = re.compile(r"γ = (?P<share>[\d.]+)(?:/(?P<of>\d+))?(?:, One-Shot)?: accuracy")
_EPSILON = re.compile(r"ε = 1/(?P<of>\d+): masks allocated")
_TASKS = re.compile(r"for (?P<tasks>\d+) tasks")
_MASKS = re.compile(r"(?P<way>.+): accuracy with the (?P<masks>recovered|right) masks")


@dataclass(frozen=True)
class Drawing:
    """A figure and what it is drawn from.

    Attributes:
        name: letters, digits and hyphens, unlike the others of its section.
        about: what there is to see, in a sentence.
        figure: of plotly.
        rows: its numbers.
        in_percent: columns of them that are; other shares are fractions.
        points: whether it shows no more than a point for each number.
    """

    name: str
    about: str
    figure: go.Figure
    rows: pd.DataFrame
    in_percent: tuple[str, ...] = ()
    points: bool = False


def drawings(section: Section) -> list[Drawing]:
    """Return the figures of what was measured in a section; none where nothing was."""
    measured = [entry for entry in section.entries if entry.ours]
    if not measured:
        return []
    return list(_DRAWN.get(section.name, _values)(section, measured))


def curve_rows(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return what `tables.table_figure` draws: columns `row`, `tasks`, `accuracy` (a line for each seed) and `paper`.

    Args:
        entries: those whose name ends in a number of tasks are taken; each that is not run has the paper's number alone.
    """
    lines = [
        {"row": found["row"], "tasks": int(found["tasks"]), "accuracy": value, "paper": entry.paper_value}
        for entry in entries
        if (found := _CURVE.fullmatch(entry.what))
        for value in (entry.ours or (float("nan"),))
    ]
    return pd.DataFrame(lines, columns=["row", "tasks", "accuracy", "paper"]).astype({"paper": "float64"})


def _curves(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    rows = curve_rows(section.entries if section.name in _TABLES else measured)
    about = (
        f"Accuracy in percent against the number of tasks learned, of each row of {section.name}; the paper's dotted."
        if rows["tasks"].nunique() > 1
        else f"Accuracy in percent of each row of {section.name}, beside the paper's."
    )
    yield Drawing("accuracy", about, table_figure(rows), rows, ("accuracy", "paper"))


def _panels(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    """Draw the curves of each network, whose name each row begins with, in a figure of their own."""
    rows = curve_rows(measured)
    parts = rows["row"].str.split(", ", n=1, expand=True)
    for network, lines in rows.assign(row=parts[1]).groupby(parts[0], sort=False):
        about = f"Accuracy in percent against the number of tasks learned, {network}."
        figure = table_figure(lines)
        yield Drawing(str(network).casefold(), about, figure, lines.reset_index(drop=True), ("accuracy", "paper"))


def _frontier(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    by_name = {entry.what: entry for entry in measured}
    lines = [
        {"row": row, "curve": curve_of(row), "bytes": size, "accuracy": accuracy}
        for what, entry in by_name.items()
        if (row := what.removesuffix(": accuracy")) != what and f"{row}: bytes" in by_name
        for size, accuracy in zip(by_name[f"{row}: bytes"].ours, entry.ours, strict=True)
    ]
    rows = pd.DataFrame(lines, columns=["row", "curve", "bytes", "accuracy"])
    paper = paper_frontier("2") if section.name.endswith("table2") else None
    about = "Accuracy in percent against the bytes of all tasks, of each row" + (
        "; the paper's in grey." if paper is not None else "."
    )
    yield Drawing("frontier", about, accuracy_against_bytes(rows, paper), rows, ("accuracy",))


def _shares(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    rows = pd.DataFrame(
        {
            "share": float(found["share"]) / int(found["of"] or 1),
            "search": "One-Shot" if found["of"] else "Binary" if float(found["share"]) == 0.5 else "",
            "accuracy": value,
        }
        for entry in measured
        if (found := _SHARE.fullmatch(entry.what))
        for value in entry.ours
    )
    about = "Accuracy in percent against the share γ of the tasks that a round keeps."
    yield Drawing("gamma", about, accuracy_against_share(rows), rows, ("accuracy",))


def _epsilon(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    rows = pd.DataFrame(
        {"epsilon": 1 / int(found["of"]), "masks": entry.mean, "tasks": int(tasks["tasks"])}
        for entry in measured
        if (found := _EPSILON.fullmatch(entry.what)) and (tasks := _TASKS.fullmatch(entry.unit))
    ).sort_values("epsilon", ignore_index=True)
    yield Drawing("masks", "Masks allocated against ε, beside the number of true tasks.", masks_by_epsilon(rows), rows)
    yield from _values(section, [entry for entry in measured if entry.unit == "%"])


def _distances(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    rows = pd.DataFrame(section.table(DISTANCES))
    if len(rows):
        about = (
            "Units in which the recovered mask differs from the right one, against the step, by layer, as in the paper."
        )
        yield Drawing("distance", about, distance_bands(rows), rows)
    yield from _values(section, measured)


def _recovered(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    ways: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in measured:
        if found := _MASKS.fullmatch(entry.what):
            ways[found["way"]][found["masks"]] = entry
    for number, (way, both) in enumerate(ways.items(), start=1):
        rows = pd.DataFrame({name: [value / 100 for value in entry.ours] for name, entry in both.items()})
        rows.insert(0, "seed", range(len(rows)))
        figure = recovered_accuracy(rows).update_layout(title_text=way)
        about = f"{way}: accuracy of each seed with the recovered masks and with the right ones."
        yield Drawing(f"seeds-{number}", about, figure, rows)


def _recalls(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    rows = pd.DataFrame(section.table("recalled"))
    if len(rows):
        about = "Share of stored masks that are recalled exactly, against how many are stored for each unit."
        yield Drawing("recall", about, recall_against_stored(rows), rows)
    yield from _values(section, measured)


def _overheads(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    lines = section.table(WAYS)
    if lines:
        rows = overheads(lines)
        about = "What masks add to a plain forward pass, in percent of it, with quartiles of all rounds; the paper's in grey."
        yield Drawing("overhead", about, overhead_figure(rows), rows, ("overhead", "low", "high"))
    yield from _values(section, [entry for entry in measured if entry.unit != "%" or not lines])


def _values(section: Section, measured: Sequence[Entry]) -> Iterator[Drawing]:
    """Draw a point for each number, in a figure for each unit."""
    for number, unit in enumerate(dict.fromkeys(entry.unit for entry in measured), start=1):
        rows = pd.DataFrame(
            {"row": entry.what, "value": value, "paper": entry.paper_value}
            for entry in measured
            if entry.unit == unit
            for value in entry.ours
        ).astype({"paper": "float64"})
        about = f"Each number of {section.name} that is in {unit}, with its standard deviation over seeds."
        yield Drawing(f"values-{number}", about, values_beside_paper(rows, unit), rows.assign(unit=unit), points=True)


_TABLES = frozenset(f"table{number}" for number in range(3, 10))
_DRAWN: Mapping[str, Callable[[Section, Sequence[Entry]], Iterator[Drawing]]] = MappingProxyType(
    {
        **dict.fromkeys(_TABLES, _curves),
        "table2": _frontier,
        "tiny-table2": _frontier,
        "figure11-right": _frontier,
        "tiny-figure11-right": _frontier,
        "figure7": _distances,
        "figure8": _recovered,
        "figure10": _panels,
        "figure11-left": _shares,
        "forward-cost": _overheads,
        "nns-epsilon": _epsilon,
        "reservoir-capacity": _recalls,
    }
)
"""How a target's numbers are drawn; all others are points, a row each."""

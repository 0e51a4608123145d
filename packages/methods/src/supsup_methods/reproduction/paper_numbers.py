"""The numbers that the paper prints (Tables 2 to 9, Figure 2 and Section 4.1), for ours to stand beside."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd


@dataclass(frozen=True)
class PaperNumber:
    """One accuracy of the paper, in percent.

    Attributes:
        table: "3", or "figure 2, left" for numbers of the main text.
        method: as the table calls it.
        scenario: GG, GNu or NNs.
        objective: H, G, or nothing.
        outputs: width of the last layer; None where it is not told.
        tasks: learned so far.
        accuracy_percent: averaged over tasks.
        std_percent: over seeds; None where it is not told.
        bytes: of storage, where the table tells it.
    """

    table: str
    method: str
    scenario: str
    objective: str
    outputs: int | None
    tasks: int
    accuracy_percent: float
    std_percent: float | None
    bytes: int | None


@cache
def paper_numbers() -> tuple[PaperNumber, ...]:
    """Return all of them, in the order of the tables."""
    with (files("supsup_methods.reproduction") / "paper_numbers.csv").open(encoding="utf-8") as file:
        return tuple(_number(line) for line in csv.DictReader(file))


def curve(
    table: str, method: str, objective: str = "", outputs: int | None = None, scenario: str = ""
) -> dict[int, PaperNumber]:
    """Return the row of a table, by the number of tasks learned.

    Args:
        table: of the paper.
        method: as the table calls it.
        objective: where the table has rows for several.
        outputs: where the table has rows for several.
        scenario: where the table has rows for several.
    """
    return {
        number.tasks: number
        for number in paper_numbers()
        if (number.table, number.method) == (table, method)
        and (not objective or number.objective == objective)
        and (outputs is None or number.outputs == outputs)
        and (not scenario or number.scenario == scenario)
    }


def paper_frontier(table: str) -> pd.DataFrame:
    """Return what `table_figures.accuracy_against_bytes` draws behind ours: columns `row` (the method), `bytes`, `accuracy`.

    Args:
        table: of the paper; "2" for SplitCIFAR100, "figure 2, left" for SplitImageNet.
    """
    numbers = [number for number in paper_numbers() if number.table == table and number.bytes is not None]
    return pd.DataFrame(
        {
            "row": [number.method for number in numbers],
            "bytes": [number.bytes for number in numbers],
            "accuracy": [number.accuracy_percent for number in numbers],
        }
    )


def _number(line: Mapping[str, str]) -> PaperNumber:
    return PaperNumber(
        table=line["table"],
        method=line["method"],
        scenario=line["scenario"],
        objective=line["objective"],
        outputs=int(line["outputs"]) if line["outputs"] else None,
        tasks=int(line["tasks"]),
        accuracy_percent=float(line["accuracy_percent"]),
        std_percent=float(line["std_percent"]) if line["std_percent"] else None,
        bytes=int(line["bytes"]) if line["bytes"] else None,
    )

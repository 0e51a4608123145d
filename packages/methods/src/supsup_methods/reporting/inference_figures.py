"""Figures of one guess of the task, from data frames to plotly figures (extra `plots`).

What answers is called by a word, "task" or (in NNs, where masks are no tasks) "mask". The answer is marked by a star and those
that would be right by an open diamond, in every figure.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from supsup_methods.reporting.style import BLUE, GREEN, GREY, SCALE, VERMILION, counted, labelled

MOST_COLUMNS = 30
"""Tasks that a heat map shows; of more, the likeliest."""
_MOST_VALUES_WRITTEN = 12  # in the cells of a heat map
_MOST_TICKS = 8
_MOST_POINTS = 500  # that a browser draws one by one without a pause; more are joined by one line


@dataclass(frozen=True)
class Marked:
    """What stands out in a figure.

    Attributes:
        answer: the task inferred.
        right: those that would be right; none where nobody knows.
        word: for what answers.
    """

    answer: int
    right: Collection[int] = ()
    word: Literal["task", "mask"] = "task"

    def name(self, task: int) -> str:
        """Return a task's label, which says whether it stands out."""
        notes = [note for note, holds in (("answer", task == self.answer), ("true", task in self.right)) if holds]
        return f"{task} ({', '.join(notes)})" if notes else str(task)


def likeliest_tasks(slopes: pd.DataFrame, marked: Marked, most: int = MOST_COLUMNS) -> list[int]:
    """Return the tasks that stayed longest in a search, of equals those of the lowest last slope, in order of their numbers.

    The answer, and the likeliest that would be right, are among them, whatever became of them.

    Args:
        slopes: columns `round`, `task`, `slope`, `left`.
        marked: what stands out.
        most: how many, at least 2.
    """
    last = slopes[slopes["left"]].sort_values("round").groupby("task").tail(1)
    ranked = last.sort_values(["round", "slope"], ascending=[False, True])["task"].tolist()
    musts = [marked.answer, *[task for task in ranked if task in marked.right and task != marked.answer][:1]]
    others = [task for task in ranked if task not in musts]
    return sorted([*musts, *others[: most - len(musts)]])


def beliefs_by_round(beliefs: pd.DataFrame, shown: Collection[int], marked: Marked) -> go.Figure:
    """Draw α of tasks before each round and after the last, on a logarithmic scale; an empty cell is a task that is out.

    Args:
        beliefs: columns `round` (from 1; the last is the answer's), `task`, `belief`.
        shown: tasks to show, such as `likeliest_tasks`; the title says how many others there are.
        marked: what stands out.
    """
    tasks, rounds = sorted(shown), sorted(beliefs["round"].unique())
    table = beliefs[beliefs["task"].isin(tasks)].pivot_table(index="round", columns="task", values="belief")
    table = table.loc[rounds, tasks]
    levels = sorted({value for value in beliefs["belief"] if value > 0})
    ticks = [levels[round(place * (len(levels) - 1) / (_MOST_TICKS - 1))] for place in range(_MOST_TICKS)]
    ticks = sorted(set(ticks))
    few = len(tasks) <= _MOST_VALUES_WRITTEN
    figure = go.Figure(
        go.Heatmap(
            x=[marked.name(task) for task in tasks],
            y=[f"round {number}" for number in rounds[:-1]] + ["answer"],
            z=[[math.log10(value) if value > 0 else None for value in row] for row in table.to_numpy()],
            text=[[_share(value) if value > 0 else "" for value in row] for row in table.to_numpy()],
            texttemplate="%{text}" if few else None,
            hovertemplate=f"{marked.word} %{{x}}, %{{y}}: belief %{{text}}<extra></extra>",
            colorscale=SCALE,
            zmin=math.log10(levels[0]) if len(levels) > 1 else -1,
            zmax=0,
            colorbar={
                "title": {"text": "belief α"},
                "tickvals": [math.log10(each) for each in ticks],
                "ticktext": [_share(each) for each in ticks],
            },
            xgap=1,
            ygap=1,
        )
    )
    hidden = beliefs["task"].nunique() - len(tasks)
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed")
    about = "" if not hidden else f", the {len(tasks)} likeliest; {hidden:,} others are not shown"
    return labelled(figure, f"{marked.word}{about}", "before round")


def slopes_of_tasks(slopes: pd.DataFrame, marked: Marked, objective: Literal["H", "G"] = "H") -> go.Figure:
    """Draw dO/dα of every task in one round: of those left, the lowest stay.

    Of more than 500 tasks those left with the lowest slopes are points, and a line joins the slopes of all.

    Args:
        slopes: columns `task`, `slope`, `left`, of one round.
        marked: what stands out.
        objective: O.
    """
    figure = go.Figure()
    for left, name, colour, symbol in ((False, "out before", GREY, "circle-open"), (True, "left", BLUE, "circle")):
        rows = slopes[slopes["left"] == left]
        if len(rows):
            _all_points(figure, rows, "slope", name, {"color": colour, "symbol": symbol})
    _mark(figure, slopes, "slope", marked)
    labelled(figure, marked.word, f"slope d{objective}/dα, nats for each unit of belief")
    return counted(figure, int(slopes["task"].max()))


def entropy_of_outputs(entropies: pd.DataFrame, marked: Marked, outputs: int) -> go.Figure:
    """Draw the entropy of every task's own output: low where its network is sure (Appendix C, Eq. 15).

    Of more than 500 tasks the lowest are points, and a line joins all.

    Args:
        entropies: columns `task`, `entropy` (nats).
        marked: what stands out.
        outputs: s, of which ln is the highest entropy there is; a line shows it.
    """
    figure = go.Figure()
    _all_points(figure, entropies, "entropy", "entropy", {"color": BLUE})
    _mark(figure, entropies, "entropy", marked)
    figure.add_hline(
        y=math.log(outputs), line_dash="dash", line_color=GREY, annotation_text=f"all equal: ln {outputs:,}"
    )
    labelled(figure, marked.word, "entropy of the output, nats")
    return counted(figure, int(entropies["task"].max())).update_yaxes(rangemode="tozero")


def _all_points(figure: go.Figure, rows: pd.DataFrame, column: str, name: str, marker: Mapping[str, Any]) -> None:
    """Draw every row; of many only the lowest as points, where the decision is made, and all as one line."""
    if len(rows) > _MOST_POINTS:
        line = {"color": marker["color"], "width": 1}
        figure.add_scatter(x=rows["task"], y=rows[column], mode="lines", name=name, line=line, opacity=0.5)
        rows, name = rows.nsmallest(MOST_COLUMNS, column), f"{name}, the {MOST_COLUMNS} lowest"
    _points(figure, rows, column, name, {**marker, "size": 8 if len(rows) <= 100 else 4})


def _points(figure: go.Figure, rows: pd.DataFrame, column: str, name: str, marker: Mapping[str, Any]) -> None:
    figure.add_scatter(x=rows["task"], y=rows[column], mode="markers", name=name, marker=dict(marker), cliponaxis=False)


def _mark(figure: go.Figure, rows: pd.DataFrame, column: str, marked: Marked) -> None:
    """Put the answer and those that would be right on top."""
    right = rows[rows["task"].isin(list(marked.right))]
    if len(right):
        marker = {"color": GREEN, "symbol": "diamond-open", "size": 15, "line": {"width": 3}}
        _points(figure, right, column, f"true {marked.word}", marker)
    answer = rows[rows["task"] == marked.answer]
    _points(figure, answer, column, "answer", {"color": VERMILION, "symbol": "star", "size": 10})


def _share(belief: float) -> str:
    """Return a belief as searches give it, one over the number of candidates."""
    return "1" if belief >= 1 else f"1/{round(1 / belief):,}"

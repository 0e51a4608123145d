"""Tables of which rows are chosen: the choice and the sorting stay when rows come, go or change places."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

_NAMES = "names of rows"
_CHOSEN = "names of chosen rows"


def choose_in_table(
    table: pd.DataFrame,
    names: Sequence[Hashable],
    key: str,
    *,
    mode: Literal["single-row", "multi-row"],
    asked: Iterable[Hashable] | None = None,
    **look: Any,
) -> list[int]:
    """Show a table, and return the places of the rows that are chosen in it.

    The browser knows chosen rows by their places. Where those are others than when the table was drawn last, they are told
    anew, to the same table: another one would forget how it was sorted. A click that is made in the moment before the new rows
    are painted may choose the row that takes the clicked one's place.

    Args:
        table: to show.
        names: of its rows: what a row is known by, whatever its place.
        key: of the table.
        mode: how many may be chosen.
        asked: names that are chosen where a table is drawn that was not there, or has rows that it had not; None for those that
            were chosen last.
        look: more of `st.dataframe`.
    """
    drawn: dict[str, list[Hashable]] = st.session_state.setdefault(_NAMES, {})
    kept: dict[str, list[Hashable]] = st.session_state.setdefault(_CHOSEN, {})
    before = drawn.get(key)
    if key not in st.session_state or before != list(names):
        st.session_state[key] = _selection(names, _wanted(key, before, kept.get(key, []) if asked is None else asked))
        drawn[key] = list(names)
    said = st.dataframe(table, key=key, on_select="rerun", selection_mode=mode, hide_index=True, placeholder="", **look)
    places = [place for place in said.selection.rows if place < len(names)]
    kept[key] = [names[place] for place in places]
    return places


def _wanted(key: str, before: Sequence[Hashable] | None, asked: Iterable[Hashable]) -> set[Hashable]:
    """Return the names to choose: those that are chosen now, by their places of before, and what is asked for of new ones."""
    state: Mapping[str, Any] | None = st.session_state.get(key)
    if state is None or before is None:
        return {*asked}
    chosen = {before[place] for place in state["selection"]["rows"] if place < len(before)}
    return chosen | ({*asked} - {*before})


def _selection(names: Sequence[Hashable], wanted: set[Hashable]) -> dict[str, dict[str, list[int]]]:
    return {"selection": {"rows": [place for place, name in enumerate(names) if name in wanted]}}

"""Moments by the clock of whoever reads them, wherever the machine that keeps them stands."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig


def reader_zone() -> tzinfo:
    """Return the time zone of the reader's browser; UTC where it names none, or none that is known here."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ValueError, ZoneInfoNotFoundError):
        return UTC


def local_time(moment: datetime | None) -> datetime | None:
    """Return a moment as the reader's clock shows it, with its zone."""
    return None if moment is None else moment.astimezone(reader_zone())


def spoken_moment(moment: datetime) -> str:
    """Return a moment to the minute as the reader's clock shows it, and the zone: 2026-11-30 13:36 CET."""
    return f"{moment.astimezone(reader_zone()):%Y-%m-%d %H:%M %Z}"


def moment_column() -> ColumnConfig:
    """Return how a table shows a column of `local_time`: to the minute, its zone named in the column's help."""
    return st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", help=f"Time zone: {reader_zone()}")

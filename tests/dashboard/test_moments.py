"""What a reader in another time zone than the machine sees of the same moment, page by page."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from supsup_dashboard.queueing.jobs import queue

from ..methods.test_run_listing import write_run
from .runs_page import runs_table

ASKED = datetime(2026, 7, 30, 22, 30, tzinfo=UTC)


def spoken_page():
    from datetime import UTC, datetime

    import streamlit as st
    from supsup_dashboard.moments import spoken_moment

    st.caption(spoken_moment(datetime(2026, 7, 30, 22, 30, tzinfo=UTC)))


def pages():
    from supsup_dashboard.pages import launch, reproduction, runs

    for page in (runs, launch, reproduction):
        page.show()


def seen_from(zone, page):
    shown = AppTest.from_function(page, default_timeout=60)
    shown.context["timezone"] = zone
    shown.run()
    assert not shown.exception
    return shown


@pytest.mark.parametrize(
    ("zone", "spoken"),
    [
        ("Europe/Berlin", "2026-07-31 00:30 CEST"),
        ("America/New_York", "2026-07-30 18:30 EDT"),
        (None, "2026-07-30 22:30 UTC"),
        ("Nowhere/Land", "2026-07-30 22:30 UTC"),
        ("/etc/localtime", "2026-07-30 22:30 UTC"),
    ],
)
def test_a_moment_is_told_by_the_readers_clock_and_names_its_zone(zone, spoken):
    assert seen_from(zone, spoken_page).caption[0].value == spoken


def test_all_pages_show_a_moment_in_the_readers_zone(here):
    write_run(here / "runs" / "demo-1", seconds=(2.0,))
    queue().submit(("supsup-reproduce", "table3"), "table 3", Path("table3.json"), "cpu", "token")
    queue().note(1, f"asked = '{ASKED.isoformat()}'", "1")
    page = seen_from("Europe/Berlin", pages)
    asked = [table.value[name] for table in page.dataframe for name in table.value if name.startswith("asked")]
    assert [list(column) for column in asked] == [[ASKED], [ASKED]]
    for column in (*asked, runs_table(page)["begun"]):
        assert str(column.dtype.tz) == "Europe/Berlin"
    assert any("asked for 2026-07-31 00:30 CEST." in caption.value for caption in page.caption)

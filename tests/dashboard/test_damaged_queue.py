"""A queue whose file is damaged: pages say so in one line, and show what they know without it."""

import pytest
from streamlit.testing.v1 import AppTest

from ..methods.test_run_listing import write_run
from .runs_page import runs_table


@pytest.mark.parametrize("page", ["runs", "launch", "reproduction"])
def test_a_damaged_queue_is_told_in_one_line(here, page):
    write_run(here / "runs" / "demo-1", seconds=(2.0,) * 3, checkpoints=[(3, 900, 8)], done=True)
    (here / "runs" / "queue").mkdir()
    (here / "runs" / "queue" / "queue.db").write_text("this was a database, and is none any more")
    script = f"from supsup_dashboard.pages import {page}\n{page}.show()"
    shown = AppTest.from_string(script, default_timeout=60).run()
    assert not shown.exception
    (told,) = shown.error
    assert told.value.startswith("runs/queue/queue.db: the queue cannot be read (file is not a database); try again")
    if page == "runs":
        assert runs_table(shown).loc["demo-1", "state"] == "done"

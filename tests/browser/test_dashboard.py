"""What a user does, in a real browser with real processes: launch, watch, stop, resume, kill, upload, look."""

import io
import os
import shutil
import signal
import time

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import expect
from supsup_methods.evaluation import Checkpoint, TaskScore
from supsup_methods.run_folder import LOCK, Progress, RunFolder
from supsup_methods.run_lock import holder_of
from supsup_methods.run_states import state_of, stop_run

from ..methods.test_run_listing import write_run
from .serving import PAGES, PATIENCE_SECONDS, dashboard, go_to, settle


def launch(page, tasks, batches):
    """Fill in the form for a demo and start it."""
    go_to(page, "Launch")
    page.get_by_role("spinbutton", name="Tasks", exact=True).fill(str(tasks))
    page.keyboard.press("Enter")
    page.get_by_text("Method: supsup").click()
    page.get_by_role("spinbutton", name="Batches", exact=True).fill(str(batches))
    page.keyboard.press("Enter")
    page.get_by_text(f"--tasks {tasks} --method.training.batches {batches}").wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("is in the queue").wait_for()


def until(true):
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def stop_for_good(folder):
    until(lambda: folder.is_active)
    stop_run(folder)
    until(lambda: not folder.is_active)


def test_a_run_is_launched_from_the_form_and_watched_to_its_end(tab, served):
    page = tab()
    launch(page, tasks=2, batches=50)
    folder = RunFolder(served.folder / "runs" / "demo-1")
    until(lambda: folder.is_done)
    page.goto(f"{served.url}?run=demo-1")
    page.get_by_text("done · 2 of 2 tasks learned").wait_for()
    # Of its log, which is there once; while a page is drawn again, what it replaces is there for a moment too.
    expect(page.get_by_text("All 2 tasks, tested after the last one was learned")).to_have_count(
        1, timeout=1000 * PATIENCE_SECONDS
    )
    go_to(page, "Accuracy")
    points = page.locator(".js-plotly-plot").first.evaluate(
        "plot => plot.calcdata.filter(line => line[0].trace.name === 'demo-1').map(line => line.map(point => point.y))"
    )
    (checkpoint,) = folder.progress().checkpoints
    assert points == [[pytest.approx(100 * checkpoint.accuracy)]], "its curve has the accuracy that was measured"
    page.get_by_role("button", name="Numbers as CSV").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Numbers as CSV").first.click()
    numbers = pd.read_csv(download.value.path()).set_index("run")
    assert numbers.loc["demo-1", "accuracy"] == pytest.approx(checkpoint.accuracy), "a fraction, as it is kept"


def test_the_form_is_as_it_was_after_a_look_at_another_page(tab):
    page = tab()
    go_to(page, "Launch")
    page.get_by_role("spinbutton", name="Tasks", exact=True).fill("7")
    page.keyboard.press("Enter")
    page.get_by_text("supsup-train demo --tasks 7 --device").wait_for()
    for _ in range(2):
        go_to(page, "Reproduction")
        go_to(page, "Launch")
        page.get_by_text("supsup-train demo --tasks 7 --device").wait_for()
    assert page.get_by_role("spinbutton", name="Tasks", exact=True).input_value() == "7"


def test_accuracy_follows_a_run_and_says_when_it_is_gone(tab, served):
    folder = write_run(served.folder / "runs" / "demo-1", seconds=(2.0,))
    page = tab("?run=demo-1")
    go_to(page, "Accuracy")
    page.get_by_text("No test of all tasks yet: demo-1").wait_for()
    scores = (TaskScore(0, 10, 9, 1, 1, {0: 1}), TaskScore(1, 10, 6, 1, 1, {1: 1}))
    folder.write_progress(Progress({0: 2.0, 1: 2.0}, [Checkpoint(2, scores, 1.0)], {}))
    page.get_by_test_id("stMetricValue").get_by_text("75.00%").wait_for()
    assert page.locator(".js-plotly-plot").count() >= 2, "the curve, and task by task"
    shutil.rmtree(folder.path)
    page.get_by_text("No run yet").wait_for()


def test_runs_stay_sorted_and_chosen_when_another_one_comes(tab, served):
    for place, name in enumerate(("b", "a", "c")):
        folder = write_run(served.folder / "runs" / name, seconds=(2.0,))
        os.utime(
            folder.path / "recipe.json", (1_700_000_000 + place, 1_700_000_000 + place)
        )  # begun one after the other
    page = tab("?run=a")
    page.get_by_role("heading", name="a", exact=True).wait_for()
    table = page.get_by_test_id("stDataFrame").first

    def shown():
        """Return the rows from the top, each run with whether it is chosen."""
        return table.evaluate(
            "frame => [...frame.querySelectorAll('table tbody tr')].map("
            "row => [row.querySelector('td').textContent, row.getAttribute('aria-selected')])"
        )

    until(lambda: len(shown()) == 3)
    assert [name for name, _ in shown()] == ["c", "a", "b"], "the newest first"

    def is_sorted():
        names = [name for name, _ in shown()]
        return names == sorted(names) or names == sorted(names, reverse=True)

    def is_sorted_by_a_click():
        table.click(
            position={"x": 48, "y": 17}
        )  # on the name of the column; while the table is being painted it goes by it
        end = time.monotonic() + 10
        while not is_sorted() and time.monotonic() < end:
            time.sleep(0.1)
        return is_sorted()

    until(is_sorted_by_a_click)
    write_run(served.folder / "runs" / "aa", seconds=(2.0,))
    until(lambda: len(shown()) == 4)
    assert is_sorted()
    assert dict(shown()) == {"a": "true", "aa": "false", "b": "false", "c": "false"}
    expect(page.get_by_role("heading", name="a", exact=True)).to_have_count(1)


def test_a_run_is_stopped_and_resumed_and_of_two_tabs_one_goes_on_with_it(tab, served):
    page = tab()
    launch(page, tasks=2, batches=1_000_000)
    folder = RunFolder(served.folder / "runs" / "demo-1")
    until(lambda: folder.holds_run)
    page.goto(f"{served.url}?run=demo-1")
    page.get_by_text("running · 0 of 2 tasks learned").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("stopped · 0 of 2 tasks learned").wait_for()
    assert state_of(folder) == "stopped"
    other = tab("?run=demo-1")
    buttons = [each.get_by_role("button", name="Resume", exact=True) for each in (page, other)]
    for button in buttons:
        button.wait_for()
    for button in buttons:
        button.click(no_wait_after=True)
    until(lambda: folder.is_active)
    page.get_by_text("running · 0 of 2 tasks learned").wait_for()
    logs = list((served.folder / "runs" / "queue").glob("job-*.log"))
    assert len(logs) == 2, "the launch and one resumption"
    stop_for_good(folder)


def test_runs_outlive_the_dashboard_and_one_that_is_killed_shows_as_died(browser, tab, served, tmp_path):
    page = tab()
    launch(page, tasks=1, batches=1_000_000)
    folder = RunFolder(served.folder / "runs" / "demo-1")
    until(lambda: folder.holds_run)
    page.close()
    served.stop(signal.SIGKILL)
    assert folder.is_active
    with dashboard(tmp_path) as again:
        later = browser.new_page()
        later.set_default_timeout(1000 * PATIENCE_SECONDS)
        later.goto(f"{again.url}?run=demo-1")
        later.get_by_text("running · 0 of 1 tasks learned").wait_for()
        os.kill(holder_of(folder.path / LOCK).pid, signal.SIGKILL)
        later.get_by_text("died · 0 of 1 tasks learned").wait_for()
        later.get_by_role("button", name="Delete", exact=True).click()
        later.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        until(lambda: not folder.path.exists())
        later.close()


def test_the_question_before_deleting_stays_while_another_run_ends(tab, served):
    write_run(served.folder / "runs" / "demo-1", seconds=(2.0,))
    other = write_run(served.folder / "runs" / "demo-2", seconds=(2.0,))
    with other.locked():
        page = tab("?run=demo-1")
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_text("Delete demo-1? What was learned is lost").wait_for()
    time.sleep(6)  # three looks at the runs, which now go on no more
    page.get_by_role("dialog").get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("dialog").wait_for(state="detached")
    assert {entry.name for entry in (served.folder / "runs").glob("demo-*")} == {"demo-1", "demo-2"}


def uploaded(page, name, content):
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def test_a_bad_upload_is_refused_in_a_line_and_a_good_one_answered(tab, small_run, served):
    page = tab("?run=demo-1")
    go_to(page, "Task inference")
    page.get_by_text("True task", exact=True).wait_for()
    page.get_by_text("Uploaded", exact=True).click()
    page.locator("input[type=file]").wait_for(state="attached")
    uploaded(page, "evil.png", b"<script>alert(1)</script>" * 100)
    page.get_by_text("Upload: neither PNG nor JPEG by its content").wait_for()
    assert page.locator("[data-testid=stException]").count() == 0
    digit = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).save(digit, "PNG")
    uploaded(page, "digit.png", digit.getvalue())
    page.get_by_text("Shown as task").wait_for()
    settle(page)
    assert page.locator("[data-testid=stException]").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_opens_without_a_complaint(tab, small_run, theme):
    page = tab("?run=demo-1", color_scheme=theme)
    for name in (*PAGES[1:], PAGES[0]):
        go_to(page, name)
        assert page.locator("[data-testid=stException]").count() == 0, name
        assert page.locator("[data-testid=stAlertContentError]").count() == 0, name
    background = page.locator("[data-testid=stApp]").evaluate("app => getComputedStyle(app).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")[:3])
    assert (brightness > 600) == (theme == "light")


def test_the_run_that_was_chosen_stays_chosen_on_the_way_to_other_pages(tab, small_run, served):
    shutil.copytree(small_run, small_run.with_name("demo-2"))
    os.utime(small_run.with_name("demo-2") / "recipe.json")
    page = tab("?run=demo-1")
    for name in ("Task inference", "Accuracy", "Masks"):
        go_to(page, name)
        assert page.url.endswith("?run=demo-1"), name
    fresh = tab()
    go_to(fresh, "Masks")
    assert fresh.url.endswith("?run=demo-2"), "the newest, where none was chosen"


def test_every_page_says_what_to_do_where_there_is_no_run(tab):
    page = tab()
    for name in PAGES:
        go_to(page, name)
        assert page.locator("[data-testid=stException]").count() == 0, name
        if name not in ("Launch", "Reproduction"):
            page.get_by_text("No run yet").first.wait_for()

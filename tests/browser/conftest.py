import subprocess
import sys

import pytest

from .serving import PATIENCE_SECONDS, chromium, dashboard, watched


@pytest.fixture(scope="session")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def served(tmp_path):
    """A dashboard over an empty folder."""
    with dashboard(tmp_path) as running:
        yield running


@pytest.fixture
def tab(browser, served):
    """Open tabs of the dashboard; an error in the console of one of them fails the test."""
    contexts, complaints = [], []

    def opened(address="", **options):
        contexts.append(browser.new_context(viewport={"width": 1366, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
        complaints.append(watched(page))
        page.goto(served.url + address)
        page.get_by_role("heading", name="Runs", exact=True).wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()  # before the server: a page that loses it complains
    assert [each for page in complaints for each in page] == []


@pytest.fixture
def small_run(tmp_path):
    """A run of two tasks that was made in a terminal: runs/demo-1."""
    command = ("demo", "--tasks", "2", "--method.training.batches", "60", "--device", "cpu")
    subprocess.run(
        [sys.executable, "-m", "supsup_methods.commands.train", *command], cwd=tmp_path, check=True, capture_output=True
    )
    return tmp_path / "runs" / "demo-1"

"""A dashboard as users have it: its own process, in a folder of its own, and a real browser that looks at it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180  # for what takes seconds on an idle machine
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGES = ("Runs", "Launch", "Accuracy", "Task inference", "Masks", "Bytes", "Reproduction")


@dataclass
class Dashboard:
    """A server in a folder."""

    folder: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "apps" / "dashboard.py")]
        environment = {name: value for name, value in os.environ.items() if name != "SUPSUP_DATA_ROOT"}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--server.headless", "true", "--server.port", str(self.port)],
                cwd=self.folder,
                env={**environment, **self.variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < end, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def stop(self, way: signal.Signals = signal.SIGTERM) -> None:
        """End it and leave all else alone."""
        if self.process is not None:
            self.process.send_signal(way)
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}_stcore/health", timeout=5) as answer:  # noqa: S310
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def dashboard(folder: Path, **variables: str) -> Iterator[Dashboard]:
    """Serve a folder while the context lasts."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    served = Dashboard(folder, port, variables)
    served.start()
    try:
        yield served
    finally:
        served.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open the system's Chromium."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    assert program is not None, "a Chromium is needed to look at pages; install one: apt-get install chromium"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()


def watched(page: Page) -> list[str]:
    """Return a list that takes whatever the page complains of in the browser's console."""
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(f"{said.text} {said.location}") if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


def go_to(page: Page, name: str) -> None:
    """Go to a page by its link, and wait until all of it is there."""
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_role("heading", name=name, exact=True).first.wait_for(timeout=1000 * PATIENCE_SECONDS)
    settle(page)


def settle(page: Page) -> None:
    """Wait until the page's script has rested for a while: a widget that appears may have it run once more."""
    page.evaluate(_RESTED)


_RESTED = """() => new Promise(resolve => {
  let since = performance.now();
  const look = () => {
    const running = document.querySelector('[data-testid=stApp]')?.dataset.testScriptState !== 'notRunning';
    if (running) since = performance.now();
    if (performance.now() - since > 700) resolve(); else setTimeout(look, 50);
  };
  look();
})"""

"""Pictures of every page into docs/, in both themes: `make screenshots`.

The runs that they show are made for them, in a minute: a demo of ten tasks, one of its tasks watched, and a HopSupSup run. The
reproduction's records are those of this repository.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from .serving import PAGES, PATIENCE_SECONDS, ROOT, chromium, dashboard, go_to, settle

_TO = ROOT / "docs" / "dashboard"
_SIZE = {"width": 1366, "height": 900}
_COMMANDS = (
    ("train", "figure7-hopsupsup", "--tasks", "3", "--out", "runs/hopsupsup-1"),
    ("train", "demo", "--out", "runs/demo-1", "--evaluation.checkpoints", "2", "4", "6", "8"),
    ("evaluate", "runs/demo-1", "--watch-task", "3"),
)
_SCROLLED = {"Task inference": "One guess", "Masks": "A mask in training"}
"""What stands at the top of the picture, where that is not the title."""


def main() -> None:
    """Make the runs, open every page in both themes, and write the pictures."""
    _TO.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(ROOT / "reproduction" / "records", folder / "reproduction" / "records")
        for command, *arguments in _COMMANDS:
            module = f"supsup_methods.commands.{command}"
            subprocess.run([sys.executable, "-P", "-m", module, *arguments], cwd=folder, check=True)
        with dashboard(folder) as served, chromium() as browser:
            for theme in ("light", "dark"):
                page = browser.new_page(viewport=_SIZE, color_scheme=theme)
                page.set_default_timeout(1000 * PATIENCE_SECONDS)
                page.goto(f"{served.url}?run=demo-1")
                page.get_by_role("heading", name="Runs", exact=True).wait_for()
                for name in (*PAGES[1:], PAGES[0]):
                    go_to(page, name)
                    _take(page, name, theme)
                page.close()


def _take(page: Page, name: str, theme: str) -> None:
    if name in _SCROLLED:
        page.get_by_text(_SCROLLED[name]).first.evaluate("element => element.scrollIntoView()")
    settle(page)
    page.screenshot(path=_TO / f"{name.lower().replace(' ', '-')}-{theme}.png")


if __name__ == "__main__":
    main()

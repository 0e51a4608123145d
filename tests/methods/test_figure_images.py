import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import plotly.graph_objects as go
import pytest
from choreographer.browsers.chromium import Chromium
from supsup_methods.reporting.images import NoImages, write_all_images, write_images

needs_chromium = pytest.mark.skipif(
    Chromium.find_browser(skip_local=False) is None, reason="no Chromium on this machine"
)
FIGURE = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))


@needs_chromium
def test_a_figure_is_written_as_png_and_svg(tmp_path):
    """In a process of its own: kaleido leaves a thread's event loop to the collector, which is no business of this test."""
    script = (
        "import sys; from pathlib import Path; import plotly.graph_objects as go\n"
        "from supsup_methods.reporting.images import write_images\n"
        "print(write_images(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])), Path(sys.argv[1])))"
    )
    stem = tmp_path / "ε = 1.5 figure"
    done = subprocess.run([sys.executable, "-c", script, str(stem)], capture_output=True, text=True, check=True)
    png, svg = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    assert done.stdout.strip() == str([png, svg])
    content = png.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", content[16:24]) == (2000, 1200)
    assert ET.fromstring(svg.read_text()).attrib["width"] == "1000"  # noqa: S314


def test_without_a_chromium_there_is_a_reason_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)
    assert write_images(FIGURE, tmp_path / "figure") == NoImages("no Chromium found; install one")
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_is_named_and_not_there_is_named_again(tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    found = write_images(FIGURE, tmp_path / "figure")
    assert isinstance(found, NoImages)
    assert "no Chromium at BROWSER_PATH=/nowhere/chromium; correct it" in found.reason


def test_a_browser_that_does_not_start_is_a_reason_too(tmp_path):
    script = (
        "from pathlib import Path; import plotly.graph_objects as go\n"
        "from supsup_methods.reporting.images import write_images\n"
        f"print(write_images(go.Figure(), Path({str(tmp_path / 'figure')!r})).reason)"
    )
    environment = {"BROWSER_PATH": "/bin/false", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("Chromium was found and drew nothing")
    assert len(done.stdout.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_figure_needs_no_browser(monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    assert write_all_images({}) == []
    assert write_all_images(dict[Path, go.Figure]()) == []

"""The dashboard as somebody starts it for the first time, at a terminal of a desktop."""

import os
import pty
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180  # for what takes seconds on an idle machine


def test_the_first_start_on_a_desktop_asks_nothing(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(ROOT / "apps" / "dashboard.py"), "--server.port", port],
        cwd=tmp_path,
        # A new user, on a desktop whose browser does nothing.
        env={**os.environ, "HOME": str(tmp_path), "DISPLAY": ":0", "BROWSER": "true"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    try:
        said, end = b"", time.monotonic() + PATIENCE_SECONDS
        while b"You can now view your Streamlit app" not in said:
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 4096)
            assert b"email address" not in said
            assert process.poll() is None, said
            assert time.monotonic() < end, said
    finally:
        process.terminate()
        process.wait()
        os.close(theirs)
        os.close(ours)

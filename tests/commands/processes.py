"""supsup-train as a real process, at a size that takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

SMALL = ("--tasks", "3", "--method.training.batches", "12")
COMMAND = (sys.executable, "-c", "from supsup_methods.commands.train import main; main()")


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process: one thread each, as tests share the machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def train(*options: str, cwd: Path, **keywords) -> subprocess.CompletedProcess[str]:
    keywords.setdefault("env", environment())
    return subprocess.run([*COMMAND, *options], cwd=cwd, capture_output=True, text=True, timeout=300, **keywords)

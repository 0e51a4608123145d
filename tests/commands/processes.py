"""supsup-train as a real process, at a size that takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

SMALL = ("--tasks", "3", "--method.training.batches", "12")
COMMAND = (sys.executable, "-c", "from supsup_methods.commands.train import main; main()")
# A loaded machine takes its time to start MLflow, for which users are not kept waiting.
PATIENT = (sys.executable, "-c", "from supsup_methods import tracker; tracker._PATIENCE_SECONDS = 300; " + COMMAND[-1])
UNTRACKED = "--no-tracking"  # MLflow takes each run seconds to start


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process: one thread each, as tests share the machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def train(*options: str, cwd: Path, tracked: bool = False, **keywords) -> subprocess.CompletedProcess[str]:
    keywords.setdefault("env", environment())
    command = [*PATIENT, *options] if tracked else [*COMMAND, *options, UNTRACKED]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **keywords)

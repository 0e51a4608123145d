"""How a run stands, judged by what cannot lie: its results, its lock, and the note that its process left."""

import os
import signal
import socket
from typing import Literal, TypeAlias

from supsup_methods.errors import UsageError
from supsup_methods.run_folder import LOCK, RunFolder
from supsup_methods.run_lock import holder_of, was_stopped

RunState: TypeAlias = Literal["running", "done", "stopped", "failed", "died"]
"""`running`: a living process works on it. `done`: its results are there. `stopped`: somebody pressed Ctrl-C, or a dashboard's
button. `failed`: its process ended with an error (`why_failed`). `died`: its process was killed, or its machine stopped."""


def state_of(folder: RunFolder) -> RunState:
    """Return how a run stands."""
    if folder.is_active:
        return "running"
    if folder.is_done:
        return "done"
    last = holder_of(folder.path / LOCK)
    if last is None or was_stopped(last) or last.ended == "finished":
        return "stopped"
    return "failed" if last.ended else "died"


def why_failed(folder: RunFolder) -> str:
    """Return the error that ended a failed run, in a line; nothing where it ended otherwise."""
    last = holder_of(folder.path / LOCK)
    return last.ended if last is not None and state_of(folder) == "failed" else ""


def stop_run(folder: RunFolder) -> bool:
    """Ask the process that works on a run to stop, as Ctrl-C does, and tell whether there was one.

    What is finished is kept, and the run goes on with `supsup-train --resume --out`.

    Raises:
        UsageError: the process is on another machine, or another user's.
    """
    holder = holder_of(folder.path / LOCK)
    if holder is None or not folder.is_active:
        return False
    if holder.host != socket.gethostname():
        raise UsageError(f"{folder.path}: its process runs on {holder.host}; stop it there")
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise UsageError(f"{folder.path}: its process {holder.pid} is another user's; ask them to stop it") from None
    return True

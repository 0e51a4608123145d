"""The lock of a run: held by the one process that works on it, and afterwards the note of how that process ended.

The kernel lets go of it when the process ends, however that comes. A process that ends by itself notes how before; so a lock
that nobody holds, with a note that tells of no end, was a process that died.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from supsup_methods.errors import UsageError

_ATTEMPTS = 10
_NOTE_BYTES = 1024  # always as many, so that the last note needs no more space than the first
_MESSAGE_CHARACTERS = 300
_MESSAGE_BYTES = 600  # of an error as it is noted, where a character takes up to twelve
_STOPPED = "stopped"


@dataclass(frozen=True)
class Holder:
    """The process that holds a run's lock, or held it last."""

    pid: int
    host: str
    ended: str = ""
    """Nothing while it works, or where it died; else finished, stopped, or what went wrong."""


@contextmanager
def holding(path: Path, run: Path) -> Iterator[None]:
    """Hold the lock while the context lasts, and note how it ends.

    Args:
        path: of the lock.
        run: that is locked, for the message.

    Raises:
        UsageError: another process holds it.
    """
    with open(path, "ab") as file:
        _acquire(file, run)
        holder = Holder(os.getpid(), socket.gethostname())
        _note(path, holder)
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(OSError):  # the error itself says more than a note that cannot be written
                _note(path, replace(holder, ended=_described(error)))
            raise
        _note(path, replace(holder, ended="finished"))


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lock or held it last; None where nobody did, or only a version that left no note."""
    try:
        return Holder(**json.loads(path.read_bytes()[:_NOTE_BYTES]))
    except (OSError, ValueError, TypeError):
        return None


def was_stopped(holder: Holder) -> bool:
    """Tell whether the process ended because it was asked to."""
    return holder.ended == _STOPPED


def _acquire(file: BinaryIO, run: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == _ATTEMPTS - 1:
                raise UsageError(
                    f"--out {run}: another process works on this run; wait for it, or stop it first"
                ) from None
            time.sleep(0.1)  # whoever only looks whether the lock is held, holds it for a moment


def _described(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return _STOPPED
    message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_MESSAGE_CHARACTERS]
    while len(json.dumps(message)) > _MESSAGE_BYTES:
        message = message[:-1]
    return message


def _note(path: Path, holder: Holder) -> None:
    from supsup_core.atomic_files import naming  # here and not above: who only looks at locks needs no torch

    # One write over the note before it: whoever reads it now finds either.
    with naming(path), open(path, "r+b") as file:
        file.write(json.dumps(asdict(holder), ensure_ascii=True).ljust(_NOTE_BYTES).encode())

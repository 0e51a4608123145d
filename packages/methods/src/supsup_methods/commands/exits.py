"""How a command ends: 0 done, 1 where a process that trains was lost, 2 bad input in one line, 130 after Ctrl-C.

Imports nothing heavy, so it guards imports too.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOST_PROCESS = 1
BAD_INPUT = 2
INTERRUPTED = 130


class Interrupted(Exception):
    """Ctrl-C, with what the user should know: what was kept and how to go on."""


def guarded(command: Callable[[list[str]], None], argv: list[str]) -> int:
    """Run a command and return its exit status, with what a user can mend told in one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # it is None where whoever started the command closed it
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a sign shows another
    try:
        with _no_interrupt_lost():
            command(argv)
    except KeyboardInterrupt:
        return _say("stopped before the run began", INTERRUPTED)
    except Interrupted as stop:
        return _say(str(stop), INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read stdout went away
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _say(
            f"error: {place}{error.strerror or error}; free space, check permissions, or choose another place",
            BAD_INPUT,
        )
    except Exception as error:
        return _bad_input_or_bug(error)
    return 0


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Interrupt again where Python drops a KeyboardInterrupt, as it does in a destructor and in a weak reference's callback.

    Each import of a module ends with such a callback, and a command's first seconds are imports.
    """
    report = sys.unraisablehook

    def interrupt_again(dropped: "sys.UnraisableHookArgs") -> None:
        answered = (
            each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is signal.default_int_handler
        )
        number = next(answered, None)
        if number is None or not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)
            return
        main = threading.main_thread().ident or 0
        later = threading.Timer(0.05, signal.pthread_kill, (main, number))  # when what dropped it is over
        later.daemon = True
        later.start()

    sys.unraisablehook = interrupt_again
    try:
        yield
    finally:
        sys.unraisablehook = report


def _bad_input_or_bug(error: Exception) -> int:
    """Say what a user can mend; a bug keeps its traceback."""
    import torch
    from supsup_core.errors import SupsupError
    from supsup_datasets.errors import DatasetError

    from supsup_methods.errors import UsageError, WorkerLost

    if isinstance(error, (UsageError, DatasetError, SupsupError)):
        return _say(f"error: {error}", BAD_INPUT)
    if isinstance(error, torch.OutOfMemoryError):
        return _say(
            f"error: {'. '.join(str(error).split('. ')[:2])}; what was finished is kept; free memory on the GPU and go on, a run "
            "with --resume, or begin with less at once (--tasks-at-once, --method.training.batch-size) or --device cpu",
            BAD_INPUT,
        )
    if isinstance(error, WorkerLost):
        return _say(f"error: {error}", LOST_PROCESS)
    raise error


def _say(line: str, status: int) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return status

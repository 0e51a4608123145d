"""supsup-train: learn a stream of tasks, test it, keep everything."""

import os
import signal
import sys

from supsup_methods.commands.exits import guarded


def main() -> None:
    """Run the command and exit."""
    # Between two small operations torch's threads spin, for some milliseconds by default. Where another process has one of the
    # cores, each of thousands of operations then waits for a thread that cannot run: on two cores a training step took 200 ms
    # in place of 3.5. After 5,000 turns they sleep: 12 ms there, and 4 on an idle machine. Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever asks a run to end gets the answer of Ctrl-C
    sys.exit(guarded(_train, sys.argv[1:]))


def _train(argv: list[str]) -> None:
    # Imported here, so that Ctrl-C during the seconds that torch takes to import is answered like any other.
    from rich.console import Console

    from supsup_methods.commands.launch import parse_launch
    from supsup_methods.commands.session import run_launch

    run_launch(parse_launch(argv), Console(highlight=False))


if __name__ == "__main__":
    main()

"""supsup-eval: ask a run that has learned how else the task of test images could be found, without training."""

import os
import signal
import sys

from supsup_methods.commands.exits import guarded


def main() -> None:
    """Run the command and exit."""
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as in `commands.train`
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as there too
    sys.exit(guarded(_evaluate, sys.argv[1:]))


def _evaluate(argv: list[str]) -> None:
    # Imported here, so that Ctrl-C during the seconds that torch takes to import is answered like any other.
    from supsup_methods.commands.questions import ask, parse_question

    ask(parse_question(argv))


if __name__ == "__main__":
    main()

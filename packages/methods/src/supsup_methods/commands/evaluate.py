"""supsup-eval: ask a run that has learned how else the task of test images could be found, without training."""

import os
import sys

from supsup_methods.commands.exits import Interrupted, guarded


def main() -> None:
    """Run the command and exit."""
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as in `commands.train`
    sys.exit(guarded(_evaluate, sys.argv[1:]))


def _evaluate(argv: list[str]) -> None:
    # Imported here, so that Ctrl-C during the seconds that torch takes to import is answered like any other.
    from supsup_methods.commands.questions import ask, parse_question

    question = parse_question(argv)
    try:
        ask(question)
    except KeyboardInterrupt:
        raise Interrupted("stopped; nothing was written") from None


if __name__ == "__main__":
    main()

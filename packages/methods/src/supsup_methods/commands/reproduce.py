"""supsup-reproduce: run what a table or figure of the paper needs, and set ours beside the paper's."""

import os
import shlex
import signal
import sys

from supsup_methods.commands.exits import guarded


def main() -> None:
    """Run the command and exit."""
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as in `commands.train`
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(guarded(_reproduce, sys.argv[1:]))


def _reproduce(argv: list[str]) -> None:
    # Imported here, so that Ctrl-C during the seconds that torch takes to import is answered like any other.
    from supsup_methods.commands.reproduction_requests import parse_request, reproduce

    reproduce(parse_request(argv), shlex.join(argv))


if __name__ == "__main__":
    main()

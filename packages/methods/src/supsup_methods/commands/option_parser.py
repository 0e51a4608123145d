"""Options by tyro, whose boxed messages become one line."""

import contextlib
import io
import re
from typing import TypeVar

import tyro

from supsup_methods.errors import UsageError

_Parsed = TypeVar("_Parsed")


def parse_options(
    kind: type[_Parsed], options: list[str], *, prog: str, usage: str | None = None, default: _Parsed | None = None
) -> _Parsed:
    """Return a dataclass with the fields that the options name.

    Args:
        kind: the dataclass.
        options: from the command line.
        prog: name of the command.
        usage: how the help shows the command, if otherwise.
        default: where unnamed fields come from, if not from the class.

    Raises:
        UsageError: an option or value is not understood.
        SystemExit: help was asked for, and given.
    """
    boxes = io.StringIO()
    config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    try:
        with contextlib.redirect_stderr(boxes):
            if default is None:
                return tyro.cli(kind, prog=usage or prog, args=options, config=config)
            return tyro.cli(kind, prog=usage or prog, args=options, default=default, config=config)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_one_line(boxes.getvalue(), prog)) from None


def _one_line(box: str, prog: str) -> str:
    """Return the gist of tyro's message: what was given and what it should have been."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]+", " ", box).split())
    number = re.search(r"Error parsing (--[^\s:]+):? .*?(int|float).*?: '([^']*)'", text)
    if number is not None:
        option, kind, given = number.groups()
        return f"{option} {given}: it should be a {'whole number' if kind == 'int' else 'number'}; choose another value"
    choice = re.search(r"[Ii]nvalid choice '([^']*)' for argument '(--[^\s']+)'\. Expected one of \(([^)]*)\)", text)
    if choice is not None:
        given, option, known = choice.groups()
        known = ", ".join(sorted({each.strip("' ") for each in known.split(",")} - {"", "None"}))
        if option.endswith("kind"):
            return f"{option} {given}: the recipe decides it, and has {known}; choose another recipe"
        return f"{option} {given}: it should be one of {known}; choose another value"
    text = re.sub(r"^(Parsing error|Value error|Unrecognized options|Required options)\s*", "", text)
    text = re.split(r"For full helptext|Similar options|Perhaps you meant|Argument helptext", text)[0].strip(" .;")
    return f"{text}; {prog} --help lists all options"

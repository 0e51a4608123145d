"""A run as the command that starts it, argument by argument: nothing here ever becomes a line for a shell to read."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from supsup_methods.experiment import Recipe


def train_command(
    default: Recipe,
    recipe: Recipe,
    *,
    device: str,
    out: Path | None,
    data_root: Path | None = None,
) -> tuple[str, ...]:
    """Return the command of a run: the name of a recipe, and an option for each field that differs from it.

    Args:
        default: the recipe as it is known by its name.
        recipe: the same with other values, of the same kinds of stream, backbone, method and search.
        device: as `--device` takes it.
        out: folder of the run; None for the next free one.
        data_root: of full data.
    """
    command = ["supsup-train", default.name, *_differences(default, recipe, "-")]
    for name, value in (("device", device), ("data-root", data_root), ("out", out)):
        if value is not None:
            command += [f"--{name}", str(value)]
    return tuple(command)


def as_typed(command: tuple[str, ...]) -> str:
    """Return a command as one types it in the folder of the project."""
    return " ".join(("poetry", "run", *(quote(word) for word in command)))


def _differences(default: Any, changed: Any, prefix: str) -> Iterator[str]:
    """Yield the options that turn one dataclass into another of the same shape."""
    for each in fields(default):
        before, after = getattr(default, each.name), getattr(changed, each.name)
        option = f"{prefix}{'-' if prefix == '-' else '.'}{each.name.replace('_', '-')}"
        if is_dataclass(before):
            yield from _differences(before, after, option)
        elif before != after:
            yield from _option(option, before, after)


def _option(option: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(after, bool):  # a flag says the opposite of its default
        head, _, name = option.rpartition(".")
        yield option if after else f"{head}.no-{name}"
    elif isinstance(after, tuple):
        yield option
        yield from (str(value) for value in after)
    else:
        yield option
        yield str(after)

"""Methods and recipes of other packages.

They name them as entry points, in the pyproject.toml of such a package:

```toml
[project.entry-points."supsup.methods"]
nearest-mean = "my_package.nearest_mean:KIND"       # a continual_method.MethodKind

[project.entry-points."supsup.recipes"]
nearest-mean = "my_package.recipes:RECIPES"         # a tuple of experiment.Recipe
```

Where the package is installed, they are known to every command, the dashboard, `registry.KINDS` and `recipes.RECIPES`. A
method's module is imported before there are recipes, so it imports nothing from `supsup_methods.experiment`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from supsup_methods.errors import UsageError

METHODS, RECIPES = "supsup.methods", "supsup.recipes"


@dataclass(frozen=True)
class PluggedIn:
    """What an entry point names, and whose it is.

    Attributes:
        origin: of the entry point, for messages.
        value: what it names.
    """

    origin: str
    value: Any


def plugged_in(group: str) -> Iterator[PluggedIn]:
    """Yield what the entry points of a group name, by their names.

    Raises:
        UsageError: one of them cannot be imported.
    """
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        origin = f"{_package(entry)}: {group} {entry.name} = {entry.value}"
        try:
            value = entry.load()
        except Exception as error:
            raise UsageError(
                f"{origin}: it cannot be imported ({type(error).__name__}: {error}); mend it, or uninstall the package"
            ) from error
        yield PluggedIn(origin, value)


def versions() -> dict[str, str]:
    """Return the version of each package that has such entry points."""
    entries = [*entry_points(group=METHODS), *entry_points(group=RECIPES)]
    return {entry.dist.name: entry.dist.version for entry in entries if entry.dist is not None}


def _package(entry: EntryPoint) -> str:
    return "a package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"

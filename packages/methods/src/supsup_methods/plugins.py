"""Methods and recipes of other packages.

They name them as entry points, in the pyproject.toml of such a package:

```toml
[project.entry-points."supsup.methods"]
nearest-mean = "my_package.nearest_mean:KIND"       # a continual_method.MethodKind

[project.entry-points."supsup.recipes"]
nearest-mean = "my_package.recipes:RECIPES"         # a tuple of experiment.Recipe
```

Where the package is installed, they are known to every command, the dashboard, `registry.KINDS` and `recipes.RECIPES`. A
method's module is imported before there are recipes, so it imports nothing that knows them, `supsup_methods.experiment` for
example; recipes are in a module of their own, which may change ours: `replace(RECIPES["demo"], method=...)`. A method's settings
are a dataclass with a default for each field, whose `kind: Literal["..."]` is its name, and whose `training` has `batch_size` and
`steps`, as `training_length.TrainingLength` has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from supsup_methods.errors import UsageError

METHODS, RECIPES = "supsup.methods", "supsup.recipes"


@dataclass(frozen=True)
class PluggedIn:
    """What an entry point names, and whose it is.

    Attributes:
        package: whose it is.
        origin: of the entry point, for messages.
        value: what it names.
    """

    package: str
    origin: str
    value: Any


def plugged_in(group: str) -> Iterator[PluggedIn]:
    """Yield what the entry points of a group name, by their names.

    Raises:
        UsageError: one of them cannot be imported.
    """
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        package, version = ("a package", "") if entry.dist is None else (entry.dist.name, entry.dist.version)
        origin = f"{package} {version}: {group} {entry.name} = {entry.value}"
        try:
            value = entry.load()
        except Exception as error:
            way_out = "mend it, or uninstall the package"
            if "circular import" in str(error) or "partially initialized" in str(error):
                way_out = (
                    "a method's module is imported before there are recipes, and has to leave all that knows recipes, "
                    "supsup_methods.experiment for example, to another module"
                )
            raise UsageError(f"{origin}: it cannot be imported ({type(error).__name__}: {error}); {way_out}") from error
        yield PluggedIn(package, origin, value)


def versions() -> dict[str, str]:
    """Return the version of each package that has such entry points."""
    entries = [*entry_points(group=METHODS), *entry_points(group=RECIPES)]
    return {entry.dist.name: entry.dist.version for entry in entries if entry.dist is not None}

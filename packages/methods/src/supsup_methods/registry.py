"""Every method, in one place: what is registered here has recipes, runs, commands and the contract suite.

Methods of other packages come by their entry points (`plugins`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args, get_type_hints

from supsup_methods import (
    batch_ensemble,
    hopsupsup,
    lower_bound,
    psp,
    separate_heads,
    supsup,
    supsup_unknown_tasks,
    upper_bound,
)
from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.bounds import ByKind
from supsup_methods.continual_method import MethodKind
from supsup_methods.errors import UsageError
from supsup_methods.hopsupsup import HopSupSupSettings
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.plugins import METHODS, PluggedIn, plugged_in
from supsup_methods.psp import PspSettings
from supsup_methods.separate_heads import SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.task_guessing import TaskInference
from supsup_methods.training_length import Length
from supsup_methods.upper_bound import UpperBoundSettings

_OURS: tuple[MethodKind[Any], ...] = (
    supsup.KIND,
    supsup_unknown_tasks.KIND,
    hopsupsup.KIND,
    batch_ensemble.KIND,
    psp.KIND,
    separate_heads.KIND,
    upper_bound.KIND,
    lower_bound.KIND,
)


def _plugged_in() -> Iterator[tuple[PluggedIn, MethodKind[Any]]]:
    """Yield the methods of other packages.

    Raises:
        UsageError: an entry point names no method, one whose settings cannot be part of a recipe, or one whose name is taken.
    """
    names = {kind.settings().kind for kind in _OURS}
    for plugin in plugged_in(METHODS):
        if not isinstance(plugin.value, MethodKind):
            raise UsageError(f"{plugin.origin}: it is a {type(plugin.value).__name__}; name a MethodKind")
        fault = _fault(plugin.value.settings)
        if fault is not None:
            raise UsageError(f"{plugin.origin}: its settings {fault}")
        name = plugin.value.settings().kind
        if name in names:
            raise UsageError(f"{plugin.origin}: there is a method {name}; choose another kind for its settings")
        names.add(name)
        yield plugin, plugin.value


def _fault(settings: type[Any]) -> str | None:
    """Return why a type cannot be a method's settings, as the end of a sentence, and the way out; None if it can."""
    if not is_dataclass(settings):
        return "are no dataclass; make them one"
    required = [each.name for each in fields(settings) if each.default is MISSING and each.default_factory is MISSING]
    if required:
        return f"have no default for {required[0]}; give it one"
    example = settings()
    try:
        kind = get_type_hints(settings).get("kind")
    except Exception as error:
        return f"have types that mean nothing ({type(error).__name__}: {error}); import what they name"
    if get_args(kind) != (getattr(example, "kind", None),):
        return 'have no name; give them a field kind: Literal["..."] = "..."'
    if not isinstance(getattr(example, "training", None), Length):
        return "do not say how long a task is trained; give them a field training, a training_length.TrainingLength for example"
    return None


_THEIRS = tuple(_plugged_in())
_KINDS = (*_OURS, *(kind for _, kind in _THEIRS))
PACKAGES: Mapping[type[Any], str] = MappingProxyType({kind.settings: plugin.package for plugin, kind in _THEIRS})
"""The package of each method that is not ours, by the type of its settings."""

if TYPE_CHECKING:
    MethodSettings: TypeAlias = (
        SupSupSettings
        | UnknownTasksSettings
        | HopSupSupSettings
        | BatchESettings
        | PspSettings
        | SeparateHeadsSettings
        | UpperBoundSettings
        | LowerBoundSettings
    )
    """The method of a recipe, told apart by `kind`; those of other packages are known when they are there."""
else:
    MethodSettings = Annotated[reduce(or_, [kind.settings for kind in _KINDS]), ByKind()]

KINDS: Mapping[type[Any], MethodKind[Any]] = MappingProxyType({kind.settings: kind for kind in _KINDS})
"""What is known of each method, by the type of its settings."""


def inference_of(settings: MethodSettings) -> TaskInference | None:
    """Return how a recipe's method tells tasks; None where the task must be given."""
    inference: TaskInference | None = kind_of(settings).inference(settings)
    return inference


def kind_of(settings: MethodSettings) -> MethodKind[Any]:
    """Return what is known of a recipe's method.

    Raises:
        UsageError: nothing is.
    """
    try:
        return KINDS[type(settings)]
    except KeyError:
        raise UsageError(
            f"method {type(settings).__name__}: not one of {', '.join(kind.__name__ for kind in KINDS)}; name its MethodKind as "
            "an entry point of your package (supsup_methods.plugins)"
        ) from None

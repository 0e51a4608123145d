"""Every method, in one place: what is registered here has recipes, runs, commands and the contract suite.

Methods of other packages come by their entry points (`plugins`).
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

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
from supsup_methods.plugins import METHODS, plugged_in
from supsup_methods.psp import PspSettings
from supsup_methods.separate_heads import SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.task_guessing import TaskInference
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


def _kinds() -> tuple[MethodKind[Any], ...]:
    """Return what is known of our methods, and of those of other packages.

    Raises:
        UsageError: an entry point names no method, or one by a name that is taken.
    """
    kinds = {_name(kind): kind for kind in _OURS}
    for plugin in plugged_in(METHODS):
        if not isinstance(plugin.value, MethodKind):
            raise UsageError(f"{plugin.origin}: it is a {type(plugin.value).__name__}; name a MethodKind")
        name = _name(plugin.value)
        if name is None:
            raise UsageError(
                f'{plugin.origin}: its settings have no name; give them a field kind: Literal["..."] = "..." in a dataclass'
            )
        if name in kinds:
            raise UsageError(f"{plugin.origin}: there is a method {name}; choose another kind for its settings")
        kinds[name] = plugin.value
    return tuple(kinds.values())


def _name(kind: MethodKind[Any]) -> str | None:
    """Return what tells a method's settings apart in a recipe; None where nothing does."""
    named = (
        [each.default for each in fields(kind.settings) if each.name == "kind"] if is_dataclass(kind.settings) else []
    )
    return named[0] if named and isinstance(named[0], str) else None


_KINDS = _kinds()

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

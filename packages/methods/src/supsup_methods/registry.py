"""Every method, in one place: what is registered here has recipes, runs, commands and the contract suite."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

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
from supsup_methods.psp import PspSettings
from supsup_methods.separate_heads import SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.task_guessing import TaskInference
from supsup_methods.upper_bound import UpperBoundSettings

MethodSettings: TypeAlias = Annotated[
    SupSupSettings
    | UnknownTasksSettings
    | HopSupSupSettings
    | BatchESettings
    | PspSettings
    | SeparateHeadsSettings
    | UpperBoundSettings
    | LowerBoundSettings,
    ByKind(),
]
"""The method of a recipe, told apart by `kind`."""

_KINDS = (
    supsup.KIND,
    supsup_unknown_tasks.KIND,
    hopsupsup.KIND,
    batch_ensemble.KIND,
    psp.KIND,
    separate_heads.KIND,
    upper_bound.KIND,
    lower_bound.KIND,
)

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
            f"method {type(settings).__name__}: not one of {', '.join(kind.__name__ for kind in KINDS)}; add its MethodKind to "
            "supsup_methods/registry.py"
        ) from None

"""Every method, in one place: what is registered here has recipes, runs, commands and the contract suite."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from supsup_methods import supsup
from supsup_methods.continual_method import MethodKind
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import TaskInference

MethodSettings: TypeAlias = SupSupSettings
"""The method of a recipe, told apart by `kind`."""

KINDS: Mapping[type[Any], MethodKind[Any]] = MappingProxyType({kind.settings: kind for kind in (supsup.KIND,)})
"""What is known of each method, by the type of its settings."""


def inference_of(settings: MethodSettings) -> TaskInference | None:
    """Return how a recipe's method tells tasks; None where the task must be given."""
    inference: TaskInference | None = KINDS[type(settings)].inference(settings)
    return inference


def kind_of(settings: MethodSettings) -> MethodKind[Any]:
    """Return what is known of a recipe's method."""
    return KINDS[type(settings)]

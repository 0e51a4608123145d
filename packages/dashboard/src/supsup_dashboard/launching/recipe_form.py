"""A recipe's fields as widgets, and what the reader made of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import streamlit as st
from supsup_methods import recipe_files
from supsup_methods.errors import UsageError
from supsup_methods.experiment import OwnModel, Recipe

from supsup_dashboard.launching.recipe_fields import FieldPath, FormField, describe_part, form_fields, with_values

_LARGEST = 2**53 - 1  # that a browser counts without rounding
_COLUMNS = 3
_PARTS = {"stream": "Stream of tasks", "backbone": "Backbone", "method": "Method", "evaluation": "Evaluation"}


def edited_recipe(default: Recipe) -> Recipe:
    """Show a field for everything that can be changed, and return the recipe as it is now.

    Raises:
        UsageError: a value breaks a rule.
    """
    by_part = {name: list(part) for name, part in groupby(form_fields(default), key=lambda field: field.path[0])}
    values: dict[FieldPath, Any] = {}
    first = [by_part.pop("tasks")[0], by_part.pop("seed")[0]]
    for column, field in zip(st.columns(len(first)), first, strict=True):
        with column:
            values[field.path] = _widget(default.name, field)
    for name, fields in by_part.items():
        part = getattr(default, name)
        with st.expander(f"{_PARTS[name]}: {getattr(part, 'kind', part)}" if name != "evaluation" else _PARTS[name]):
            if about := describe_part(part):
                st.caption(about)
            values |= _part(default.name, fields)
    recipe = with_values(default, values)
    return recipe_files.checked(_without_late_checkpoints(recipe, default))


def _part(recipe: str, fields: Sequence[FormField]) -> Mapping[FieldPath, Any]:
    values: dict[FieldPath, Any] = {}
    groups: dict[FieldPath, list[FormField]] = {}
    for field in fields:
        groups.setdefault(field.path[1:-1], []).append(field)
    for head, together in sorted(groups.items()):
        if head:
            st.markdown(f"**{' · '.join(head).replace('_', ' ').capitalize()}**")
        for start in range(0, len(together), _COLUMNS):
            for column, field in zip(st.columns(_COLUMNS), together[start : start + _COLUMNS], strict=False):
                with column:
                    values[field.path] = _widget(recipe, field)
    return values


def _widget(recipe: str, field: FormField) -> Any:
    """Show one field and return its value; a text that is no list of numbers is refused."""
    key, label, about = f"field-{recipe}-{'.'.join(field.path)}", field.label.capitalize(), field.about
    match field.takes:
        case "flag":
            return st.checkbox(label, field.value, key=key, help=about)
        case "choice":
            return st.selectbox(label, field.choices, field.choices.index(field.value), key=key, help=about)
        case "integer":
            low, high = _limits(field)
            return st.number_input(label, low, high, field.value, 1, key=key, help=about, placeholder=_empty(field))
        case "number":
            return _number(label, field, key)
        case "integers":
            text = st.text_input(label, " ".join(map(str, field.value)), key=key, help=f"{about} Spaces between them.")
            return _integers(field, text)
        case "text":
            own = field.path == ("backbone", "factory")
            hint = " It names code to run, so it is chosen in a terminal only." if own else ""
            return st.text_input(label, field.value or "", key=key, help=about + hint, disabled=own) or field.value


def _number(label: str, field: FormField, key: str) -> float | None:
    bounds = field.bounds
    limits = (bounds.gt if bounds.ge is None else bounds.ge, bounds.lt if bounds.le is None else bounds.le)
    low, high = (None if limit is None else float(limit) for limit in limits)
    step = 10.0 ** math.floor(math.log10(abs(field.value))) if field.value else 0.1
    value: float | None = st.number_input(label, low, high, field.value, step, "%g", key=key, help=field.about)
    return value


def _limits(field: FormField) -> tuple[int | None, int | None]:
    """Return the least and the greatest whole number."""
    bounds = field.bounds
    low = bounds.ge if bounds.gt is None else bounds.gt + 1
    high = bounds.le if bounds.lt is None else bounds.lt - 1
    return None if low is None else int(low), None if high is None else min(int(high), _LARGEST)


def _empty(field: FormField) -> str | None:
    return "none" if field.optional else None


def _integers(field: FormField, text: str) -> tuple[int, ...]:
    words = re.split(r"[\s,]+", text.strip()) if text.strip() else []
    if not all(re.fullmatch(r"-?\d{1,18}", word) for word in words):
        raise UsageError(f"{field.label} {text}: it should be whole numbers with spaces between; choose others")
    return tuple(int(word) for word in words)


def _without_late_checkpoints(recipe: Recipe, default: Recipe) -> Recipe:
    """Leave out the checkpoints of the recipe itself that fewer tasks do not come to, as `supsup-train` does."""
    if recipe.evaluation.checkpoints != default.evaluation.checkpoints:
        return recipe
    early = tuple(number for number in recipe.evaluation.checkpoints if number < recipe.tasks)
    return replace(recipe, evaluation=replace(recipe.evaluation, checkpoints=early))


def runs_own_code(recipe: Recipe) -> bool:
    """Tell whether a recipe imports a module of the user's."""
    return isinstance(recipe.backbone, OwnModel)

"""A recipe's fields as widgets, and what the reader made of them."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import streamlit as st
from supsup_methods import recipe_files
from supsup_methods.assembly import refuse_late_checkpoints
from supsup_methods.errors import UsageError
from supsup_methods.experiment import OwnModel, Recipe

from supsup_dashboard.kept_values import beginning, held
from supsup_dashboard.launching.recipe_fields import FieldPath, FormField, describe_part, form_fields, with_values

_LARGEST = 2**53 - 1  # that a browser counts without rounding
_COLUMNS = 3
_PARTS = {"stream": "Stream of tasks", "backbone": "Backbone", "method": "Method", "evaluation": "Evaluation"}


def edited_recipe(default: Recipe) -> Recipe:
    """Show a field for everything that can be changed, and return the recipe as it is now.

    Raises:
        UsageError: a value breaks a rule.
    """
    fields = list(form_fields(default))
    entries = _entries(default, fields)
    recipe = with_values(default, {field.path: _read(field, entries[field.path]) for field in fields})
    if recipe.evaluation.checkpoints == default.evaluation.checkpoints:  # as `supsup-train` has it
        recipe = recipe.shortened(recipe.tasks)
    recipe = recipe_files.checked(recipe)
    refuse_late_checkpoints(recipe)
    return recipe


def _entries(default: Recipe, fields: Sequence[FormField]) -> Mapping[FieldPath, Any]:
    """Show all fields, and return what is in them: a list of numbers is still text."""
    by_part = {name: list(part) for name, part in groupby(fields, key=lambda field: field.path[0])}
    entries: dict[FieldPath, Any] = {}
    first = [by_part.pop("tasks")[0], by_part.pop("seed")[0]]
    for column, field in zip(st.columns(len(first)), first, strict=True):
        with column:
            entries[field.path] = _widget(default.name, field)
    for name, within in by_part.items():
        part = getattr(default, name)
        with st.expander(f"{_PARTS[name]}: {getattr(part, 'kind', part)}" if name != "evaluation" else _PARTS[name]):
            if about := describe_part(part):
                st.caption(about)
            entries |= _part(default.name, within)
    return entries


def _part(recipe: str, fields: Sequence[FormField]) -> Mapping[FieldPath, Any]:
    entries: dict[FieldPath, Any] = {}
    groups: dict[FieldPath, list[FormField]] = {}
    for field in fields:
        groups.setdefault(field.path[1:-1], []).append(field)
    for head, together in sorted(groups.items()):
        if head:
            st.markdown(f"**{' · '.join(head).replace('_', ' ').capitalize()}**")
        for start in range(0, len(together), _COLUMNS):
            for column, field in zip(st.columns(_COLUMNS), together[start : start + _COLUMNS], strict=False):
                with column:
                    entries[field.path] = _widget(recipe, field)
    return entries


def _widget(recipe: str, field: FormField) -> Any:
    """Show one field, with what was in it when the page was left, and return what is in it."""
    key = f"field-{recipe}-{'.'.join(field.path)}"
    return held(key, _drawn(field, key, beginning(key, _as_entered(field))))


def _as_entered(field: FormField) -> Any:
    return " ".join(map(str, field.value)) if field.takes == "integers" else field.value


def _drawn(field: FormField, key: str, begins: Any) -> Any:
    label, about = field.label.capitalize(), field.about
    match field.takes:
        case "flag":
            return st.checkbox(label, begins, key=key, help=about)
        case "choice":
            return st.selectbox(label, field.choices, field.choices.index(begins), key=key, help=about)
        case "integer":
            low, high = _limits(field)
            return st.number_input(label, low, high, begins, 1, key=key, help=about, placeholder=_empty(field))
        case "number":
            return _number(label, field, key, begins)
        case "integers":
            return st.text_input(label, begins, key=key, help=f"{about} Spaces between them.")
        case "text":
            own = field.path == ("backbone", "factory")
            hint = " It names code to run, so it is chosen in a terminal only." if own else ""
            return st.text_input(label, begins or "", key=key, help=about + hint, disabled=own) or field.value


def _number(label: str, field: FormField, key: str, begins: float | None) -> float | None:
    bounds = field.bounds
    limits = (bounds.gt if bounds.ge is None else bounds.ge, bounds.lt if bounds.le is None else bounds.le)
    low, high = (None if limit is None else float(limit) for limit in limits)
    step = 10.0 ** math.floor(math.log10(abs(field.value))) if field.value else 0.1
    value: float | None = st.number_input(label, low, high, begins, step, "%g", key=key, help=field.about)
    return value


def _read(field: FormField, entry: Any) -> Any:
    """Return what an entry says; a text that is no list of numbers is refused."""
    if field.takes != "integers":
        return entry
    words = re.split(r"[\s,]+", entry.strip()) if entry.strip() else []
    if not all(re.fullmatch(r"-?\d{1,18}", word) for word in words):
        raise UsageError(f"{field.label} {entry}: it should be whole numbers with spaces between; choose others")
    return tuple(int(word) for word in words)


def _limits(field: FormField) -> tuple[int | None, int | None]:
    """Return the least and the greatest whole number."""
    bounds = field.bounds
    low = bounds.ge if bounds.gt is None else bounds.gt + 1
    high = bounds.le if bounds.lt is None else bounds.lt - 1
    return None if low is None else int(low), None if high is None else min(int(high), _LARGEST)


def _empty(field: FormField) -> str | None:
    return "none" if field.optional else None


def runs_own_code(recipe: Recipe) -> bool:
    """Tell whether a recipe imports a module of the user's."""
    return isinstance(recipe.backbone, OwnModel)

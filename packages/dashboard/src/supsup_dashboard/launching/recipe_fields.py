"""A recipe as fields of a form: what each takes, between which bounds, and what it is for, all from the recipe's own types."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
from supsup_methods.bounds import Bounds, Pattern

FieldPath: TypeAlias = tuple[str, ...]
"""Where a field is in a recipe: ("method", "training", "batch_size")."""

_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class FormField:
    """One value that can be changed."""

    path: FieldPath
    value: Any
    takes: Literal["integer", "number", "choice", "flag", "text", "integers"]
    optional: bool
    """Whether it may be left empty."""
    about: str
    """What it is for, with its unit."""
    bounds: Bounds = Bounds()  # noqa: RUF009  # frozen
    """Of numbers."""
    pattern: str = ""
    """Of texts."""
    choices: tuple[Any, ...] = ()

    @property
    def label(self) -> str:
        """Return its name as people read it: "learning rate"."""
        return self.path[-1].replace("_", " ")


def form_fields(settings: Any, path: FieldPath = ()) -> Iterator[FormField]:
    """Yield the fields of a dataclass and of those in it, but for names and kinds, which the recipe decides.

    Args:
        settings: a recipe, or a part of one.
        path: where it is in the recipe.
    """
    hints, about = get_type_hints(type(settings), include_extras=True), _about(type(settings))
    for each in fields(settings):
        value, here = getattr(settings, each.name), (*path, each.name)
        if is_dataclass(value):
            yield from form_fields(value, here)
        elif here != ("name",) and each.name != "kind":
            yield _form_field(here, value, hints[each.name], about.get(each.name, ""))


def with_values(settings: _Settings, values: Mapping[FieldPath, Any]) -> _Settings:
    """Return a dataclass with some values changed, by where they are; nothing is checked."""
    changes: dict[str, Any] = {}
    for each in fields(settings):  # type: ignore[arg-type]
        below = {path[1:]: value for path, value in values.items() if path[0] == each.name}
        if () in below:
            changes[each.name] = below[()]
        elif below:
            changes[each.name] = with_values(getattr(settings, each.name), below)
    return replace(settings, **changes)  # type: ignore[type-var]


def describe_part(settings: Any) -> str:
    """Return what a part of a recipe is, in a line."""
    return docstring_parser.parse(type(settings).__doc__ or "").short_description or ""


def _form_field(path: FieldPath, value: Any, hint: Any, about: str) -> FormField:
    hint, optional = _without_none(hint)
    kind, rules = _unwrapped(hint)
    bounds = next((rule for rule in rules if isinstance(rule, Bounds)), Bounds())
    pattern = next((rule.regex for rule in rules if isinstance(rule, Pattern)), "")
    if get_origin(kind) is Literal:
        return FormField(path, value, "choice", optional, about, choices=get_args(kind))
    if get_origin(kind) is tuple:
        _, rules = _unwrapped(get_args(kind)[0])
        bounds = next((rule for rule in rules if isinstance(rule, Bounds)), Bounds())
        return FormField(path, value, "integers", optional, about, bounds)
    takes = _TAKES[kind]
    return FormField(path, value, takes, optional, about, bounds, pattern)


_TAKES: Mapping[type, Literal["integer", "number", "flag", "text"]] = {
    int: "integer",
    float: "number",
    bool: "flag",
    str: "text",
}


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return a type without None, and whether None was allowed."""
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
        (other,) = (part for part in get_args(hint) if part is not NoneType)
        return other, True
    return hint, False


def _unwrapped(hint: Any) -> tuple[Any, Sequence[Any]]:
    """Return a type and the rules that are annotated to it."""
    if get_origin(hint) is Annotated:
        kind, *rules = get_args(hint)
        return kind, rules
    return hint, ()


def _about(kind: type) -> Mapping[str, str]:
    """Return the docstrings below a dataclass's fields, those of the classes that it extends included."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if is_dataclass(each):
            for param in docstring_parser.parse_from_object(each).params:
                found[param.arg_name] = " ".join((param.description or "").split())
    return found

"""Recipes as JSON, checked against their types and bounds on the way in."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe
from supsup_methods.registry import PACKAGES


def _adapter() -> TypeAdapter[Recipe]:
    try:
        return TypeAdapter(Recipe)
    except PydanticUserError:
        for settings, package in PACKAGES.items():
            try:
                TypeAdapter(settings)
            except PydanticUserError as error:
                why = error.message.splitlines()[0]
                raise UsageError(
                    f"{package}: {settings.__name__} has a field that no recipe's file holds ({why}); give it numbers, texts or "
                    "dataclasses of them"
                ) from error
        raise


_ADAPTER = _adapter()


def checked(recipe: Recipe) -> Recipe:
    """Return the recipe if every field obeys its type and bounds.

    Raises:
        UsageError: a field does not; it is named as its option on the command line.
    """
    return _validate(asdict(recipe), prefix="--")


def to_json(recipe: Recipe) -> str:
    """Return the recipe as JSON that `from_json` reads back exactly."""
    return json.dumps(_ADAPTER.dump_python(recipe, mode="json"), indent=1) + "\n"


def from_json(text: str | bytes, origin: str) -> Recipe:
    """Return the recipe that `to_json` wrote.

    Raises:
        UsageError: the text is not JSON, or not a valid recipe.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{origin}: not JSON ({error}); restore it from a copy, or start a new run") from None
    return _validate(content, prefix=f"{origin}: ")


def first_difference(began: Recipe, asked: Recipe) -> str | None:
    """Name the first field in which two recipes differ, as its option, with both values; None if they are the same."""
    then, now = _flat(json.loads(to_json(began))), _flat(json.loads(to_json(asked)))
    for field in then | now:
        if then.get(field) != now.get(field):
            return f"--{field.replace('_', '-')} {then.get(field)}, not {now.get(field)}"
    return None


def _flat(content: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts under their paths, joined by dots."""
    if not isinstance(content, dict):
        return {path: content}
    parts = [_flat(inner, f"{path}.{key}" if path else key) for key, inner in content.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


def _validate(content: Any, prefix: str) -> Recipe:
    try:
        return _ADAPTER.validate_python(content, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(_named(content, first["loc"])).replace("_", "-")
        if first["type"] == "union_tag_invalid" and place == "method":
            raise UsageError(
                f"{prefix}method {first['ctx']['tag']}: it is not known here; install the package that has it "
                "(supsup_methods.plugins)"
            ) from None
        if first["type"] in ("missing", "dataclass_type"):
            raise UsageError(f"{prefix}{place}: {first['msg']}; restore it from a copy, or start a new run") from None
        raise UsageError(f"{prefix}{place} {first['input']}: {_rule(first)}; choose another value") from None


def _named(content: Any, place: tuple[str | int, ...]) -> Iterator[str]:
    """Yield the names of the fields that lead to a place, without the kinds that pydantic mentions and without numbers."""
    for part in place:
        if isinstance(content, dict) and part not in content and part == content.get("kind"):
            continue
        content = content.get(part) if isinstance(content, dict) else None
        if isinstance(part, str):
            yield part


def _rule(problem: Any) -> str:
    """Return pydantic's message as a rule: "Input should be greater than 0" becomes "it should be greater than 0"."""
    if isinstance(problem["input"], float) and not math.isfinite(problem["input"]):
        return "it should be a finite number"
    message: str = problem["msg"]
    return message.replace("Input should", "it should", 1)

"""Bounds, patterns and choices of a recipe's fields, understood by pydantic and free of it.

Recipes are built where training runs, and training must not need the libraries of the command line. Pydantic asks the
metadata of a type for its schema, so these classes can answer without importing anything.
"""

from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Bounds:
    """Inclusive (`ge`, `le`) and exclusive (`gt`, `lt`) limits of a number."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Add the limits to pydantic's schema of the number."""
        limits = {name: value for name, value in vars(self).items() if value is not None}
        return {**handler(source), **limits}


@dataclass(frozen=True)
class ByKind:
    """A choice of dataclasses that the field `kind` tells apart, so that what is wrong is said of the one that was meant."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Have pydantic look at `kind` first."""
        from pydantic import Field

        return handler(Annotated[source, Field(discriminator="kind")])


@dataclass(frozen=True)
class Pattern:
    """A regular expression that a text must match as a whole, and what that comes to, as the end of "it should be ..."."""

    regex: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Add the pattern to pydantic's schema of the text, and the words to its error."""
        return {
            "type": "custom-error",
            "schema": {**handler(source), "pattern": f"^(?:{self.regex})$"},
            "custom_error_type": "pattern",
            "custom_error_message": f"it should be {self.words}",
        }

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from supsup_dashboard.launching.recipe_fields import describe_part, form_fields, with_values
from supsup_methods import recipe_files
from supsup_methods.bounds import Bounds, Pattern
from supsup_methods.errors import UsageError
from supsup_methods.recipes import RECIPES


@dataclass(frozen=True)
class Inner:
    """What is inside.

    And more.
    """

    kind: Literal["inner"] = "inner"
    """Not asked for."""
    rate: Annotated[float, Bounds(gt=0, le=1)] = 0.5
    """How fast, in units."""


@dataclass(frozen=True)
class Extended(Inner):
    """Extended."""

    sizes: tuple[Annotated[int, Bounds(ge=2)], ...] = (3, 4)
    """How large."""
    most: Annotated[int, Bounds(ge=1, lt=9)] | None = None
    """At most, over
    two lines."""


@dataclass(frozen=True)
class Outer:
    """Outer."""

    name: str = "outer"
    flag: bool = True
    """Whether."""
    word: Annotated[str, Pattern("[a-z]+", "small letters")] = "a"
    """Which word."""
    inner: Extended = field(default_factory=Extended)


def test_fields_say_what_their_types_and_docstrings_say():
    fields = {each.path: each for each in form_fields(Outer())}
    assert list(fields) == [
        ("flag",),
        ("word",),
        ("inner", "rate"),
        ("inner", "sizes"),
        ("inner", "most"),
    ], "a name and a kind are the recipe's"
    rate, sizes, most = fields["inner", "rate"], fields["inner", "sizes"], fields["inner", "most"]
    assert (rate.takes, rate.bounds, rate.about, rate.value) == (
        "number",
        Bounds(gt=0, le=1),
        "How fast, in units.",
        0.5,
    )
    assert (sizes.takes, sizes.bounds, sizes.value) == ("integers", Bounds(ge=2), (3, 4))
    assert (most.takes, most.optional, most.value, most.about) == ("integer", True, None, "At most, over two lines.")
    assert (fields["flag",].takes, fields["word",].takes, fields["word",].pattern) == ("flag", "text", "[a-z]+")
    assert most.label == "most"
    assert describe_part(Inner()) == "What is inside."


def test_changes_go_where_they_belong():
    changed = with_values(Outer(), {("inner", "rate"): 0.25, ("flag",): False, ("inner", "most"): 3})
    assert changed == Outer(flag=False, inner=Extended(rate=0.25, most=3))
    assert with_values(Outer(), {}) == Outer()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_form_that_explains_each_field(name):
    recipe = RECIPES[name]
    fields = list(form_fields(recipe))
    assert all(each.about for each in fields), [each.path for each in fields if not each.about]
    assert {("tasks",), ("seed",)} <= {each.path for each in fields}
    assert with_values(recipe, {each.path: each.value for each in fields}) == recipe


def test_what_breaks_a_rule_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"--method\.training\.batch-size 0: it should be greater than or equal to 1"):
        recipe_files.checked(with_values(RECIPES["demo"], {("method", "training", "batch_size"): 0}))

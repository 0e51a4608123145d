from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from supsup_dashboard.launching.command_line import as_typed, train_command
from supsup_dashboard.launching.recipe_fields import form_fields, with_values
from supsup_methods.commands.launch import parse_launch
from supsup_methods.recipes import RECIPES

SHAPES = {tuple(field.path for field in form_fields(recipe)): name for name, recipe in RECIPES.items()}.values()
"""A recipe for each set of fields."""


def numbers(field):
    """Draw numbers within a field's bounds, far out as well."""
    bounds = field.bounds
    if field.takes in ("integer", "integers"):
        low = int(bounds.ge if bounds.ge is not None else -(2**40))
        high = int(bounds.le) if bounds.le is not None else int(bounds.lt) - 1 if bounds.lt is not None else 2**40
        return st.integers(low, high)
    low, high = (bounds.gt if bounds.ge is None else bounds.ge), (bounds.lt if bounds.le is None else bounds.le)
    return st.floats(
        low, high, exclude_min=bounds.ge is None, exclude_max=bounds.le is None, allow_nan=False, allow_infinity=False
    )


def values(field):
    match field.takes:
        case "flag":
            drawn = st.booleans()
        case "choice":
            drawn = st.sampled_from(field.choices)
        case "integers":
            drawn = st.lists(numbers(field), max_size=4).map(tuple)
        case "text":
            drawn = st.from_regex(f"\\A(?:{field.pattern})\\Z")
        case _:
            drawn = numbers(field)
    return st.none() | drawn if field.optional else drawn


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=10)
@given(data=st.data())
def test_supsup_train_reads_back_what_the_form_says(name, data):
    default = RECIPES[name]
    fields = [field for field in form_fields(default) if field.path != ("backbone", "factory")]
    changed = data.draw(st.lists(st.sampled_from(fields), unique_by=lambda field: field.path, max_size=4))
    recipe = with_values(default, {field.path: data.draw(values(field)) for field in changed})
    command = train_command(default, recipe, device="cpu", out=Path("runs/a b; rm -rf ~"), data_root=Path("/data"))
    asked = parse_launch(list(command[1:]))
    late = recipe.evaluation.checkpoints == default.evaluation.checkpoints  # those of the recipe itself are cut
    if late:
        kept = tuple(number for number in recipe.evaluation.checkpoints if number < recipe.tasks)
        recipe = replace(recipe, evaluation=replace(recipe.evaluation, checkpoints=kept))
    assert asked.recipe == recipe
    assert (asked.device, asked.out, asked.data_root) == ("cpu", Path("runs/a b; rm -rf ~"), Path("/data"))


def test_nothing_that_is_the_recipes_own_is_said_again():
    demo = RECIPES["demo"]
    assert train_command(demo, demo, device="cuda:0,cuda:1", out=None) == (
        "supsup-train",
        "demo",
        "--device",
        "cuda:0,cuda:1",
    )


def test_a_flag_is_turned_off_by_its_opposite():
    transfer = RECIPES["table2-supsup-c4-transfer"]
    without = with_values(transfer, {("method", "masks", "transfer"): False})
    command = train_command(transfer, without, device="cpu", out=None)
    assert command[2] == "--method.masks.no-transfer"
    assert parse_launch(list(command[1:])).recipe.method.masks.transfer is False


def test_what_is_typed_is_one_line_that_a_shell_reads_as_these_words():
    import shlex

    demo = RECIPES["demo"]
    command = train_command(demo, demo, device="cpu", out=Path("runs/$(touch x)`'\" &|"))
    assert shlex.split(as_typed(command)) == ["poetry", "run", *command]

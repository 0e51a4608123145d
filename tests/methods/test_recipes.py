"""Every recipe that is written down can be run, and is found by its name."""

import importlib
import pkgutil

import pytest
import torch
from supsup_datasets import embedded_mnist
from supsup_methods import recipes
from supsup_methods.assembly import build_problem, build_stream, open_method, refuse_impossible
from supsup_methods.experiment import Recipe
from supsup_methods.recipe_files import checked, from_json, to_json
from supsup_methods.recipes import RECIPES


def written():
    """Return every recipe that a module of `recipes` holds."""
    modules = [
        importlib.import_module(f"{recipes.__name__}.{found.name}") for found in pkgutil.iter_modules(recipes.__path__)
    ]
    values = [value for module in modules for value in vars(module).values()]
    groups = [value for value in values if isinstance(value, tuple)] + [[value] for value in values]
    return [recipe for group in groups for recipe in group if isinstance(recipe, Recipe)]


def test_every_recipe_is_registered_under_its_own_name():
    assert {recipe.name: recipe for recipe in written()} == RECIPES
    assert len({id(recipe) for recipe in written()}) == len(RECIPES), "no two share a name"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_run(name, tmp_path):
    recipe, data = RECIPES[name], embedded_mnist()
    assert checked(recipe) == recipe
    assert from_json(to_json(recipe), "here") == recipe
    refuse_impossible(recipe, data)
    assert len(build_stream(recipe, data)) == recipe.tasks
    if sum(recipe.backbone.widths) < 1000:
        opened = open_method(recipe, build_problem(recipe, data, torch.device("cpu")), tmp_path / "none", None)
        assert opened.method.tasks_learned == 0

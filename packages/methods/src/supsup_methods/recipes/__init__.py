"""Named experiments, one file for each table or figure they reproduce."""

from supsup_methods.experiment import Recipe
from supsup_methods.recipes.demo import DEMO

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (DEMO,)}

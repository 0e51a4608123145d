"""Named experiments, one file for each table or figure they reproduce; those of other packages come behind (`plugins`)."""

from collections.abc import Iterator

from supsup_methods import plugins
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Recipe
from supsup_methods.recipes.demo import DEMO
from supsup_methods.recipes.figure7 import CONVOLUTIONAL, FIGURE7
from supsup_methods.recipes.figure10 import FIGURE10
from supsup_methods.recipes.figure11 import FIGURE11_RIGHT
from supsup_methods.recipes.heads import HEADS
from supsup_methods.recipes.own_images import OWN_IMAGES
from supsup_methods.recipes.reservoirs import RESERVOIRS
from supsup_methods.recipes.split_imagenet import SPLIT_IMAGENET
from supsup_methods.recipes.table2 import TABLE2
from supsup_methods.recipes.table3 import TABLE3
from supsup_methods.recipes.table4 import TABLE4
from supsup_methods.recipes.table5 import TABLE5
from supsup_methods.recipes.table6 import TABLE6
from supsup_methods.recipes.table7 import TABLE7
from supsup_methods.recipes.table8 import TABLE8
from supsup_methods.recipes.table9 import TABLE9
from supsup_methods.registry import KINDS

_OURS = {
    recipe.name: recipe
    for recipes in (
        (DEMO, CONVOLUTIONAL),
        TABLE2,
        TABLE3,
        TABLE4,
        TABLE5,
        TABLE6,
        TABLE7,
        TABLE8,
        TABLE9,
        FIGURE7,
        FIGURE10,
        HEADS,
        RESERVOIRS,
        FIGURE11_RIGHT,
        SPLIT_IMAGENET,
        OWN_IMAGES,
    )
    for recipe in recipes
}


def _plugged_in() -> Iterator[tuple[str, Recipe]]:
    """Yield the recipes of other packages under their names.

    Raises:
        UsageError: an entry point names something else, a name is taken, or a recipe's method is not known.
    """
    names = set(_OURS)
    for plugin in plugins.plugged_in(plugins.RECIPES):
        if not isinstance(plugin.value, tuple) or not all(isinstance(recipe, Recipe) for recipe in plugin.value):
            raise UsageError(f"{plugin.origin}: it is a {type(plugin.value).__name__}; name a tuple of recipes")
        for recipe in plugin.value:
            if recipe.name in names:
                raise UsageError(f"{plugin.origin}: there is a recipe {recipe.name}; choose another name")
            if type(recipe.method) not in KINDS:
                raise UsageError(
                    f"{plugin.origin}: {recipe.name} has the method {type(recipe.method).__name__}, which no entry point of "
                    f"{plugins.METHODS} names; name its MethodKind there"
                )
            names.add(recipe.name)
            yield recipe.name, recipe


RECIPES: dict[str, Recipe] = _OURS | dict(_plugged_in())
"""By name."""

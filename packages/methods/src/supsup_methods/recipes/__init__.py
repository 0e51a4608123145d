"""Named experiments, one file for each table or figure they reproduce; those of other packages come behind (`plugins`)."""

from collections.abc import Iterator, Mapping
from functools import cache

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


class _Recipes(Mapping[str, Recipe]):
    """Ours, and behind them those of other packages, whose modules are imported when one that is not ours is looked for."""

    def __getitem__(self, name: str) -> Recipe:
        return _OURS[name] if name in _OURS else _theirs()[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*_OURS, *_theirs()))

    def __len__(self) -> int:
        return len(_OURS) + len(_theirs())


@cache
def _theirs() -> dict[str, Recipe]:
    """Return the recipes of other packages.

    Raises:
        UsageError: an entry point names something else, a name is taken, or a recipe's method is not known.
    """
    theirs: dict[str, Recipe] = {}
    for plugin in plugins.plugged_in(plugins.RECIPES):
        recipes = plugin.value if isinstance(plugin.value, tuple) else (plugin.value,)
        for recipe in recipes:
            fault = _fault(recipe, theirs)
            if fault is not None:
                raise UsageError(f"{plugin.origin}: {fault}")
            theirs[recipe.name] = recipe
    return theirs


def _fault(recipe: object, theirs: Mapping[str, Recipe]) -> str | None:
    """Return why something cannot be one more recipe, and the way out; None if it can."""
    if not isinstance(recipe, Recipe):
        return f"there is a {type(recipe).__name__} in it; name a tuple of recipes"
    if recipe.name in _OURS or recipe.name in theirs:
        return f"there is a recipe {recipe.name}; choose another name"
    if type(recipe.method) not in KINDS:
        return (
            f"{recipe.name} has the method {type(recipe.method).__name__}, which no entry point of {plugins.METHODS} names; name "
            "its MethodKind there"
        )
    return None


RECIPES: Mapping[str, Recipe] = _Recipes()
"""By name."""

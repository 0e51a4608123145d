"""Named experiments, one file for each table or figure they reproduce."""

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

RECIPES: dict[str, Recipe] = {
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
"""By name."""

"""Figure 11, right: with Transfer half of the epochs are enough: task 0 for 250, later tasks for 50 with it and 100 without.

The budgets of its curve are those of Table 2. Under `tiny-` the same on Tiny-ImageNet-32.
"""

from supsup_methods.experiment import Recipe, Stream
from supsup_methods.recipes.split import DATA, EPOCHS, given, supermasks
from supsup_methods.recipes.table2 import BUDGET_FACTORS


def _rows(prefix: str, stream: Stream) -> tuple[Recipe, ...]:
    return tuple(
        given(
            f"{prefix}-c{factor}{suffix}",
            stream,
            supermasks(float(factor), transfer=transfer, epochs=epochs, first_epochs=EPOCHS),
        )
        for transfer, suffix, epochs in ((False, "", 100), (True, "-transfer", 50))
        for factor in BUDGET_FACTORS
    )


_NAMES = {"table2": "figure11-right", "tiny": "tiny-figure11-right"}

FIGURE11_RIGHT = tuple(recipe for prefix, stream in DATA for recipe in _rows(_NAMES[prefix], stream))

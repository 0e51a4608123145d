"""The main job in small: ten permuted-MNIST tasks, LeNet 300-100, One-Shot with H from a single image, scenario GNu.

The settings are those of Table 3's SupSup (GNu, H) row at ten tasks; on full MNIST it is that experiment.
"""

from supsup_methods.experiment import Recipe

DEMO = Recipe(name="demo", tasks=10)

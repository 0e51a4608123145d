"""Beyond the paper: many masks in reservoirs of several widths, on PermutedMNIST, whose tasks share their labels (GNs)."""

from supsup_methods.experiment import Evaluation, NormalisedFullyConnected, Recipe
from supsup_methods.hopsupsup import HopSupSupSettings


def _reservoir(units: int) -> Recipe:
    return Recipe(
        f"reservoir-{units}",
        100,
        backbone=NormalisedFullyConnected(hidden=(units, units)),
        method=HopSupSupSettings(witness=True),
        evaluation=Evaluation(scenario="GNs", checkpoints=(5, 10, 20, 40, 70)),
    )


RESERVOIRS = (_reservoir(256), _reservoir(512), _reservoir(1024))

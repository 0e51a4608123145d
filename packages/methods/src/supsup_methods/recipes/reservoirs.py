"""Beyond the paper: many masks in reservoirs of several widths, on PermutedMNIST, whose tasks share their labels (GNs).

The constants of recovery are the paper's for 2048 units a layer. The energy of a stored mask grows with the width d, and a unit's
part in the entropy falls with it, so γ goes with 1/d here and the learning rate with d.
"""

from supsup_methods.experiment import Evaluation, NormalisedFullyConnected, Recipe
from supsup_methods.hopsupsup import HopfieldRecovery, HopSupSupSettings

_PAPER_UNITS = 2048


def _reservoir(units: int) -> Recipe:
    paper, share = HopfieldRecovery(), units / _PAPER_UNITS
    recovery = HopfieldRecovery(strength=paper.strength / share, learning_rate=paper.learning_rate * share)
    return Recipe(
        f"reservoir-{units}",
        40,
        backbone=NormalisedFullyConnected(hidden=(units, units)),
        method=HopSupSupSettings(recovery=recovery, witness=True),
        evaluation=Evaluation(scenario="GNs", checkpoints=(5, 10, 20)),
    )


RESERVOIRS = (_reservoir(256), _reservoir(512))

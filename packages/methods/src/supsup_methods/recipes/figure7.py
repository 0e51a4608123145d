"""Figures 7 and 8: HopSupSup on SplitMNIST, one epoch a task; the paper shows 20 seeds.

Figure 7 is the distance to the right mask at each step of recovery, Figure 8 the accuracy under the mask that was found, beside
that under the right one: both are in what one run records.

Masks are lost where a layer goes to the mask of another task while the entropy rises, because the energy of each
layer knows nothing of the other layers. So the second recipe gives the entropy twice as long, and the third lets Ψ couple all
layers.
"""

from supsup_methods.experiment import (
    Backbone,
    Evaluation,
    NormalisedFullyConnected,
    Recipe,
    SmallConvolutional,
    SplitMnist,
)
from supsup_methods.hopsupsup import HopfieldRecovery, HopSupSupSettings

_TWO_PASSES = HopfieldRecovery(passes=2, settle=True)
_COUPLED = HopSupSupSettings(couplings="across-layers", recovery=_TWO_PASSES, witness=True)


def _recipe(name: str, method: HopSupSupSettings, backbone: Backbone) -> Recipe:
    evaluation = Evaluation(scenario="GNu", batch_size=64)
    return Recipe(name, 5, stream=SplitMnist(), backbone=backbone, method=method, evaluation=evaluation)


FIGURE7 = (
    _recipe("figure7-hopsupsup", HopSupSupSettings(witness=True), NormalisedFullyConnected()),
    _recipe("figure7-two-passes", HopSupSupSettings(recovery=_TWO_PASSES, witness=True), NormalisedFullyConnected()),
    _recipe("figure7-across-layers", _COUPLED, NormalisedFullyConnected()),
)

CONVOLUTIONAL = _recipe(
    "hopsupsup-convolutional",
    HopSupSupSettings(
        couplings="across-layers",
        recovery=HopfieldRecovery(passes=4, strength=8e-3, learning_rate=30.0, settle=True),
        witness=True,
    ),
    SmallConvolutional(),
)
"""Beyond the paper: the same over a small convolutional network. It has a sixth of the units, so γ is larger and steps are
smaller; found by trying five pairs of them on seed 0."""

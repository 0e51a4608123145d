"""Figures 7 and 8: HopSupSup on SplitMNIST, one epoch a task; the paper shows 20 seeds.

Figure 7 is the distance to the right mask at each step of recovery, Figure 8 the accuracy under the mask that was found, beside
that under the right one: both are in what one run records.
"""

from supsup_methods.experiment import Evaluation, NormalisedFullyConnected, Recipe, SmallConvolutional, SplitMnist
from supsup_methods.hopsupsup import HopfieldRecovery, HopSupSupSettings

_TESTED = Evaluation(scenario="GNu", batch_size=64)

FIGURE7 = (
    Recipe(
        "figure7-hopsupsup",
        5,
        stream=SplitMnist(),
        backbone=NormalisedFullyConnected(),
        method=HopSupSupSettings(witness=True),
        evaluation=_TESTED,
    ),
    Recipe(
        "figure7-two-passes",
        5,
        stream=SplitMnist(),
        backbone=NormalisedFullyConnected(),
        method=HopSupSupSettings(recovery=HopfieldRecovery(passes=2), witness=True),
        evaluation=_TESTED,
    ),
    Recipe(
        "hopsupsup-convolutional",
        5,
        stream=SplitMnist(),
        backbone=SmallConvolutional(),
        method=HopSupSupSettings(witness=True),
        evaluation=_TESTED,
    ),
)

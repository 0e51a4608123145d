"""Table 5 (Figure 4): PermutedMNIST, LeNet 300-100, s = 500, 2500 tasks; told the task in training (GNu), or never (NNs).

All 2500 take hours of two cores; `--tasks 500` is the first column. `nns-recurring` is beyond the paper: 20 tasks that come back
in random order, of 530 batches each, so that they end between two decisions.
"""

from supsup_methods.experiment import Evaluation, FullyConnected, Recipe, RecurringPermutedMnist
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import UnknownTasksSettings
from supsup_methods.task_guessing import OneShot
from supsup_methods.training_length import StreamTraining
from supsup_methods.upper_bound import UpperBoundSettings

_BACKBONE = FullyConnected(hidden=(300, 100), outputs=500)
_CHECKPOINTS = (10, 50, 100, 500, 1000, 1500, 2000)
_INFERRED = Evaluation(scenario="GNu", checkpoints=_CHECKPOINTS)
_UNTOLD = Evaluation(scenario="NNs", checkpoints=_CHECKPOINTS)

TABLE5 = (
    Recipe("table5-nns", 2500, backbone=_BACKBONE, method=UnknownTasksSettings(), evaluation=_UNTOLD),
    Recipe("table5-supsup-h", 2500, backbone=_BACKBONE, method=SupSupSettings(), evaluation=_INFERRED),
    Recipe(
        "table5-supsup-g",
        2500,
        backbone=_BACKBONE,
        method=SupSupSettings(inference=OneShot(objective="G")),
        evaluation=_INFERRED,
    ),
    Recipe(
        "table5-upper-bound",
        2500,
        backbone=FullyConnected(hidden=(300, 100), outputs=10),
        method=UpperBoundSettings(),
        evaluation=Evaluation(scenario="GG", checkpoints=_CHECKPOINTS),
    ),
    Recipe(
        "nns-recurring",
        100,
        stream=RecurringPermutedMnist(distinct=20),
        backbone=_BACKBONE,
        method=UnknownTasksSettings(training=StreamTraining(batches=530)),
        evaluation=Evaluation(scenario="NNs", checkpoints=(20, 40, 60, 80)),
    ),
)

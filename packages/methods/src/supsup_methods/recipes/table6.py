"""Table 6 (Figure 5, left): RotatedMNIST, 36 tasks of ten degrees each, FC 1024-1024.

SupSup infers the task by Binary with H from the whole batch of 128; the others are told it.
"""

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.experiment import Evaluation, FullyConnected, Recipe, RotatedMnist
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.psp import PspSettings
from supsup_methods.registry import MethodSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import Gamma
from supsup_methods.upper_bound import UpperBoundSettings

_FULL_BATCH = 128


def _given(name: str, method: MethodSettings) -> Recipe:
    backbone = FullyConnected(hidden=(1024, 1024), outputs=10)
    return Recipe(
        name, 36, stream=RotatedMnist(), backbone=backbone, method=method, evaluation=Evaluation(scenario="GG")
    )


TABLE6 = (
    Recipe(
        "table6-supsup-h",
        36,
        stream=RotatedMnist(),
        backbone=FullyConnected(hidden=(1024, 1024), outputs=200),
        method=SupSupSettings(inference=Gamma(share=0.5, images_per_guess=_FULL_BATCH)),
    ),
    _given("table6-batche", BatchESettings()),
    _given("table6-psp", PspSettings()),
    _given("table6-lower-bound", LowerBoundSettings(heads="shared")),
    _given("table6-upper-bound", UpperBoundSettings()),
)

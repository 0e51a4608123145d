"""Each registered method with settings that learn the small problem in a blink. A new method adds its line here, and no more."""

from dataclasses import replace
from typing import Any

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.dense_training import DenseTraining
from supsup_methods.hopsupsup import HopfieldRecovery, HopSupSupSettings, UnitMaskTraining
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.mask_rules import EdgePopupMasks
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.separate_heads import HeadTraining, SeparateHeadsSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.supsup_unknown_tasks import Allocation, UnknownTasksSettings
from supsup_methods.training_length import Schedule, StreamTraining, TaskTraining
from supsup_methods.upper_bound import UpperBoundSettings

_DENSE = DenseTraining(batches=120, batch_size=20, learning_rate=0.003)

SMALL: dict[str, Any] = {
    "supsup": SupSupSettings(training=MaskTraining(batches=120, batch_size=20, learning_rate=0.01)),
    "supsup-unknown-tasks": UnknownTasksSettings(
        training=StreamTraining(batches=120, batch_size=20, learning_rate=0.01),
        allocation=Allocation(every=50, epsilon=0.6),
    ),
    "hopsupsup": HopSupSupSettings(
        training=UnitMaskTraining(epochs=20, batch_size=20, learning_rate=1.0),
        recovery=HopfieldRecovery(batch_size=9),
        witness=True,
    ),
    "batch-ensemble": BatchESettings(
        training=TaskTraining(batches=120, batch_size=20), trunk_learning_rate=0.003, vectors_learning_rate=0.03
    ),
    "psp": PspSettings(training=_DENSE),
    "separate-heads": SeparateHeadsSettings(
        training=HeadTraining(batches=120, batch_size=20, trunk_learning_rate=0.003, head_learning_rate=0.03)
    ),
    "upper-bound": UpperBoundSettings(training=_DENSE),
    "lower-bound": LowerBoundSettings(training=_DENSE),
}
"""By `kind`."""

_COSINE = MaskTraining(
    batches=120, batch_size=20, learning_rate=0.01, optimizer="adam", schedule=Schedule("cosine", warm_up=0.1)
)

VARIANTS = SMALL | {
    "supsup with edge-popup, adam, a cosine and transfer": SupSupSettings(
        training=_COSINE, masks=EdgePopupMasks(budget_factor=2.0, transfer=True), statistics="float16"
    ),
    "hopsupsup without a witness": replace(SMALL["hopsupsup"], witness=False),
    "batch-ensemble with heads": replace(SMALL["batch-ensemble"], last_layer="head"),
    "batch-ensemble over random weights": replace(SMALL["batch-ensemble"], trunk="random"),
    "separate-heads over random weights": replace(SMALL["separate-heads"], trunk="random"),
    "upper-bound, carried on": replace(SMALL["upper-bound"], carry_on=True),
    "lower-bound with a shared head": replace(SMALL["lower-bound"], heads="shared"),
}
"""Those and what stores something else."""

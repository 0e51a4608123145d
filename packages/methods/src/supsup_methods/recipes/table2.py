"""Table 2 (Figure 2, right): SplitCIFAR100, a ResNet-18 of 20 channels; six budgets, with and without Transfer, and baselines.

Under `tiny-` the same on Tiny-ImageNet-32, for machines that have no CIFAR-100.

The rates of BatchE over a trunk that task 0 trained are not printed: it is trained as the upper bound is (Appendix D.1), and its
vectors as those of MNIST (Appendix D.3).
"""

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.dense_training import DenseTraining
from supsup_methods.experiment import Recipe, Stream
from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.recipes.split import COSINE, DATA, EPOCHS, given, supermasks
from supsup_methods.separate_heads import HeadTraining, SeparateHeadsSettings
from supsup_methods.training_length import TaskTraining
from supsup_methods.upper_bound import UpperBoundSettings

BUDGET_FACTORS = (1, 2, 4, 8, 16, 32)

_DENSE = DenseTraining(epochs=EPOCHS, schedule=COSINE, learning_rate=1e-3, optimizer="adam")
_HEADS = HeadTraining(epochs=EPOCHS, schedule=COSINE)
_VECTORS = TaskTraining(epochs=EPOCHS, schedule=COSINE)


def _rows(prefix: str, stream: Stream) -> tuple[Recipe, ...]:
    supsup = [
        given(f"{prefix}-supsup-c{factor}{suffix}", stream, supermasks(float(factor), transfer=transfer))
        for transfer, suffix in ((False, ""), (True, "-transfer"))
        for factor in BUDGET_FACTORS
    ]
    trained = BatchESettings(training=_VECTORS, trunk_learning_rate=1e-3, last_layer="head")
    random = BatchESettings(training=_VECTORS, trunk="random", vectors_learning_rate=0.1, last_layer="head")
    return (
        *supsup,
        given(f"{prefix}-batche", stream, trained),
        given(f"{prefix}-batche-random", stream, random),
        given(f"{prefix}-separate-heads", stream, SeparateHeadsSettings(training=_HEADS)),
        given(f"{prefix}-separate-heads-random", stream, SeparateHeadsSettings(training=_HEADS, trunk="random")),
        given(f"{prefix}-upper-bound", stream, UpperBoundSettings(training=_DENSE, carry_on=True)),
        given(f"{prefix}-lower-bound", stream, LowerBoundSettings(training=_DENSE)),
    )


TABLE2 = tuple(recipe for prefix, stream in DATA for recipe in _rows(prefix, stream))

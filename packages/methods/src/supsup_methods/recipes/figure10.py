"""Figure 10: ABatchE, which tries every task's vectors on b images and takes the most confident; PermutedMNIST, s = 100.

The figure varies b from 1 to 16 and the objective, H or M: `supsup-eval` asks these of one run.
"""

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.recipes.permuted import FC, LENET, inferred
from supsup_methods.task_guessing import EveryTask

_ABATCHE = BatchESettings(inference=EveryTask(objective="H", images_per_guess=16))

FIGURE10 = (
    inferred("figure10-lenet", LENET, 100, _ABATCHE),
    inferred("figure10-fc", FC, 100, _ABATCHE),
)

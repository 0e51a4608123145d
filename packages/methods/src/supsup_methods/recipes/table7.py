"""Table 7 (Figure 5, right): One-Shot over BatchE's rank-one contexts, PermutedMNIST, FC 1024-1024, s = 500; three seeds.

Not reproduced: over six tasks (30 batches of full MNIST, one seed) one image tells the task of 33 % of the batches, and all 128
images of 17 %, as nearly all are given to task 0, which the weights were trained on. The paper has accuracies of 66 and 92 % at
ten tasks. Neither blending r and s apart nor G mends it; Binary finds 60 %, and trying every task (ABatchE) 100 %, from one image
or from 128.
"""

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.recipes.permuted import FC, inferred
from supsup_methods.task_guessing import OneShot

TABLE7 = (
    inferred("table7-batche-full-batch", FC, 500, BatchESettings(inference=OneShot(images_per_guess=128))),
    inferred("table7-batche", FC, 500, BatchESettings(inference=OneShot())),
)

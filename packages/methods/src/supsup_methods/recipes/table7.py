"""Table 7 (Figure 5, right): One-Shot over BatchE's rank-one contexts, PermutedMNIST, FC 1024-1024, s = 500; three seeds."""

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.recipes.permuted import FC, inferred
from supsup_methods.task_guessing import OneShot

TABLE7 = (
    inferred("table7-batche-full-batch", FC, 500, BatchESettings(inference=OneShot(images_per_guess=128))),
    inferred("table7-batche", FC, 500, BatchESettings(inference=OneShot())),
)

"""Separate heads on PermutedMNIST with LeNet 300-100, over a trunk from the first task or random (Table 2 has them)."""

from supsup_methods.recipes.permuted import LENET, given
from supsup_methods.separate_heads import SeparateHeadsSettings

HEADS = (
    given("separate-heads", LENET, SeparateHeadsSettings()),
    given("separate-heads-random", LENET, SeparateHeadsSettings(trunk="random")),
)

"""Table 3 (Figure 3, left): PermutedMNIST with LeNet 300-100."""

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.psp import PspSettings
from supsup_methods.recipes.permuted import LENET, given, supsup
from supsup_methods.upper_bound import UpperBoundSettings

TABLE3 = (
    supsup("table3-supsup-h", LENET, 100, "H"),
    supsup("table3-supsup-g", LENET, 100, "G"),
    given("table3-psp", LENET, PspSettings()),
    given("table3-batche", LENET, BatchESettings()),
    given("table3-upper-bound", LENET, UpperBoundSettings()),
)

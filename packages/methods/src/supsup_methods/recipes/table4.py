"""Table 4 (Figure 3, right): PermutedMNIST with FC 1024-1024. The text gives s = 500; Table 9 prints the same rows as s = 200."""

from supsup_methods.batch_ensemble import BatchESettings
from supsup_methods.psp import PspSettings
from supsup_methods.recipes.permuted import FC, given, supsup
from supsup_methods.upper_bound import UpperBoundSettings

TABLE4 = (
    supsup("table4-supsup-h", FC, 500, "H"),
    supsup("table4-supsup-g", FC, 500, "G"),
    given("table4-psp", FC, PspSettings()),
    given("table4-batche", FC, BatchESettings()),
    given("table4-upper-bound", FC, UpperBoundSettings()),
)

"""Table 8 (Figure 6, left): how many outputs SupSup needs, PermutedMNIST with LeNet 300-100, between the bounds."""

from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.recipes.permuted import LENET, given, supsup
from supsup_methods.upper_bound import UpperBoundSettings

TABLE8 = (
    supsup("table8-supsup-s200-h", LENET, 200, "H"),
    supsup("table8-supsup-s200-g", LENET, 200, "G"),
    supsup("table8-supsup-s100-h", LENET, 100, "H"),
    supsup("table8-supsup-s100-g", LENET, 100, "G"),
    supsup("table8-supsup-s25-h", LENET, 25, "H"),
    supsup("table8-supsup-s25-g", LENET, 25, "G"),
    given("table8-lower-bound", LENET, LowerBoundSettings(heads="shared")),
    given("table8-upper-bound", LENET, UpperBoundSettings()),
)

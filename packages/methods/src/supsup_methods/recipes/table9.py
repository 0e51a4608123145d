"""Table 9 (Figure 6, right): how many outputs SupSup needs, PermutedMNIST with FC 1024-1024, between the bounds."""

from supsup_methods.lower_bound import LowerBoundSettings
from supsup_methods.recipes.permuted import FC, given, supsup
from supsup_methods.upper_bound import UpperBoundSettings

TABLE9 = (
    supsup("table9-supsup-s200-h", FC, 200, "H"),
    supsup("table9-supsup-s200-g", FC, 200, "G"),
    supsup("table9-supsup-s100-h", FC, 100, "H"),
    supsup("table9-supsup-s100-g", FC, 100, "G"),
    supsup("table9-supsup-s25-h", FC, 25, "H"),
    supsup("table9-supsup-s25-g", FC, 25, "G"),
    given("table9-lower-bound", FC, LowerBoundSettings(heads="shared")),
    given("table9-upper-bound", FC, UpperBoundSettings()),
)
